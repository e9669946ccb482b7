package udpencap

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// pipe is a connection between two addresses.
func pipe(local, remote string) (ours, theirs net.Conn) {
	a, b := net.Pipe()
	l, r := netip.MustParseAddrPort(local), netip.MustParseAddrPort(remote)
	return &ended{a, l, r}, &ended{b, r, l}
}

// ended is a connection with addresses.
type ended struct {
	net.Conn
	local, remote netip.AddrPort
}

func (e *ended) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(e.local) }
func (e *ended) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(e.remote) }

const gatewayAt = "192.0.2.1:4500"

// accepted gives s a stream from a peer, and returns the peer's end.
func accepted(t *testing.T, s *Streams, from string) net.Conn {
	t.Helper()
	ours, theirs := pipe(gatewayAt, from)
	if !s.admit(newStream(ours, false)) {
		ours.Close()
	}
	return theirs
}

// held counts what a socket holds.
func held(s *Streams) (strangers, all int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.strangers + len(s.sources), s.accepted + len(s.of)
}

// isClosed tells whether the other end has closed the connection, now that all are idle.
func isClosed(c net.Conn) bool {
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := c.Read(make([]byte, 1))
	return errors.Is(err, io.EOF)
}

func put(t *testing.T, c net.Conn, b string) {
	t.Helper()
	c.SetWriteDeadline(time.Now().Add(time.Second))
	if _, err := io.WriteString(c, b); err != nil {
		t.Fatal(err)
	}
}

func TestStreamsEndStrangers(t *testing.T) {
	const whole = "\x00\x0a\x00\x00\x00\x00abcd"
	for _, test := range []struct {
		name   string
		send   []string // a second apart
		within time.Duration
	}{
		{"says nothing", nil, prefixWithin},
		{"speaks HTTP", []string{"GET /"}, 0},
		{"half a prefix", []string{"IKE"}, prefixWithin},
		{"the prefix, octet by octet, and then rubbish", []string{"I", "K", "E", "T", "C", "P", "\x00\x01"}, 0},
		{"half a message", []string{"IKETCP\x00"}, messageWithin},
		{"a message that never ends", []string{"IKETCP\xff\xff", "a", "b", "c"}, messageWithin},
		{"a message and half a message", []string{"IKETCP" + whole, whole[:5]}, messageWithin},
		{"never proves anything", []string{"IKETCP" + whole, whole, whole}, strangerWithin},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := NewStreams()
				defer s.Close()
				go discard(s)
				began := time.Now()
				c := accepted(t, s, "198.51.100.1:40000")
				defer c.Close()
				for i, b := range test.send {
					if i > 0 {
						time.Sleep(time.Second)
					}
					put(t, c, b)
				}
				synctest.Wait()
				sent := time.Since(began)
				if test.within == 0 {
					if !isClosed(c) {
						t.Fatal("the stream stands")
					}
				} else {
					time.Sleep(test.within - sent - 2*time.Millisecond)
					synctest.Wait()
					if isClosed(c) {
						t.Fatalf("closed before %v", test.within)
					}
					time.Sleep(sent + time.Second)
					if !isClosed(c) {
						t.Fatal("the stream stands")
					}
				}
				synctest.Wait()
				if strangers, all := held(s); strangers+all != 0 {
					t.Errorf("%d strangers and %d streams are left", strangers, all)
				}
			})
		})
	}
}

func discard(s *Streams) {
	packets := make([]Packet, s.Batch())
	for {
		if _, err := s.Read(packets); err != nil {
			return
		}
	}
}

// Who holds a stream keeps it for as long as he likes; who half-frames may not.
func TestStreamsHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStreams()
		defer s.Close()
		go discard(s)
		gone := make(chan netip.AddrPort, 4)
		s.Closed = func(_, remote netip.AddrPort) { gone <- remote }
		from := netip.MustParseAddrPort("198.51.100.1:40000")
		c := accepted(t, s, from.String())
		defer c.Close()
		put(t, c, "IKETCP")
		s.Hold(netip.MustParseAddrPort(gatewayAt), from)
		s.Hold(netip.MustParseAddrPort(gatewayAt), from)
		s.Release(netip.MustParseAddrPort(gatewayAt), from)
		if strangers, _ := held(s); strangers != 0 {
			t.Error("still a stranger")
		}
		time.Sleep(24 * time.Hour)
		put(t, c, "\x00\x03\xff")
		synctest.Wait()
		if isClosed(c) {
			t.Fatal("the stream was closed")
		}
		s.Release(netip.MustParseAddrPort(gatewayAt), from)
		time.Sleep(unusedWithin - 2*time.Millisecond)
		if isClosed(c) {
			t.Fatal("closed before its time")
		}
		time.Sleep(time.Second)
		if !isClosed(c) {
			t.Fatal("the stream stands")
		}
		synctest.Wait()
		if len(gone) != 0 {
			t.Error("Closed was called for a stream that the peer opened")
		}
	})
}

func TestStreamsLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStreams()
		s.MaxStreams, s.MaxStrangers, s.MaxSource = 6, 4, 2
		defer s.Close()
		go discard(s)
		open := func(from string) bool {
			c := accepted(t, s, from)
			t.Cleanup(func() { c.Close() })
			synctest.Wait()
			return !isClosed(c)
		}
		hold := func(from string) { s.Hold(netip.MustParseAddrPort(gatewayAt), netip.MustParseAddrPort(from)) }
		for i, step := range []struct {
			from string
			want bool
		}{
			{"198.51.100.1:1", true},
			{"198.51.100.1:2", true},
			{"198.51.100.1:3", false}, // of one source
			{"[2001:db8::1]:1", true},
			{"[2001:db8::2]:1", true},
			{"198.51.100.2:1", false}, // of all strangers
		} {
			if got := open(step.from); got != step.want {
				t.Fatalf("step %d: %s is taken: %v", i, step.from, got)
			}
		}
		// Who has proven who he is makes room for others behind the same address.
		hold("198.51.100.1:1")
		hold("198.51.100.1:2")
		if !open("198.51.100.1:4") || !open("198.51.100.1:5") {
			t.Fatal("no room behind an address all of whose streams are known")
		}
		hold("[2001:db8::1]:1")
		if open("198.51.100.9:1") {
			t.Fatal("more than all")
		}
	})
}

// A peer that takes nothing delays nobody: ESP is dropped, IKE is not as long as it can be
// helped, and then the stream ends.
func TestStreamsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStreams()
		defer s.Close()
		c := accepted(t, s, "198.51.100.1:1")
		defer c.Close()
		put(t, c, "IKETCP")
		p := []Packet{{
			Kind: ESP, Data: bytes.Repeat([]byte{7}, 1400),
			Local: netip.MustParseAddrPort(gatewayAt), Remote: netip.MustParseAddrPort("198.51.100.1:1"),
		}}
		sent := 0
		for ; ; sent++ {
			if _, err := s.Write(p); err != nil {
				if !errors.Is(err, errFull) {
					t.Fatal(err)
				}
				break
			}
			if sent == 0 {
				synctest.Wait() // the first is on its way to the peer
			}
			if sent*1402 > 2*maxWaiting {
				t.Fatal("the queue has no bound")
			}
		}
		ike := []Packet{{Kind: IKE, Data: []byte("a message"), Local: p[0].Local, Remote: p[0].Remote}}
		if n, err := s.Write(ike); n != 1 || err != nil {
			t.Fatalf("IKE was dropped: %d, %v", n, err)
		}
		if isClosed(c) {
			t.Fatal("the stream ended")
		}
		ike[0].Data = make([]byte, 60000)
		for range 10 {
			s.Write(ike)
		}
		synctest.Wait()
		if _, all := held(s); all != 0 {
			t.Error("the stream stands though it takes no IKE")
		}
		if _, err := s.Write(p); !errors.Is(err, errNoStream) {
			t.Errorf("a write to what is gone: %v", err)
		}
	})
}

// A burst pins no memory once it is sent, and what follows finds a buffer.
func TestStreamsShrink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStreams()
		defer s.Close()
		const from = "198.51.100.1:1"
		c := accepted(t, s, from)
		defer c.Close()
		put(t, c, streamPrefix)
		local, remote := netip.MustParseAddrPort(gatewayAt), netip.MustParseAddrPort(from)
		st := s.of[streamID{local, remote}]
		sizes := func() (waiting, spare int) {
			st.mu.Lock()
			defer st.mu.Unlock()
			return cap(st.waiting), cap(st.spare)
		}
		write := func(octets int) {
			t.Helper()
			if _, err := s.Write([]Packet{{Kind: ESP, Data: make([]byte, octets), Local: local, Remote: remote}}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		write(2*keptBuffer - 100)
		write(2*keptBuffer - 100) // behind what the peer does not take
		if waiting, spare := sizes(); waiting <= keptBuffer || spare <= keptBuffer {
			t.Fatalf("buffers of %d and %d octets are no burst", waiting, spare)
		}
		go io.Copy(io.Discard, c)
		synctest.Wait()
		if waiting, spare := sizes(); waiting > keptBuffer || spare > keptBuffer {
			t.Errorf("buffers of %d and %d octets are kept", waiting, spare)
		}
		for range 2 {
			write(1400)
		}
		if waiting, spare := sizes(); waiting == 0 || spare == 0 {
			t.Errorf("buffers of %d and %d octets are left for what follows", waiting, spare)
		}
	})
}

