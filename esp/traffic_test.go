package esp

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"martlet/tun"
)

// trafficMTU is the longest packet of random traffic.
const trafficMTU = 1400

// traffic makes random packets of several flows that run at the same time, all that there
// is in one tunnel: between 10.1.0.0/16 and 10.2.0.0/16, 2001:db8:1::/48 and
// 2001:db8:2::/48. The same seed makes the same traffic.
type traffic struct {
	r     *rand.Rand
	flows []*stream
	last  int // flow of the last frame
}

// stream is one flow.
type stream struct {
	next     func(tr *traffic, s *stream) tun.Frame
	src, dst netip.Addr
	ports    [2]uint16
	head     []byte // options of IPv4 or extension headers of IPv6
	first    uint8  // IPv6: protocol number of head, or none
	tos, ttl byte
	label    uint32
	id       uint16
	ids      int // how it goes on: 0 by one, 1 never, 2 anyhow
	df       bool
	seq, ack uint32
	window   uint16
	options  int // of TCP: 0 none, 1 time stamps, 2 also SACK
	clock    uint32
	segment  int // octets in a packet, mostly
	waiting  []tun.Frame
}

// newTraffic is of packets from the host, which live on 10.1.0.0/16 and 2001:db8:1::/48,
// or, with inbound, to it.
func newTraffic(seed uint64, inbound bool) *traffic {
	tr := &traffic{r: rand.New(rand.NewPCG(seed, 0x7fa11c))}
	for range 2 + tr.r.IntN(6) {
		tr.flows = append(tr.flows, tr.newFlow(inbound))
	}
	return tr
}

func (tr *traffic) chance(n int) bool { return tr.r.IntN(n) == 0 }

func (tr *traffic) newFlow(inbound bool) *stream {
	r := tr.r
	s := &stream{
		ports:   [2]uint16{uint16(1024 + r.IntN(60000)), uint16(1 + r.IntN(60000))},
		tos:     byte(r.IntN(64)) << 2 * byte(r.IntN(2)),
		ttl:     byte(2 + r.IntN(254)),
		label:   r.Uint32() & 0xfffff,
		id:      uint16(r.Uint32()),
		ids:     [6]int{0, 0, 0, 0, 1, 2}[r.IntN(6)],
		df:      r.IntN(3) > 0,
		seq:     r.Uint32(),
		ack:     r.Uint32(),
		window:  uint16(r.Uint32()),
		options: r.IntN(3),
		segment: [...]int{1, 2, 7, 64, 99, 536, 1000, 1200, 1300}[r.IntN(9)],
	}
	s.src = netip.AddrFrom4([4]byte{10, 1, byte(r.IntN(4)), byte(1 + r.IntN(3))})
	s.dst = netip.AddrFrom4([4]byte{10, 2, byte(r.IntN(4)), byte(1 + r.IntN(3))})
	if tr.chance(2) {
		six := func(net, host int) netip.Addr { return addr(fmt.Sprintf("2001:db8:%d::%d", net, host)) }
		s.src, s.dst = six(1, 1+r.IntN(5)), six(2, 1+r.IntN(5))
	}
	if inbound {
		s.src, s.dst = s.dst, s.src
	}
	if tr.chance(4) {
		s.head, s.first = tr.extension(s.src.Is6())
	}
	if tr.chance(4) {
		s.tos |= byte(r.IntN(4)) // ECN
	}
	switch r.IntN(10) {
	case 0, 1, 2, 3:
		s.next = (*traffic).tcp
	case 4, 5, 6:
		s.next = (*traffic).udp
	case 7:
		s.next = (*traffic).icmp
	case 8:
		s.next = (*traffic).fragment
	default:
		s.next = (*traffic).other
	}
	return s
}

