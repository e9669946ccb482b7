package esp

import (
	"bytes"
	"encoding/binary"

	"martlet/tun"
)

// coalescer joins packets of one flow that follow each other to super-packets, so that the host
// works once for all of them. It joins only what the host's own segmentation would make again out
// of the result, and only packets whose checksums are right: these are not computed again. (The
// identification of IPv4 packets that nobody may fragment means nothing, RFC 6864 §4.1, and is not
// kept.) It belongs to one goroutine, and copies nothing.
type coalescer struct {
	takes  [tun.GSOUDP + 1]bool // kinds of super-packets
	frames []tun.Frame          // to the host; complete after finish
	owners []owner              // of frames, one each
	joints [maxJoints]joint     // of the flows at hand, the newest at the end
	n      int                  // of joints
}

const (
	// maxJoints is the flows that are joined at a time.
	maxJoints = 8
	// maxJoined bounds a super-packet of TCP: pieces of one write.
	maxJoined = 512
	// maxJoinedUDP is what Linux takes of datagrams (UDP_MAX_SEGMENTS, 64 before 6.10).
	maxJoinedUDP = 64
	// maxFrames is the frames that are kept until they are written.
	maxFrames = 256
)

// joint is a frame that further packets may join.
type joint struct {
	key     flowKey
	frame   int    // index in frames
	head    []byte // of the first packet: its headers
	ip      int    // octets of the IP header
	kind    tun.GSO
	segment int // octets of payload of the first packet
	payload int // of all
	packets int
	push    bool // the last packet had PSH
}

// flowKey tells flows apart.
type flowKey struct {
	src, dst [16]byte
	ports    uint32
	protocol uint8
	is6      bool
}

func newCoalescer(takes func(tun.GSO) bool) coalescer {
	c := coalescer{
		frames: make([]tun.Frame, 0, maxFrames),
		owners: make([]owner, 0, maxFrames),
	}
	for kind := range c.takes {
		c.takes[kind] = takes(tun.GSO(kind))
	}
	return c
}

// full tells whether add needs a write first.
func (c *coalescer) full() bool { return len(c.frames) == cap(c.frames) }

// several tells whether there is more than one packet.
func (c *coalescer) several() bool {
	return len(c.owners) > 1 || len(c.owners) == 1 && c.owners[0].packets > 1
}

// add takes an inner packet, of which parse made f and whose memory stays until reset. There is
// room.
func (c *coalescer) add(ch *child, pkt []byte, f *Flow) {
	var p joint
	if !c.candidate(&p, pkt, f) {
		c.forget(f)
		c.append(ch, pkt)
		return
	}
	for i := c.n - 1; i >= 0; i-- {
		j := &c.joints[i]
		if j.key != p.key {
			continue
		}
		if owner := &c.owners[j.frame]; owner.child == ch && j.takes(&p, pkt) {
			frame := &c.frames[j.frame]
			frame.Pieces = append(frame.Pieces, pkt[len(p.head):])
			owner.packets++
			owner.bytes += len(pkt)
			if j.join(&p) {
				c.end(i)
			}
			return
		}
		c.end(i) // this flow goes on in another frame
		break
	}
	p.frame = len(c.frames)
	c.append(ch, pkt)
	if p.push {
		return
	}
	if c.n == maxJoints {
		c.end(0)
	}
	c.joints[c.n] = p
	c.n++
}

// append adds a frame of one packet.
func (c *coalescer) append(ch *child, pkt []byte) {
	n := len(c.frames)
	c.frames = c.frames[:n+1]
	f := &c.frames[n]
	f.Offload = tun.Offload{}
	f.Pieces = append(f.Pieces[:0], pkt)
	c.owners = append(c.owners, owner{ch, 1, len(pkt)})
}

// forget ends the joints between two hosts: a packet of them that cannot be joined comes now, and
// what follows must not go before it.
func (c *coalescer) forget(f *Flow) {
	if c.n == 0 {
		return
	}
	src, dst := f.Src.As16(), f.Dst.As16()
	for i := c.n - 1; i >= 0; i-- {
		if j := &c.joints[i]; j.key.src == src && j.key.dst == dst {
			c.end(i)
		}
	}
}

// end completes the super-packet of a joint, which goes.
func (c *coalescer) end(i int) {
	if j := &c.joints[i]; j.packets > 1 {
		j.complete(&c.frames[j.frame])
	}
	copy(c.joints[i:c.n], c.joints[i+1:c.n])
	c.n--
}

// finish completes all frames.
func (c *coalescer) finish() {
	for c.n > 0 {
		c.end(c.n - 1)
	}
}

// reset begins anew.
func (c *coalescer) reset() {
	c.frames, c.owners, c.n = c.frames[:0], c.owners[:0], 0
}

