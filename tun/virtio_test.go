package tun

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// packet makes one of a family with a transport header and n octets of payload; only what
// the virtio header is checked against is filled in.
func packet(version, protocol, n int) []byte {
	var b []byte
	if version == 4 {
		b = make([]byte, ipv4Len)
		b[0], b[9] = 0x45, byte(protocol)
		copy(b[12:], []byte{10, 9, 0, 1, 10, 9, 0, 2})
	} else {
		b = make([]byte, ipv6Len)
		b[0], b[6] = 0x60, byte(protocol)
		b[8], b[23], b[24], b[39] = 0xfd, 1, 0xfd, 2
	}
	if protocol == protocolTCP {
		tcp := make([]byte, tcpLen+12)
		tcp[12] = 8 << 4
		b = append(b, tcp...)
	} else {
		b = append(b, make([]byte, udpLen)...)
	}
	for i := range n {
		b = append(b, byte(i))
	}
	return b
}

func words(flags, kind byte, header, segment, start, offset int) *virtioHeader {
	h := virtioHeader{0: flags, 1: kind}
	h.setWord(2, header, false)
	h.setWord(4, segment, false)
	h.setWord(6, start, false)
	h.setWord(8, offset, false)
	return &h
}

func TestVirtioHeaderRead(t *testing.T) {
	tcp4, tcp6, udp4, udp6 := packet(4, protocolTCP, 3000), packet(6, protocolTCP, 3000), packet(4, protocolUDP, 3000), packet(6, protocolUDP, 3000)
	options := append([]byte{0x46}, tcp4[1:]...)
	extended := append(append([]byte{}, tcp6[:40]...), append(make([]byte, 8), tcp6[40:]...)...)
	short := append([]byte{}, tcp4...)
	short[20+12] = 4 << 4
	long := append([]byte{}, tcp4[:60]...)
	long[20+12] = 15 << 4
	none := Offload{}
	for name, c := range map[string]struct {
		header *virtioHeader
		packet []byte
		want   Offload
		ok     bool
	}{
		"complete":                 {words(0, 0, 0, 0, 0, 0), tcp4, none, true},
		"complete, with rubbish":   {words(0, 0, 1, 2, 3, 4), []byte{1}, none, true},
		"verified":                 {words(virtioDataValid, 0, 0, 0, 0, 0), tcp4, none, true},
		"empty":                    {words(0, 0, 0, 0, 0, 0), nil, none, false},
		"partial":                  {words(1, 0, 0, 0, 20, 6), udp4, Offload{Partial: true, Start: 20, Offset: 6}, true},
		"partial to the end":       {words(1, 0, 0, 0, 4, 2), udp4[:8], Offload{Partial: true, Start: 4, Offset: 2}, true},
		"partial beyond the end":   {words(1, 0, 0, 0, 4, 3), udp4[:8], none, false},
		"partial far beyond":       {words(1, 0, 0, 0, 65535, 65535), udp4, none, false},
		"TCP over IPv4":            {words(1, 1, 20, 1448, 20, 16), tcp4, Offload{GSO: GSOTCPv4, Header: 52, Segment: 1448, Partial: true, Start: 20, Offset: 16}, true},
		"TCP over IPv6":            {words(1, 4, 3072, 1428, 40, 16), tcp6, Offload{GSO: GSOTCPv6, Header: 72, Segment: 1428, Partial: true, Start: 40, Offset: 16}, true},
		"TCP behind an extension":  {words(1, 4, 0, 1428, 48, 16), extended, Offload{GSO: GSOTCPv6, Header: 80, Segment: 1428, Partial: true, Start: 48, Offset: 16}, true},
		"UDP over IPv4":            {words(1, 5, 0, 1000, 20, 6), udp4, Offload{GSO: GSOUDP, Header: 28, Segment: 1000, Partial: true, Start: 20, Offset: 6}, true},
		"UDP over IPv6":            {words(1, 5, 0, 1000, 40, 6), udp6, Offload{GSO: GSOUDP, Header: 48, Segment: 1000, Partial: true, Start: 40, Offset: 6}, true},
		"joined by a card, TCP":    {words(virtioDataValid, 1, 0, 1448, 0, 0), packet(4, protocolTCP, 3000), Offload{GSO: GSOTCPv4, Header: 52, Segment: 1448, Partial: true, Start: 20, Offset: 16}, true},
		"joined by a card, UDP":    {words(virtioDataValid, 5, 0, 1000, 0, 0), packet(6, protocolUDP, 3000), Offload{GSO: GSOUDP, Header: 48, Segment: 1000, Partial: true, Start: 40, Offset: 6}, true},
		"joined, not verified":     {words(0, 1, 0, 1448, 0, 0), tcp4, none, false},
		"joined, other protocol":   {words(virtioDataValid, 1, 0, 1448, 0, 0), udp4, none, false},
		"joined, no IP":            {words(virtioDataValid, 1, 0, 1448, 0, 0), make([]byte, 100), none, false},
		"joined, short":            {words(virtioDataValid, 4, 0, 1448, 0, 0), tcp6[:39], none, false},
		"no segment size":          {words(1, 1, 0, 0, 20, 16), tcp4, none, false},
		"no payload":               {words(1, 1, 0, 1448, 20, 16), tcp4[:52], none, false},
		"other family":             {words(1, 1, 0, 1448, 40, 16), tcp6, none, false},
		"other family too":         {words(1, 4, 0, 1448, 20, 16), tcp4, none, false},
		"other checksum":           {words(1, 1, 0, 1448, 20, 6), tcp4, none, false},
		"start not behind IP":      {words(1, 1, 0, 1448, 24, 16), tcp4, none, false},
		"start not behind options": {words(1, 1, 0, 1448, 20, 16), options, none, false},
		"start within IPv6":        {words(1, 5, 0, 1448, 20, 6), udp6, none, false},
		"TCP header too short":     {words(1, 1, 0, 1448, 20, 16), short, none, false},
		"TCP header too long":      {words(1, 1, 0, 1448, 20, 16), long, none, false},
		"TCP header cut off":       {words(1, 1, 0, 1448, 20, 16), tcp4[:39], none, false},
		"UFO":                      {words(1, 3, 0, 1448, 20, 6), udp4, none, false},
		"with ECN":                 {words(1, 0x81, 0, 1448, 20, 16), tcp4, none, false},
	} {
		for _, big := range []bool{false, true} {
			h := *c.header
			if big {
				for i := 2; i < virtioLen; i += 2 {
					h[i], h[i+1] = h[i+1], h[i]
				}
			}
			got, ok := h.offload(append([]byte{}, c.packet...), big)
			if ok != c.ok || ok && got != c.want {
				t.Errorf("%s: got %+v, %v; want %+v, %v", name, got, ok, c.want, c.ok)
			}
		}
	}
}

