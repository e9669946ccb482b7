package netstack

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"

	"martlet/tun"
)

// cut makes complete packets of what the stack left to others: it cuts a super-packet apart
// and finishes a partial checksum, as the path to the peer does. The packets are appended to
// out, and lie in memory of their own.
func cut(out [][]byte, f tun.Frame) [][]byte {
	packet, o := f.Pieces[0], f.Offload
	if o.GSO == tun.GSONone {
		b := append([]byte(nil), packet...)
		if o.Partial {
			binary.BigEndian.PutUint16(b[o.Start+o.Offset:], ^checksum.Checksum(b[o.Start:], 0))
		}
		return append(out, b)
	}
	const protocol, addresses4, addresses6 = 6, 12, 8
	payload := packet[o.Header:]
	for at := 0; at < len(payload); at += o.Segment {
		end := min(at+o.Segment, len(payload))
		b := append(append(make([]byte, 0, o.Header+o.Segment), packet[:o.Header]...), payload[at:end]...)
		addresses := b[addresses6:40]
		if b[0]>>4 == 4 {
			addresses = b[addresses4:20]
			binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
			binary.BigEndian.PutUint16(b[4:], binary.BigEndian.Uint16(b[4:])+uint16(at/o.Segment))
			binary.BigEndian.PutUint16(b[10:], 0)
			binary.BigEndian.PutUint16(b[10:], ^checksum.Checksum(b[:o.Start], 0))
		} else {
			binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
		}
		tcp := b[o.Start:]
		binary.BigEndian.PutUint32(tcp[4:], binary.BigEndian.Uint32(tcp[4:])+uint32(at))
		if end < len(payload) {
			tcp[13] &^= 0x09 // FIN and PSH are of the last
		}
		binary.BigEndian.PutUint16(tcp[o.Offset:], 0)
		sum := checksum.Combine(checksum.Checksum(addresses, protocol), uint16(len(tcp)))
		binary.BigEndian.PutUint16(tcp[o.Offset:], ^checksum.Checksum(tcp, sum))
		out = append(out, b)
	}
	return out
}

// cutting stands between two stacks, and hands each packet over alone.
func cutting(b *testing.B, from, to *Stack) {
	frames := make([]tun.Frame, from.Batch())
	var single []tun.Frame
	var packets [][]byte
	for {
		n, err := from.Read(frames)
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				b.Errorf("read: %v", err)
			}
			return
		}
		packets, single = packets[:0], single[:0]
		for _, f := range frames[:n] {
			packets = cut(packets, f)
		}
		for i := range packets {
			single = append(single, tun.Frame{Pieces: packets[i : i+1]})
		}
		if _, err := to.Write(single); err != nil && !errors.Is(err, os.ErrClosed) {
			b.Errorf("write: %v", err)
		}
	}
}

// whole stands between two stacks, and hands super-packets over as they are.
func whole(b *testing.B, from, to *Stack) {
	frames := make([]tun.Frame, from.Batch())
	for {
		n, err := from.Read(frames)
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				b.Errorf("read: %v", err)
			}
			return
		}
		if _, err := to.Write(frames[:n]); err != nil && !errors.Is(err, os.ErrClosed) {
			b.Errorf("write: %v", err)
		}
	}
}

// rounds moves octets through one connection in each round, in writes of some size, and
// waits for an answer that they came.
func rounds(b *testing.B, client, server *Stack, octets, write int, upload bool) {
	send := func(c net.Conn) error {
		buf := make([]byte, write)
		for n := 0; n < octets; n += write {
			if _, err := c.Write(buf); err != nil {
				return err
			}
		}
		_, err := io.ReadFull(c, buf[:1])
		return err
	}
	receive := func(c net.Conn) error {
		buf := make([]byte, 64<<10)
		for n := 0; n < octets; {
			got, err := c.Read(buf)
			if err != nil {
				return err
			}
			n += got
		}
		_, err := c.Write(buf[:1])
		return err
	}
	here, there := receive, send
	if upload {
		here, there = send, receive
	}
	at := listen(b, server, "10.9.0.1:0", func(c net.Conn) {
		for there(c) == nil {
		}
	})
	c := dial(b, client, "tcp", at.String())
	b.SetBytes(int64(octets))
	for b.Loop() {
		if err := here(c); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmark(b *testing.B, write int, upload bool) {
	for _, way := range []struct {
		name    string
		between func(*testing.B, *Stack, *Stack)
	}{{"whole", whole}, {"packets", cutting}} {
		b.Run(way.name, func(b *testing.B) {
			carry := func(from, to *Stack) { way.between(b, from, to) }
			client, server := joined(b, carry, carry)
			rounds(b, client, server, 16<<20, write, upload)
		})
	}
}

// The server sends what it has in memory.
func BenchmarkDownload(b *testing.B) { benchmark(b, 256<<10, false) }

// The client copies from somewhere, in the pieces of io.Copy.
func BenchmarkUpload(b *testing.B) { benchmark(b, 32<<10, true) }

// Small datagrams that leave the stack, one at a time.
func BenchmarkDatagrams(b *testing.B) {
	s := host(b, Options{}, clientAddrs)
	c := dial(b, s, "udp", "10.9.0.1:9")
	var wg sync.WaitGroup
	wg.Go(func() {
		for datagram := make([]byte, 64); ; {
			if _, err := c.Write(datagram); err != nil {
				return
			}
		}
	})
	frames := make([]tun.Frame, s.Batch())
	for n := 0; b.Loop(); {
		if n == 0 {
			var err error
			if n, err = s.Read(frames); err != nil {
				b.Fatal(err)
			}
		}
		n--
	}
	s.Close()
	wg.Wait()
}
