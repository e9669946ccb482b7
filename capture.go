package martlet

import (
	"encoding/binary"
	"io"
	"net/netip"
	"sync"
	"time"

	"martlet/esp/udpencap"
)

// Capture writes the outer packets of a Node, IKE and ESP in UDP, as a pcap file
// of raw IP packets. IP and UDP headers are made up from the addresses, since
// sockets do not show them.
type Capture struct {
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
	h := binary.LittleEndian.AppendUint32(nil, pcapMagicNanos)
	h = binary.LittleEndian.AppendUint16(h, 2)
	h = binary.LittleEndian.AppendUint16(h, 4)
	h = append(h, make([]byte, 8)...)
	h = binary.LittleEndian.AppendUint32(h, snapLen)
	h = binary.LittleEndian.AppendUint32(h, linkTypeRaw)
	if _, err := w.Write(h); err != nil {
		return nil, err
	}
	return &Capture{w: w}, nil
}

// Err is the first error of writing; what came after it is not in the file.
func (c *Capture) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// tap returns a socket whose packets are captured; on a nil Capture the socket itself.
func (c *Capture) tap(s udpencap.Socket) udpencap.Socket {
	if c == nil {
		return s
	}
	return &tapped{Socket: s, to: c}
}

type tapped struct {
	udpencap.Socket
	to *Capture
}

func (t *tapped) Read(packets []udpencap.Packet) (int, error) {
	n, err := t.Socket.Read(packets)
	for _, p := range packets[:n] {
		t.to.packet(p.Remote, p.Local, p, t.Encap())
	}
	return n, err
}

func (t *tapped) Write(packets []udpencap.Packet) (int, error) {
	n, err := t.Socket.Write(packets)
	for _, p := range packets[:n] {
		local := p.Local
		if !local.IsValid() {
			local = t.LocalAddr()
		}
		t.to.packet(local, p.Remote, p, t.Encap())
	}
	return n, err
}

// Counters passes on what the socket counted, if it counts.
func (t *tapped) Counters() udpencap.Counters {
	if c, ok := t.Socket.(interface{ Counters() udpencap.Counters }); ok {
		return c.Counters()
	}
	return udpencap.Counters{}
}

func (c *Capture) packet(from, to netip.AddrPort, p udpencap.Packet, encap bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	payload := p.Data
	marker := 0
	switch {
	case p.Kind == udpencap.Keepalive:
		payload = []byte{0xff}
	case p.Kind == udpencap.IKE && encap:
		marker = 4
	}
	b := c.buf[:0]
	now := time.Now()
	b = binary.LittleEndian.AppendUint32(b, uint32(now.Unix()))
	b = binary.LittleEndian.AppendUint32(b, uint32(now.Nanosecond()))
	b = append(b, make([]byte, 8)...) // both lengths, below
	start := len(b)
	b = appendUDP(b, from, to, marker, payload)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(b)-start))
	binary.LittleEndian.PutUint32(b[12:], uint32(len(b)-start))
	c.buf = b
	_, c.err = c.w.Write(b)
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