func TestVirtioHeaderWritten(t *testing.T) {
	partial := Offload{Partial: true, Start: 20, Offset: 16}
	super := Offload{GSO: GSOTCPv4, Header: 52, Segment: 1448, Partial: true, Start: 20, Offset: 16}
	with := func(o Offload, change func(*Offload)) Offload {
		change(&o)
		return o
	}
	for name, c := range map[string]struct {
		offload Offload
		length  int
		want    *virtioHeader
	}{
		"complete":               {Offload{}, 1, words(0, 0, 0, 0, 0, 0)},
		"partial":                {partial, 100, words(1, 0, 0, 0, 20, 16)},
		"partial to the end":     {partial, 38, words(1, 0, 0, 0, 20, 16)},
		"partial beyond the end": {partial, 37, nil},
		"negative start":         {with(partial, func(o *Offload) { o.Start = -1 }), 100, nil},
		"negative offset":        {with(partial, func(o *Offload) { o.Offset = -1 }), 100, nil},
		"super-packet":           {super, 3000, words(1, 1, 52, 1448, 20, 16)},
		"no header":              {with(super, func(o *Offload) { o.Header = 0 }), 3000, nil},
		"no payload":             {super, 52, nil},
		"no segment size":        {with(super, func(o *Offload) { o.Segment = 0 }), 3000, nil},
		"segment size too large": {with(super, func(o *Offload) { o.Segment = 65536 }), 3000, nil},
		"not partial":            {with(super, func(o *Offload) { o.Partial = false }), 3000, nil},
		"too long":               {super, 65536, nil},
	} {
		var h virtioHeader
		if ok := h.put(c.offload, c.length, false); ok != (c.want != nil) || ok && h != *c.want {
			t.Errorf("%s: got %x, %v; want %x", name, h, ok, c.want)
		}
	}
}

