package esp

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func policyChild(order uint64, local, remote []Selector) *child {
	return &child{id: order, order: order, local: local, remote: remote, narrow: narrowness(remote)}
}

func flow(src, dst string, proto uint8, port uint16) Flow {
	return Flow{Src: addr(src), Dst: addr(dst), Protocol: proto, SrcPort: 40000, DstPort: port}
}

func TestPolicyLookup(t *testing.T) {
	wide := policyChild(1, []Selector{selector("10.1.0.0/16")}, []Selector{selector("10.2.0.0/16"), selector("2001:db8::/32")})
	inside := policyChild(2, []Selector{selector("10.1.5.0/24")}, []Selector{selector("10.2.7.0/24")})
	web := selector("10.2.0.0/16")
	web.Protocol, web.StartPort, web.EndPort = protoTCP, 443, 443
	https := policyChild(3, []Selector{selector("10.1.0.0/16")}, []Selector{web})
	all := policyChild(4, []Selector{selector("0.0.0.0/0")}, []Selector{selector("0.0.0.0/0")})
	p := newPolicy().with(wide).with(inside).with(https).with(all)
	for _, test := range []struct {
		name string
		f    Flow
		want *child
	}{
		{"wide", flow("10.1.0.1", "10.2.0.1", protoUDP, 53), wide},
		{"longest prefix", flow("10.1.5.1", "10.2.7.1", protoUDP, 53), inside},
		{"source outside the longest", flow("10.1.6.1", "10.2.7.1", protoUDP, 53), wide},
		{"the narrower one of a prefix", flow("10.1.6.1", "10.2.9.1", protoTCP, 443), https},
		{"the narrower one behind a longer prefix", flow("10.1.6.1", "10.2.7.1", protoTCP, 443), https},
		{"source outside", flow("172.16.0.1", "10.2.7.1", protoTCP, 443), all},
		{"default", flow("10.1.0.1", "9.9.9.9", protoTCP, 443), all},
		{"nothing", flow("2001:db8::1", "2001:db8:1::1", protoTCP, 443), nil},
	} {
		if got := p.lookup(&test.f); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
	before := p
	p = p.without(https).without(all).without(inside)
	if f := flow("10.1.5.1", "10.2.7.1", protoTCP, 443); p.lookup(&f) != wide {
		t.Error("after removal the wide child does not take the rest")
	} else if before.lookup(&f) != inside {
		t.Error("a policy changed that somebody may hold")
	}
	if p = p.without(wide); p.table.Size() != 0 {
		t.Errorf("%d prefixes left behind", p.table.Size())
	}
}

// TestPolicyOrder: installing does not take traffic away, switching does; only the
// older is passed by the first packet.
func TestPolicyOrder(t *testing.T) {
	local, remote := []Selector{selector("10.1.0.0/16")}, []Selector{selector("10.2.0.0/16")}
	old, young := policyChild(1, local, remote), policyChild(2, local, remote)
	f := flow("10.1.0.1", "10.2.0.1", protoUDP, 53)
	p := newPolicy().with(old).with(young)
	if p.lookup(&f) != old || !p.behind(young) || p.behind(old) {
		t.Fatal("the younger child takes the traffic without a switch")
	}
	p = p.front(young)
	if p.lookup(&f) != young || p.behind(young) || p.behind(old) {
		t.Fatal("the switch has no effect, or would be undone")
	}
	if p.without(young).lookup(&f) != old || p.without(old).lookup(&f) != young {
		t.Fatal("removal leaves the wrong one")
	}
}

// TestPolicyModel: random children and packets against a linear search.
func TestPolicyModel(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	random := func() netip.Addr {
		return netip.AddrFrom4([4]byte{10, byte(r.IntN(4)), byte(r.IntN(4)), byte(r.IntN(8))})
	}
	randomSelector := func() Selector {
		a, b := random(), random()
		if b.Less(a) {
			a, b = b, a
		}
		s := Selector{From: a, To: b, EndPort: 65535}
		if r.IntN(2) == 0 {
			s.Protocol = protoUDP
			if r.IntN(2) == 0 {
				s.StartPort, s.EndPort = 10, 20
			}
		}
		return s
	}
	for range 50 {
		var children []*child
		p := newPolicy()
		for i := range 20 {
			ch := policyChild(uint64(i), []Selector{randomSelector()}, []Selector{randomSelector(), randomSelector()})
			children = append(children, ch)
			p = p.with(ch)
		}
		for range 5 {
			gone := r.IntN(len(children))
			p = p.without(children[gone])
			children = slices.Delete(children, gone, gone+1)
		}
		for range 500 {
			f := Flow{Src: random(), Dst: random(), Protocol: []uint8{protoTCP, protoUDP}[r.IntN(2)], SrcPort: uint16(r.IntN(30)), DstPort: uint16(r.IntN(30))}
			// The model: of those that match, the longest prefix, then the narrowest, then the
			// oldest.
			var best *child
			rank := func(c *child) int {
				bits := 0
				for i := range c.remote {
					for _, q := range c.remote[i].prefixes() {
						if q.Contains(f.Dst) {
							bits = max(bits, q.Bits())
						}
					}
				}
				return bits
			}
			for _, c := range children {
				if !f.Within(c.local, c.remote) {
					continue
				}
				if best == nil || cmp.Or(cmp.Compare(rank(c), rank(best)), cmp.Compare(c.narrow, best.narrow), cmp.Compare(best.order, c.order)) > 0 {
					best = c
				}
			}
			if got := p.lookup(&f); got != best {
				t.Fatalf("%+v: got %+v, want %+v", f, got, best)
			}
		}
	}
}

func TestPolicyLookupAllocatesNothing(t *testing.T) {
	p := newPolicy().with(policyChild(1, []Selector{selector("10.1.0.0/16")}, []Selector{selector("10.2.0.0/16")})).
		with(policyChild(2, []Selector{selector("10.9.0.0/16")}, []Selector{selector("10.2.7.0/24")}))
	f := flow("10.1.0.1", "10.2.7.1", protoUDP, 53)
	if n := testing.AllocsPerRun(100, func() {
		if p.lookup(&f) == nil {
			t.Fatal("not found")
		}
	}); n != 0 {
		t.Errorf("lookup allocates %v times", n)
	}
}

func TestSAD(t *testing.T) {
	var s sad
	children := make(map[uint32]*child)
	r := rand.New(rand.NewPCG(7, 8))
	for range 20_000 {
		spi := r.Uint32()
		if children[spi] == nil {
			children[spi] = &child{spi: spi}
			s.add(spi, children[spi])
		}
	}
	for spi, c := range children {
		if s.lookup(spi) != c {
			t.Fatalf("SPI %#x not found", spi)
		}
		if spi%2 == 0 {
			s.remove(spi)
		}
	}
	for spi, c := range children {
		if got := s.lookup(spi); spi%2 == 0 && got != nil || spi%2 == 1 && got != c {
			t.Fatalf("SPI %#x: %v after half was removed", spi, got)
		}
	}
	s.remove(1)
	most := 0
	for i := range s.shards {
		if list := s.shards[i].Load(); list != nil {
			most = max(most, len(*list))
		}
	}
	if most > 20 {
		t.Errorf("a shard has %d of 10,000 SAs", most)
	}
	for i := range uint32(sadShards) {
		s.add(0xc0000000+i, &child{}) // SPIs that count up are spread too
	}
	for i := range s.shards {
		if list := s.shards[i].Load(); list != nil {
			most = max(most, len(*list))
		}
	}
	if most > 25 {
		t.Errorf("a shard has %d SAs whose SPIs count up", most)
	}
}