// extension is a router alert, for IPv6 sometimes with others behind it; its last octet of
// protocol is written by ipPacket.
func (tr *traffic) extension(is6 bool) (head []byte, first uint8) {
	if !is6 {
		return [][]byte{{0x94, 4, 0, 0}, {1, 1, 1, 1, 0x94, 4, 0, 0}, {7, 7, 4, 0, 0, 0, 0, 0}}[tr.r.IntN(3)], 0
	}
	alert, padding := []byte{0, 0, 5, 2, 0, 0, 1, 0}, []byte{0, 1, 1, 12, 15: 0}
	switch tr.r.IntN(3) {
	case 0:
		return alert, protoHopByHop
	case 1:
		return padding, protoDestOptions
	}
	alert[0] = protoDestOptions
	return append(alert, padding...), protoHopByHop
}

// ipPacket is a packet of a flow, and where its transport header begins.
func (s *stream) ipPacket(proto uint8, body []byte) (pkt []byte, l4 int) {
	if s.src.Is6() {
		if s.head != nil {
			last := 0
			for at := 0; at < len(s.head); at += 8 + int(s.head[at+1])*8 {
				last = at
			}
			s.head[last] = proto
			proto = s.first
		}
		pkt = packet(s.src, s.dst, proto, slices.Concat(s.head, body))
		binary.BigEndian.PutUint32(pkt, 6<<28|uint32(s.tos)<<20|s.label)
		pkt[7] = s.ttl
		return pkt, 40 + len(s.head)
	}
	pkt = slices.Concat(packet(s.src, s.dst, proto, nil), s.head, body)
	pkt[0] = 0x45 + byte(len(s.head)/4)
	pkt[1], pkt[8] = s.tos, s.ttl
	binary.BigEndian.PutUint16(pkt[2:], uint16(len(pkt)))
	binary.BigEndian.PutUint16(pkt[4:], s.id)
	if s.df {
		pkt[6] = 0x40
	}
	setHeaderSum(pkt)
	return pkt, 20 + len(s.head)
}

// advance counts the identification on by so many packets.
func (tr *traffic) advance(s *stream, packets int) {
	switch s.ids {
	case 0:
		s.id += uint16(packets)
	case 2:
		s.id = uint16(tr.r.Uint32())
	}
}

// payload has some octets, of which one in a while repeats what carries most.
func (tr *traffic) payload(n int) []byte {
	if tr.chance(20) {
		return slices.Repeat([]byte{0xff}, n)
	}
	return randomBytes(tr.r, n)
}

// finish is a frame of a packet with one checksum, of the pseudo header or whole.
func (tr *traffic) finish(pkt []byte, l4, offset int, proto uint8) tun.Frame {
	pkt[l4+offset], pkt[l4+offset+1] = 0, 0
	if proto != protoICMP {
		binary.BigEndian.PutUint16(pkt[l4+offset:], plainPseudo(pkt, proto, len(pkt)-l4))
	}
	f := tun.Frame{Pieces: [][]byte{pkt}}
	if tr.chance(2) && proto != protoICMP {
		f.Offload = tun.Offload{Partial: true, Start: l4, Offset: offset}
		return f
	}
	completeSum(pkt, l4, offset)
	switch tr.r.IntN(40) {
	case 0:
		pkt[l4+offset+tr.r.IntN(2)] ^= 1 << tr.r.IntN(8)
	case 1:
		pkt[len(pkt)-1] ^= 1 << tr.r.IntN(8)
	case 2:
		if pkt[0]>>4 == 4 {
			pkt[10+tr.r.IntN(2)] ^= 1 << tr.r.IntN(8)
		}
	}
	return f
}

// count is how many packets the next frame has, and how many octets of payload.
func (tr *traffic) count(s *stream, headers int) (segment, packets, octets int) {
	segment = min(s.segment, trafficMTU-headers)
	if tr.chance(8) {
		segment = 1 + tr.r.IntN(segment)
	}
	packets = 1
	if tr.chance(2) {
		packets = 1 + tr.r.IntN(64)
	}
	packets = min(packets, (65535-headers)/segment)
	octets = segment * packets
	if tr.chance(2) {
		octets -= tr.r.IntN(segment)
	}
	return segment, packets, octets
}