// What a network card joined is, but for the place of its checksum, what the kernel would
// have made, and completing it gives the checksum back.
func TestPartialAgain(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		version, protocol, kind := 4+2*r.IntN(2), protocolTCP, GSOTCPv4
		switch r.IntN(2) {
		case 0:
			protocol, kind = protocolUDP, GSOUDP
		default:
			if version == 6 {
				kind = GSOTCPv6
			}
		}
		p := packet(version, protocol, 1+r.IntN(60000))
		for i := range p[60:] {
			p[60+i] = byte(r.Uint32())
		}
		start := ipv4Len
		if version == 6 {
			start = ipv6Len
		}
		place, _ := placeOf(kind)
		at := start + place.checksum
		// The whole checksum, made the long way round: over the pseudo header and all.
		addresses := p[12:20]
		if version == 6 {
			addresses = p[8:40]
		}
		pseudo := binary.BigEndian.AppendUint32(append([]byte{}, addresses...), uint32(len(p)-start))
		pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(protocol))
		copy(p[at:], []byte{0, 0})
		sum := ^fold(sumOf(append(pseudo, p[start:]...)))
		if sum == 0 {
			sum = 0xffff
		}
		binary.BigEndian.PutUint16(p[at:], sum)

		got := append([]byte{}, p...)
		o, ok := words(virtioDataValid, byte(kind), 0, 1000, 0, 0).offload(got, false)
		if !ok || !o.complete(got) {
			t.Fatalf("version %d, protocol %d, %d octets: refused", version, protocol, len(p))
		}
		if !bytes.Equal(p, got) {
			t.Fatalf("version %d, protocol %d, %d octets: checksum %x, want %x", version, protocol, len(p), got[at:at+2], p[at:at+2])
		}
	}
	for _, o := range []Offload{{Partial: true, Start: 90, Offset: 9}, {Partial: true, Start: -1}, {Partial: true, Offset: -1}} {
		if o.complete(make([]byte, 100)) {
			t.Errorf("completed %+v of 100 octets", o)
		}
	}
}

// FuzzVirtioHeader: whatever comes, an Offload that is believed stays within the packet
// and is written as it was read.
func FuzzVirtioHeader(f *testing.F) {
	for _, seed := range []struct {
		header *virtioHeader
		packet []byte
	}{
		{words(1, 1, 20, 1448, 20, 16), packet(4, protocolTCP, 2000)},
		{words(virtioDataValid, 4, 20, 1448, 20, 16), packet(6, protocolTCP, 2000)},
		{words(1, 5, 0, 1000, 40, 6), packet(6, protocolUDP, 2000)},
		{words(virtioDataValid, 5, 0, 1000, 0, 0), packet(4, protocolUDP, 2000)},
		{words(1, 0, 0, 0, 20, 6), packet(4, protocolUDP, 1)},
	} {
		f.Add(seed.header[:], seed.packet, false)
	}
	f.Fuzz(func(t *testing.T, header, packet []byte, big bool) {
		if len(header) != virtioLen || len(packet) > MaxMTU {
			t.Skip()
		}
		h := (*virtioHeader)(header)
		before := append([]byte{}, packet...)
		o, ok := h.offload(packet, big)
		if !ok {
			return
		}
		if o.Partial && (o.Start < 0 || o.Offset < 0 || o.Start+o.Offset+2 > len(packet)) {
			t.Fatalf("%+v in %d octets", o, len(packet))
		}
		for i := range packet {
			mayChange := o.GSO != GSONone && h[0]&virtioNeedsChecksum == 0 && (i == o.Start+o.Offset || i == o.Start+o.Offset+1)
			if packet[i] != before[i] && !mayChange {
				t.Fatalf("octet %d changed", i)
			}
		}
		if o.GSO != GSONone && (!o.Partial || o.Segment < 1 || o.Header <= o.Start+o.Offset || o.Header >= len(packet)) {
			t.Fatalf("%+v in %d octets", o, len(packet))
		}
		var again virtioHeader
		if !again.put(o, len(packet), big) {
			t.Fatalf("%+v was read and cannot be written", o)
		}
		if got, ok := again.offload(packet, big); !ok || got != o {
			t.Fatalf("%+v became %+v, %v", o, got, ok)
		}
	})
}