// TestStreamsSegments: packets that are sent together are a message each.
func TestStreamsSegments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStreams()
		defer s.Close()
		const from = "198.51.100.1:40000"
		c := accepted(t, s, from)
		defer c.Close()
		go discard(s)
		put(t, c, streamPrefix)
		synctest.Wait()
		data := []byte("\x01\x01\x01\x01aaaaaa\x02\x02\x02\x02bbbbbb\x03\x03\x03\x03cccc")
		p := Packet{Kind: ESP, Data: data, Segment: 10, Local: netip.MustParseAddrPort(gatewayAt), Remote: netip.MustParseAddrPort(from)}
		if n, err := s.Write([]Packet{p}); n != 1 || err != nil {
			t.Fatalf("sent %d: %v", n, err)
		}
		var want []byte
		for part := range p.Datagrams() {
			want = appendFrame(want, &Packet{Kind: ESP, Data: part})
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%x, %v; want %x", got, err, want)
		}
		if c := s.Counters(); c.Sent != 3 {
			t.Errorf("%+v", c)
		}
	})
}

// A peer that stops to read is given up.
func TestStreamsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStreams()
		defer s.Close()
		c := accepted(t, s, "198.51.100.1:1")
		defer c.Close()
		put(t, c, "IKETCP")
		local, remote := netip.MustParseAddrPort(gatewayAt), netip.MustParseAddrPort("198.51.100.1:1")
		s.Hold(local, remote)
		s.Write([]Packet{{Kind: IKE, Data: []byte("x"), Local: local, Remote: remote}})
		time.Sleep(writeWithin + time.Second)
		synctest.Wait()
		if _, all := held(s); all != 0 {
			t.Error("the stream stands")
		}
	})
}

// Both kinds of streams over the system's TCP, long messages and short, and what waits
// is sent before the end.
func TestStreamsLoopback(t *testing.T) {
	gateway, client := NewStreams(), NewStreams()
	defer gateway.Close()
	defer client.Close()
	gone := make(chan netip.AddrPort, 4)
	client.Closed = func(local, _ netip.AddrPort) { gone <- local }
	at, err := gateway.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	local, err := client.Dial(t.Context(), netip.MustParseAddr("127.0.0.1"), at)
	if err != nil {
		t.Fatal(err)
	}
	var want [][]byte
	for i := range 200 {
		want = append(want, bytes.Repeat([]byte{byte(i + 1)}, 8+(i*i*37)%9000))
	}
	want = append(want, bytes.Repeat([]byte{9}, maxFrame-lengthLen-markerLen))
	read := func(s *Streams, from, to netip.AddrPort, want [][]byte) {
		t.Helper()
		packets := make([]Packet, 16)
		for len(want) > 0 {
			n, err := s.Read(packets)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range packets[:n] {
				if !bytes.Equal(p.Data, want[0]) || p.Local != to || p.Remote != from {
					t.Fatalf("%d octets from %v to %v, want %d from %v to %v", len(p.Data), p.Remote, p.Local, len(want[0]), from, to)
				}
				want = want[1:]
			}
		}
	}
	write := func(s *Streams, local, remote netip.AddrPort) {
		for i, b := range want {
			p := []Packet{{Kind: Kind(i % 2), Data: b, Local: local, Remote: remote}}
			for { // the reader is slower
				if _, err := s.Write(p); !errors.Is(err, errFull) {
					break
				}
			}
		}
	}
	go write(client, local, at)
	read(gateway, local, at, want)
	go write(gateway, at, local)
	read(client, at, local, want)
	if _, err := client.Write([]Packet{{Kind: ESP, Data: make([]byte, maxFrame), Local: local, Remote: at}}); !errors.Is(err, errTooLong) {
		t.Errorf("a message that is too long: %v", err)
	}
	client.Write([]Packet{{Kind: IKE, Data: []byte("goodbye"), Local: local, Remote: at}})
	client.Close()
	if len(gone) != 1 || <-gone != local {
		t.Error("Closed was not called, or not once")
	}
	read(gateway, local, at, [][]byte{[]byte("goodbye")})
}

// Nothing is allocated for packets, in either direction.
func TestStreamsAllocations(t *testing.T) {
	p := Packet{Kind: ESP, Data: bytes.Repeat([]byte{7}, 1400)}
	st := &stream{wake: make(chan struct{}, 1), conn: &net.TCPConn{}}
	round := func() {
		for range 16 {
			if err := st.queue(&p); err != nil {
				t.Fatal(err)
			}
		}
		st.next()
		st.sent()
	}
	round()
	round()
	if n := testing.AllocsPerRun(100, round); n > 0 {
		t.Errorf("queueing 16 packets: %v allocations", n)
	}
	var b []byte
	for range 16 {
		b = appendFrame(b, &p)
	}
	packets := make([]Packet, 16)
	in := &stream{buf: b}
	if n := testing.AllocsPerRun(100, func() {
		in.start, in.stop = 0, len(b)
		if n, _ := in.take(packets); n != 16 {
			t.Fatalf("%d packets", n)
		}
	}); n > 0 {
		t.Errorf("taking 16 packets: %v allocations", n)
	}
}
