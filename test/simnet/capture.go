package simnet

import (
	"encoding/binary"
	"io"
	"net/netip"
	"time"
)

const (
	pcapNanosecond = 0xa1b23c4d
	linkTypeRaw    = 101 // packets begin with their IP header
	udpHeaderLen   = 8
	protocolUDP    = 17
)

type capture struct {
	w   io.Writer
	err error
}

// Capture writes every datagram that is sent from now on as a pcap file, as it
// leaves its host. The function that it returns ends the capture and gives the first
// error of writing.
func (n *Net) Capture(w io.Writer) (stop func() error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := &capture{w: w}
	h := binary.LittleEndian.AppendUint32(nil, pcapNanosecond)
	h = binary.LittleEndian.AppendUint16(h, 2) // version 2.4
	h = binary.LittleEndian.AppendUint16(h, 4)
	h = append(h, make([]byte, 8)...)
	h = binary.LittleEndian.AppendUint32(h, 1<<18)
	h = binary.LittleEndian.AppendUint32(h, linkTypeRaw)
	_, c.err = w.Write(h)
	n.captures = append(n.captures, c)
	return func() error {
		n.mu.Lock()
		defer n.mu.Unlock()
		for i, o := range n.captures {
			if o == c {
				n.captures = append(n.captures[:i:i], n.captures[i+1:]...)
				break
			}
		}
		return c.err
	}
}

func (c *capture) write(at time.Time, d Datagram) {
	if c.err != nil {
		return
	}
	pkt := appendPacket(nil, d)
	b := binary.LittleEndian.AppendUint32(nil, uint32(at.Unix()))
	b = binary.LittleEndian.AppendUint32(b, uint32(at.Nanosecond()))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(pkt)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(pkt)))
	_, c.err = c.w.Write(append(b, pkt...))
}

// packetLen is the length of the datagram's IP packet in octets.
func packetLen(d Datagram) int {
	if d.To.Addr().Is4() {
		return 20 + udpHeaderLen + len(d.Data)
	}
	return 40 + udpHeaderLen + len(d.Data)
}

// appendPacket appends the IP packet of a datagram, with its checksums.
func appendPacket(b []byte, d Datagram) []byte {
	start := len(b)
	udpLen := udpHeaderLen + len(d.Data)
	if d.To.Addr().Is4() {
		b = append(b, 0x45, d.ECN&3)
		b = binary.BigEndian.AppendUint16(b, uint16(20+udpLen))
		b = append(b, 0, 0, 0x40, 0, 64, protocolUDP, 0, 0) // don't fragment
		b = append(append(b, d.From.Addr().AsSlice()...), d.To.Addr().AsSlice()...)
		binary.BigEndian.PutUint16(b[start+10:], ^fold(sum(0, b[start:])))
	} else {
		b = append(b, 0x60, d.ECN&3<<4, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(udpLen))
		b = append(b, protocolUDP, 64)
		b = append(append(b, d.From.Addr().AsSlice()...), d.To.Addr().AsSlice()...)
	}
	udp := len(b)
	b = binary.BigEndian.AppendUint16(b, d.From.Port())
	b = binary.BigEndian.AppendUint16(b, d.To.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(udpLen))
	b = append(append(b, 0, 0), d.Data...)
	s := sumAddr(sumAddr(0, d.From.Addr()), d.To.Addr()) + protocolUDP + uint32(udpLen)
	check := ^fold(sum(s, b[udp:]))
	if check == 0 {
		check = 0xffff
	}
	binary.BigEndian.PutUint16(b[udp+6:], check)
	return b
}

func sumAddr(s uint32, a netip.Addr) uint32 { return sum(s, a.AsSlice()) }

// sum adds the 16-bit words of b (RFC 1071 §1).
func sum(s uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