func (tr *traffic) tcp(s *stream) tun.Frame {
	b := make([]byte, 20, 60)
	flags := byte(flagACK)
	if tr.chance(3) {
		flags |= flagPSH
	}
	for _, rare := range []byte{flagFIN, flagURG, flagECE, flagCWR} {
		if tr.chance(25) {
			flags |= rare
		}
	}
	switch s.options {
	case 1, 2:
		if tr.chance(3) {
			s.clock++
		}
		b = append(b, 1, 1, 8, 10)
		b = binary.BigEndian.AppendUint32(b, s.clock)
		b = binary.BigEndian.AppendUint32(b, 77)
	}
	if s.options == 2 && tr.chance(4) {
		b = append(b, 1, 1, 5, 10)
		b = append(b, randomBytes(tr.r, 8)...)
	}
	kind := tr.r.IntN(30)
	if kind == 0 {
		flags = flagSYN
		b = append(b, optionMSS, 4, 0x05, 0xb4)
	}
	segment, packets, octets := tr.count(s, 40+len(s.head)+len(b))
	if kind < 6 {
		octets, packets = 0, 1 // an acknowledgement
		flags &^= flagFIN
	}
	if tr.chance(4) {
		s.ack += uint32(tr.r.IntN(5000))
	}
	if tr.chance(30) {
		s.seq += uint32(tr.r.IntN(5000)) - 2500 // lost, or again
	}
	if tr.chance(30) {
		s.window++
	}
	binary.BigEndian.PutUint16(b, s.ports[0])
	binary.BigEndian.PutUint16(b[2:], s.ports[1])
	binary.BigEndian.PutUint32(b[4:], s.seq)
	binary.BigEndian.PutUint32(b[8:], s.ack)
	b[12], b[13] = byte(len(b))<<2, flags
	if tr.chance(30) {
		b[12]++ // accurate ECN
	}
	binary.BigEndian.PutUint16(b[14:], s.window)
	if flags&flagURG != 0 {
		b[19] = 1
	}
	header := len(b)
	pkt, l4 := s.ipPacket(protoTCP, append(b, tr.payload(octets)...))
	s.seq += uint32(octets)
	tr.advance(s, packets)
	if octets <= segment {
		return tr.finish(pkt, l4, 16, protoTCP)
	}
	binary.BigEndian.PutUint16(pkt[l4+16:], plainPseudo(pkt, protoTCP, len(pkt)-l4))
	kindOf := tun.GSOTCPv4
	if s.src.Is6() {
		kindOf = tun.GSOTCPv6
	}
	return tun.Frame{
		Offload: tun.Offload{GSO: kindOf, Header: l4 + header, Segment: segment, Partial: true, Start: l4, Offset: 16},
		Pieces:  [][]byte{pkt},
	}
}

func (tr *traffic) udp(s *stream) tun.Frame {
	segment, packets, octets := tr.count(s, 40+len(s.head)+8)
	if tr.chance(20) {
		octets, packets = 0, 1
	}
	pkt, l4 := s.ipPacket(protoUDP, append(udpHeader(s.ports[0], s.ports[1], octets)[:8], tr.payload(octets)...))
	tr.advance(s, packets)
	if octets > segment {
		binary.BigEndian.PutUint16(pkt[l4+6:], plainPseudo(pkt, protoUDP, len(pkt)-l4))
		return tun.Frame{
			Offload: tun.Offload{GSO: tun.GSOUDP, Header: l4 + 8, Segment: segment, Partial: true, Start: l4, Offset: 6},
			Pieces:  [][]byte{pkt},
		}
	}
	f := tr.finish(pkt, l4, 6, protoUDP)
	if !f.Offload.Partial {
		switch tr.r.IntN(20) {
		case 0:
			pkt[l4+6], pkt[l4+7] = 0, 0 // none; wrong over IPv6
		case 1:
			binary.BigEndian.PutUint16(pkt[l4+4:], uint16(tr.r.IntN(octets+20)))
		}
	}
	return f
}