// candidate fills p from a packet that may be part of a super-packet, and reports false for all
// others: other protocols, options and extensions of IP, fragments, control flags of TCP, no
// payload, wrong checksums.
func (c *coalescer) candidate(p *joint, pkt []byte, f *Flow) bool {
	p.ip, p.key.is6 = 20, pkt[0]>>4 == 6
	if p.key.is6 {
		p.ip = 40
		if pkt[6] != f.Protocol {
			return false
		}
	} else if pkt[0] != 0x45 || binary.BigEndian.Uint16(pkt[6:])&^flagDF != 0 || fold(sumOf(pkt[:20], 0)) != 0xffff {
		return false
	}
	var header int
	transport := pkt[p.ip:]
	switch f.Protocol {
	case protoTCP:
		if p.kind = tun.GSOTCPv4; p.key.is6 {
			p.kind = tun.GSOTCPv6
		}
		if !c.takes[p.kind] || len(transport) < 20 {
			return false
		}
		header = int(transport[tcpOffset]>>4) * 4
		flags := transport[tcpFlags]
		if header < 20 || flags&^flagPSH != flagACK {
			return false
		}
		p.push = flags&flagPSH != 0
	case protoUDP:
		if p.kind = tun.GSOUDP; !c.takes[p.kind] {
			return false
		}
		if header = udpHeaderLen; len(transport) < header || int(binary.BigEndian.Uint16(transport[udpLength:])) != len(transport) || binary.BigEndian.Uint16(transport[udpChecksum:]) == 0 {
			return false
		}
	default:
		return false
	}
	if len(transport) <= header || !transportValid(pkt, p.ip, f.Protocol) {
		return false
	}
	p.key.src, p.key.dst = f.Src.As16(), f.Dst.As16()
	p.key.ports = uint32(f.SrcPort)<<16 | uint32(f.DstPort)
	p.key.protocol = f.Protocol
	p.head = pkt[:p.ip+header]
	p.segment = len(transport) - header
	p.payload, p.packets = p.segment, 1
	return true
}

const flagDF = 0x4000 // RFC 791 §3.1, with the fragment offset

// takes tells whether packet p, a candidate of the same flow, is the next of the super-packet.
func (j *joint) takes(p *joint, pkt []byte) bool {
	most := maxJoined
	if j.kind == tun.GSOUDP {
		most = maxJoinedUDP
	}
	if p.segment > j.segment || len(p.head) != len(j.head) || j.packets == most ||
		len(j.head)+j.payload+p.segment > tun.MaxMTU {
		return false
	}
	head := j.head
	if j.key.is6 {
		// Version, traffic class, flow label, and hop limit.
		if [4]byte(head) != [4]byte(pkt) || head[7] != pkt[7] {
			return false
		}
	} else {
		// Type of service, don't fragment, and time to live.
		if head[1] != pkt[1] || head[6] != pkt[6] || head[8] != pkt[8] {
			return false
		}
		id := binary.BigEndian.Uint16(head[4:]) + uint16(j.packets)
		if head[6] == 0 && id != binary.BigEndian.Uint16(pkt[4:]) {
			return false
		}
	}
	if j.kind == tun.GSOUDP {
		return true
	}
	first, next := head[j.ip:], p.head[p.ip:]
	return binary.BigEndian.Uint32(first[tcpSequence:])+uint32(j.payload) == binary.BigEndian.Uint32(next[tcpSequence:]) &&
		// Acknowledgement, reserved bits; and behind the flags: window, urgent pointer, options.
		[5]byte(first[8:]) == [5]byte(next[8:]) &&
		[2]byte(first[14:]) == [2]byte(next[14:]) &&
		[2]byte(first[18:]) == [2]byte(next[18:]) &&
		bytes.Equal(first[20:], next[20:])
}

// join adds packet p, which takes has let through, and tells whether it is the last: it is shorter,
// or was pushed.
func (j *joint) join(p *joint) bool {
	j.payload += p.segment
	j.packets++
	j.push = p.push
	return p.push || p.segment < j.segment
}

// complete writes the headers of a super-packet and what is to be done with it.
func (j *joint) complete(frame *tun.Frame) {
	pkt := j.head
	transport := pkt[j.ip:]
	length := len(transport) + j.payload
	if j.key.is6 {
		binary.BigEndian.PutUint16(pkt[4:], uint16(length))
	} else {
		binary.BigEndian.PutUint16(pkt[2:], uint16(j.ip+length))
		pkt[10], pkt[11] = 0, 0
		binary.BigEndian.PutUint16(pkt[10:], ^fold(sumOf(pkt[:20], 0)))
	}
	offset := tcpChecksum
	if j.kind == tun.GSOUDP {
		offset = udpChecksum
		binary.BigEndian.PutUint16(transport[udpLength:], uint16(length))
	} else if j.push {
		transport[tcpFlags] |= flagPSH
	}
	binary.BigEndian.PutUint16(transport[offset:], fold(pseudoSum(pkt, j.key.protocol, length)))
	frame.Offload = tun.Offload{
		GSO:     j.kind,
		Header:  len(pkt),
		Segment: j.segment,
		Partial: true,
		Start:   j.ip,
		Offset:  offset,
	}
}
