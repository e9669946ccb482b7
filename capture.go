package martlet

import (
	"encoding/binary"
	"io"
	"net/netip"
	"sync"
	"time"

	"martlet/esp/udpencap"
	"martlet/tun"
)

// Capture writes the outer packets of a Node, IKE and ESP in UDP, as a pcap file
// of raw IP packets. IP and UDP headers are made up from the addresses, since
// sockets do not show them.
type Capture struct {
	only *captureFilter // nil: everything

	mu  sync.Mutex
	w   io.Writer
	err error
	buf []byte
}

const (
	pcapMagicNanos = 0xa1b23c4d
	linkTypeRaw    = 101
	snapLen        = 65535 + 48
)

// NewCapture starts a pcap file. The caller closes w after the Node is closed.
func NewCapture(w io.Writer) (*Capture, error) {
	c := startCapture(w)
	if c.err != nil {
		return nil, c.err
	}
	return c, nil
}

func startCapture(w io.Writer) *Capture {
	h := binary.LittleEndian.AppendUint32(nil, pcapMagicNanos)
	h = binary.LittleEndian.AppendUint16(h, 2)
	h = binary.LittleEndian.AppendUint16(h, 4)
	h = append(h, make([]byte, 8)...)
	h = binary.LittleEndian.AppendUint32(h, snapLen)
	h = binary.LittleEndian.AppendUint32(h, linkTypeRaw)
	_, err := w.Write(h)
	return &Capture{w: w, err: err}
}

// Err is the first error of writing; what came after it is not in the file.
func (c *Capture) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// packet writes the datagrams of p.
func (c *Capture) packet(from, to netip.AddrPort, p *udpencap.Packet, encap bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case p.Kind == udpencap.TooBig:
	case p.Kind == udpencap.Keepalive:
		c.datagram(from, to, 0, []byte{0xff})
	case p.Kind == udpencap.IKE && encap:
		c.datagram(from, to, 4, p.Data)
	default:
		for data := range p.Datagrams() {
			c.datagram(from, to, 0, data)
		}
	}
}

// frame writes an inner packet, or a super-packet as one.
func (c *Capture) frame(f *tun.Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begin()
	for _, piece := range f.Pieces {
		c.buf = append(c.buf, piece...)
	}
	c.end()
}

// datagram writes one, behind marker zero octets. It wants mu.
func (c *Capture) datagram(from, to netip.AddrPort, marker int, payload []byte) {
	c.begin()
	c.buf = appendUDP(c.buf, from, to, marker, payload)
	c.end()
}

// recordHead is the length of what stands before each packet of a file.
const recordHead = 16

// begin makes buf a record without its packet. It wants mu.
func (c *Capture) begin() {
	now := time.Now()
	c.buf = binary.LittleEndian.AppendUint32(c.buf[:0], uint32(now.Unix()))
	c.buf = binary.LittleEndian.AppendUint32(c.buf, uint32(now.Nanosecond()))
	c.buf = append(c.buf, make([]byte, 8)...) // both lengths, by end
}

// end writes the record in buf, all of it at once. It wants mu.
func (c *Capture) end() {
	if c.err != nil {
		return
	}
	length := len(c.buf) - recordHead
	c.buf = c.buf[:recordHead+min(length, snapLen)]
	binary.LittleEndian.PutUint32(c.buf[8:], uint32(len(c.buf)-recordHead))
	binary.LittleEndian.PutUint32(c.buf[12:], uint32(length))
	_, c.err = c.w.Write(c.buf)
}

// appendUDP appends a whole IP packet with a UDP datagram of marker zero octets and a
// payload.
func appendUDP(b []byte, from, to netip.AddrPort, marker int, payload []byte) []byte {
	src, dst := from.Addr().Unmap(), to.Addr().Unmap()
	length := 8 + marker + len(payload)
	pseudo := uint32(length) + 17
	if dst.Is4() {
		if !src.Is4() {
			src = netip.IPv4Unspecified()
		}
		ip := len(b)
		b = append(b, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(20+length))
		b = append(b, 0, 0, 0, 0, 64, 17, 0, 0)
		b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
		binary.BigEndian.PutUint16(b[ip+10:], ^fold(sum(0, b[ip:])))
		pseudo = sum(pseudo, b[ip+12:ip+20])
	} else {
		if src.Is4() {
			src = netip.IPv6Unspecified()
		}
		ip := len(b)
		b = append(b, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(length))
		b = append(b, 17, 64)
		b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
		pseudo = sum(pseudo, b[ip+8:ip+40])
	}
	udp := len(b)
	b = binary.BigEndian.AppendUint16(b, from.Port())
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	b = append(b, 0, 0)
	b = append(b, make([]byte, marker)...)
	b = append(b, payload...)
	check := ^fold(sum(pseudo, b[udp:]))
	if check == 0 {
		check = 0xffff
	}
	binary.BigEndian.PutUint16(b[udp+6:], check)
	return b
}

// sum adds 16-bit words to an Internet checksum (RFC 1071).
func sum(s uint32, b []byte) uint32 {
	for ; len(b) > 1; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
		s = s&0xffff + s>>16
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	s = s&0xffff + s>>16
	return uint16(s&0xffff + s>>16)
}