func (tr *traffic) icmp(s *stream) tun.Frame {
	proto, kind := uint8(protoICMP), byte(8)
	if s.src.Is6() {
		proto, kind = protoICMPv6, 128
	}
	b := append([]byte{kind, 0, 0, 0, byte(s.ports[0]), byte(s.ports[1]), 0, byte(s.seq)}, tr.payload(tr.r.IntN(1300))...)
	if tr.chance(5) {
		b[0] = byte(tr.r.Uint32())
	}
	s.seq++
	pkt, l4 := s.ipPacket(proto, b)
	tr.advance(s, 1)
	return tr.finish(pkt, l4, 2, proto)
}

// fragment gives one fragment after the other of long datagrams, or only some.
func (tr *traffic) fragment(s *stream) tun.Frame {
	if len(s.waiting) == 0 {
		body := append(udpHeader(s.ports[0], s.ports[1], 0), tr.payload(1+tr.r.IntN(4000))...)
		binary.BigEndian.PutUint16(body[4:], uint16(len(body)))
		mtu := 300 + tr.r.IntN(1000)
		if s.src.Is6() {
			tr.fragment6(s, body, mtu)
		} else {
			s.df = false
			pkt, _ := s.ipPacket(protoUDP, body)
			for _, b := range fragments(pkt, mtu) {
				s.waiting = append(s.waiting, tun.Frame{Pieces: [][]byte{b}})
			}
		}
		tr.advance(s, 1)
		if tr.chance(3) {
			tr.r.Shuffle(len(s.waiting), func(i, j int) { s.waiting[i], s.waiting[j] = s.waiting[j], s.waiting[i] })
		}
	}
	f := s.waiting[0]
	s.waiting = s.waiting[1:]
	return f
}

// fragment6 is RFC 8200 §4.5.
func (tr *traffic) fragment6(s *stream, body []byte, mtu int) {
	size := (mtu - 48 - len(s.head)) &^ 7
	for at := 0; at < len(body); at += size {
		end := min(len(body), at+size)
		head := []byte{protoUDP, 0, byte(at >> 8), byte(at), 0, 0, byte(s.id >> 8), byte(s.id)}
		if end < len(body) {
			head[3] |= 1
		}
		pkt, _ := s.ipPacket(protoFragment, append(head, body[at:end]...))
		s.waiting = append(s.waiting, tun.Frame{Pieces: [][]byte{pkt}})
	}
}

// other is what has protocols of all sorts, or too few octets for the usual ones.
func (tr *traffic) other(s *stream) tun.Frame {
	protos := []uint8{2, 33, 46, 47, 50, 89, 112, protoSCTP, protoUDPLite, 253, protoTCP, protoUDP, protoNone}
	proto := protos[tr.r.IntN(len(protos))]
	n := tr.r.IntN(1300)
	if proto == protoTCP || proto == protoUDP || tr.chance(10) {
		n = tr.r.IntN(30)
	}
	pkt, _ := s.ipPacket(proto, tr.payload(n))
	tr.advance(s, 1)
	return tun.Frame{Pieces: [][]byte{pkt}}
}

// pick chooses the flow that goes on, often the one before.
func (tr *traffic) pick() int {
	if tr.chance(3) {
		tr.last = tr.r.IntN(len(tr.flows))
	}
	return tr.last
}

// frame is the next that the host sends. Its memory is its own.
func (tr *traffic) frame() tun.Frame {
	return tr.flows[tr.pick()].frame(tr)
}

