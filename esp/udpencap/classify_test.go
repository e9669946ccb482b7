package udpencap

import (
	"bytes"
	"slices"
	"testing"
)

func TestClassify(t *testing.T) {
	esp := []byte{0, 0, 1, 0, 0, 0, 0, 1, 9}
	marked := []byte{0, 0, 0, 0, 'i', 'k', 'e'}
	for _, test := range []struct {
		name  string
		b     []byte
		encap bool
		kind  Kind
		data  []byte
		ok    bool
	}{
		{"empty", nil, true, 0, nil, false},
		{"keepalive", []byte{0xff}, true, Keepalive, []byte{0xff}, true},
		{"one other octet", []byte{0xfe}, true, 0, nil, false},
		{"one zero", []byte{0}, true, 0, nil, false},
		{"two of 0xff", []byte{0xff, 0xff}, true, 0, nil, false},
		{"half a marker", []byte{0, 0, 0}, true, 0, nil, false},
		{"marker alone", marked[:4], true, 0, nil, false},
		{"IKE", marked, true, IKE, marked[4:], true},
		{"SPI alone", esp[:4], true, 0, nil, false},
		{"ESP cut", esp[:7], true, 0, nil, false},
		{"ESP header", esp[:8], true, ESP, esp[:8], true},
		{"ESP", esp, true, ESP, esp, true},
		{"port 500, empty", nil, false, 0, nil, false},
		{"port 500", []byte("ike"), false, IKE, []byte("ike"), true},
		{"port 500, what looks like ESP", esp, false, IKE, esp, true},
		{"port 500, what looks like a marker", marked, false, IKE, marked, true},
		{"port 500, what looks like a keepalive", []byte{0xff}, false, IKE, []byte{0xff}, true},
	} {
		kind, data, ok := classify(test.b, test.encap)
		if ok != test.ok || ok && (kind != test.kind || !bytes.Equal(data, test.data)) {
			t.Errorf("%s: kind %d, %x, %t", test.name, kind, data, ok)
		}
	}
}

// FuzzClassify: every datagram has one meaning, and what was marked is given back.
func FuzzClassify(f *testing.F) {
	f.Add([]byte{0xff}, true)
	f.Add([]byte{0, 0, 0, 0, 1}, true)
	f.Add([]byte{0, 0, 1, 0, 0, 0, 0, 1}, true)
	f.Add([]byte("ike"), false)
	f.Fuzz(func(t *testing.T, b []byte, encap bool) {
		kind, data, ok := classify(b, encap)
		if !ok {
			return
		}
		back := data
		if encap && kind == IKE {
			back = append(marker[:], data...)
		}
		if !bytes.Equal(back, b) || len(data) == 0 {
			t.Fatalf("%x read as kind %d, %x", b, kind, data)
		}
		if !encap && kind != IKE || kind == ESP && (len(data) < espHeader || bytes.HasPrefix(data, marker[:])) || kind == Keepalive && len(b) != 1 {
			t.Fatalf("%x read as kind %d (encap %t)", b, kind, encap)
		}
	})
}

// FuzzCut: a slab comes apart into what its datagrams are one by one, in their order.
func FuzzCut(f *testing.F) {
	packet := []byte{0, 0, 1, 0, 0, 0, 0, 1, 9, 9}
	f.Add(bytes.Repeat(packet, 5), 10, true)
	f.Add(append(bytes.Repeat(packet, 3), 0xff), 10, true)
	f.Add(append(append(packet, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6), packet...), 10, true)
	f.Add([]byte{0xff, 0xff, 0xfe}, 1, true)
	f.Add([]byte("ikeikeik"), 3, false)
	f.Add([]byte{}, 0, true)
	f.Fuzz(func(t *testing.T, slab []byte, segment int, encap bool) {
		segment &= 0xffff
		type one struct {
			kind Kind
			data string
		}
		var want, got []one
		for first, rest := true, slab; first || len(rest) > 0; first = false {
			n := len(rest)
			if segment > 0 {
				n = min(n, segment)
			}
			if kind, data, ok := classify(rest[:n], encap); ok {
				want = append(want, one{kind, string(data)})
			}
			rest = rest[n:]
		}
		calls := 0
		for first, rest := true, slab; first || len(rest) > 0; first = false {
			var p Packet
			var ok bool
			before := len(rest)
			if p, rest, ok = cut(rest, segment, encap); before > 0 && len(rest) >= before {
				t.Fatalf("%d octets of %d are left", len(rest), before)
			}
			if calls++; !ok {
				continue
			}
			if p.Segment != 0 && (p.Kind != ESP || len(p.Data) <= p.Segment) || len(p.Data) != cap(p.Data) && p.Kind == ESP && p.Segment != 0 {
				t.Fatalf("kind %d, %d octets, segment %d", p.Kind, len(p.Data), p.Segment)
			}
			n := 0
			for data := range p.Datagrams() {
				got = append(got, one{p.Kind, string(data)})
				n++
			}
			if n != p.Count() {
				t.Fatalf("%d datagrams, Count says %d", n, p.Count())
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%q, want %q", got, want)
		}
		if len(got) > 0 && calls > len(slab) {
			t.Fatalf("%d calls", calls)
		}
	})
}
