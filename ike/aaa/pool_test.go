package aaa

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"martlet/crypto/pki"
)

func identity(n int) pki.Identity {
	return pki.Identity{Type: pki.IDFQDN, Data: fmt.Sprintf("peer-%d", n)}
}

func ranges(pairs ...string) (out []Range) {
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, Range{netip.MustParseAddr(pairs[i]), netip.MustParseAddr(pairs[i+1])})
	}
	return out
}

// TestRow18SmallPools takes every address of pools as small as pools get
// (security.md row 18: /32, /31, /128).
func TestRow18SmallPools(t *testing.T) {
	for _, test := range []struct {
		name     string
		ranges   []Range
		reserved string
		want     int
	}{
		{"one v4", ranges("10.0.0.1", "10.0.0.1"), "", 1},
		{"one v4, the gateway's", ranges("10.0.0.1", "10.0.0.1"), "10.0.0.1", 0},
		{"two v4", ranges("10.0.0.0", "10.0.0.1"), "", 2},
		{"one v6", ranges("fd00::1", "fd00::1"), "", 1},
		{"the last addresses", ranges("255.255.255.254", "255.255.255.255"), "", 2},
		{"two ranges", ranges("10.0.0.5", "10.0.0.6", "10.0.0.1", "10.0.0.2"), "10.0.0.1", 3},
		{"none", nil, "", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			var reserved netip.Addr
			if test.reserved != "" {
				reserved = netip.MustParseAddr(test.reserved)
			}
			p := NewPool("p", test.ranges, reserved)
			seen := map[netip.Addr]bool{}
			for i := range test.want {
				addr, err := p.Acquire(identity(i))
				if err != nil || seen[addr] || addr == reserved {
					t.Fatalf("address %d: %v, %v", i, addr, err)
				}
				seen[addr] = true
			}
			if addr, err := p.Acquire(identity(99)); err == nil {
				t.Fatalf("an exhausted pool gave %v", addr)
			}
			for addr := range seen {
				p.Release(addr)
			}
			if n := p.InUse(); n != 0 {
				t.Fatalf("%d in use after all were released", n)
			}
			if _, err := p.Acquire(identity(99)); (err == nil) != (test.want > 0) {
				t.Fatalf("after the release: %v", err)
			}
		})
	}
}

func TestSameIdentityGetsItsAddressAgain(t *testing.T) {
	p := NewPool("p", ranges("10.0.0.1", "10.0.0.3"), netip.Addr{})
	first, _ := p.Acquire(identity(1))
	second, _ := p.Acquire(identity(1))
	if first == second {
		t.Fatalf("two live leases of one identity share %v", first)
	}
	p.Release(first)
	p.Release(second)
	if other, _ := p.Acquire(identity(2)); other == second {
		t.Fatalf("%v went to another identity while fresh ones were left", other)
	}
	if again, _ := p.Acquire(identity(1)); again != second {
		t.Fatalf("came back and got %v, had %v", again, second)
	}
}

func TestPoolConcurrent(t *testing.T) {
	p := NewPool("p", ranges("10.0.0.0", "10.0.0.255"), netip.Addr{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 200 {
				addr, err := p.Acquire(identity(i))
				if err != nil {
					t.Error(err)
					return
				}
				p.Release(addr)
			}
		})
	}
	wg.Wait()
	if n := p.InUse(); n != 0 {
		t.Fatalf("%d in use", n)
	}
}