// frame is the next of a flow, whose headers now and then change for good.
func (s *stream) frame(tr *traffic) tun.Frame {
	switch tr.r.IntN(150) {
	case 0:
		s.ttl ^= 1
	case 1:
		s.tos ^= 1 << tr.r.IntN(8)
	case 2:
		s.label ^= 1
	case 3:
		s.df = !s.df
	}
	return s.next(tr, s)
}

// packets are about n single packets as they come out of the tunnel: flows one through
// the other, in runs; a few are lost, doubled, overtaken or damaged.
func (tr *traffic) packets(n int) [][]byte {
	queues := make([][][]byte, len(tr.flows))
	left := 0
	for left < n {
		i := tr.pick()
		list := referenceSegment(tr.flows[i].frame(tr))
		queues[i] = append(queues[i], list...)
		left += len(list)
	}
	var out [][]byte
	for left > 0 {
		i := tr.r.IntN(len(queues))
		run := min(len(queues[i]), 1+tr.r.IntN(40))
		for _, pkt := range queues[i][:run] {
			switch tr.r.IntN(200) {
			case 0:
				continue
			case 1:
				out = append(out, slices.Clone(pkt))
			case 2:
				if k := len(out); k > 0 {
					out = append(out, out[k-1])
					out[k-1] = pkt
					continue
				}
			case 3:
				pkt[len(pkt)-1] ^= 1 << tr.r.IntN(8)
			}
			out = append(out, pkt)
		}
		queues[i] = queues[i][run:]
		left -= run
	}
	return out
}

// TestTraffic: there is some of everything, and the same for the same seed.
func TestTraffic(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(60) {
		tr, again := newTraffic(seed, seed%2 == 1), newTraffic(seed, seed%2 == 1)
		for range 40 {
			f, g := tr.frame(), again.frame()
			if f.Offload != g.Offload || !slices.Equal(f.Pieces[0], g.Pieces[0]) {
				t.Fatalf("seed %d makes one thing and another", seed)
			}
			flow, n, ok := parse(f.Pieces[0])
			if !ok || n != len(f.Pieces[0]) {
				t.Fatalf("seed %d: malformed", seed)
			}
			version := f.Pieces[0][0] >> 4
			seen[fmt.Sprintf("version %d kind %d", version, f.Offload.GSO)]++
			seen[fmt.Sprintf("version %d protocol %d", version, flow.Protocol)]++
			if f.Offload.Partial && f.Offload.GSO == tun.GSONone {
				seen[fmt.Sprintf("version %d partial", version)]++
			}
			if f.Pieces[0][0] > 0x45 && version == 4 || version == 6 && isExtension(f.Pieces[0][6]) {
				seen[fmt.Sprintf("version %d head kind %d", version, f.Offload.GSO)]++
			}
			if laterFragment(f.Pieces[0]) {
				seen[fmt.Sprintf("version %d fragment", version)]++
			}
			for _, pkt := range referenceSegment(f) {
				if len(pkt) > trafficMTU {
					t.Fatalf("seed %d: a packet of %d octets", seed, len(pkt))
				}
			}
		}
		if list := tr.packets(100); len(list) < 90 {
			t.Fatalf("seed %d: %d packets", seed, len(list))
		}
	}
	for _, version := range []int{4, 6} {
		kinds := []int{0, 1, 5}
		if version == 6 {
			kinds[1] = 4
		}
		for _, kind := range kinds {
			for _, what := range []string{"", " head"} {
				if name := fmt.Sprintf("version %d%s kind %d", version, what, kind); seen[name] < 3 {
					t.Errorf("%s: %d frames", name, seen[name])
				}
			}
		}
		for _, what := range []string{"partial", "fragment", "protocol 6", "protocol 17", "protocol 47"} {
			if name := fmt.Sprintf("version %d %s", version, what); seen[name] < 3 {
				t.Errorf("%s: %d frames", name, seen[name])
			}
		}
	}
}
