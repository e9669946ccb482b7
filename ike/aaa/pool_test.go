package aaa

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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
			p := NewPool("p", test.ranges, 0, reserved)
			seen := map[netip.Addr]bool{}
			for i := range test.want {
				addr, err := p.Acquire(identity(i), netip.Addr{})
				if err != nil || seen[addr] || addr == reserved {
					t.Fatalf("address %d: %v, %v", i, addr, err)
				}
				seen[addr] = true
			}
			if addr, err := p.Acquire(identity(99), netip.Addr{}); err == nil {
				t.Fatalf("an exhausted pool gave %v", addr)
			}
			for addr := range seen {
				p.Release(addr, false)
			}
			if n := p.InUse(); n != 0 {
				t.Fatalf("%d in use after all were released", n)
			}
			if _, err := p.Acquire(identity(99), netip.Addr{}); (err == nil) != (test.want > 0) {
				t.Fatalf("after the release: %v", err)
			}
		})
	}
}

func TestSameIdentityGetsItsAddressAgain(t *testing.T) {
	p := NewPool("p", ranges("10.0.0.1", "10.0.0.3"), 0)
	first, _ := p.Acquire(identity(1), netip.Addr{})
	second, _ := p.Acquire(identity(1), netip.Addr{})
	if first == second {
		t.Fatalf("two live leases of one identity share %v", first)
	}
	p.Release(first, false)
	p.Release(second, false)
	if other, _ := p.Acquire(identity(2), netip.Addr{}); other == second {
		t.Fatalf("%v went to another identity while fresh ones were left", other)
	}
	if again, _ := p.Acquire(identity(1), netip.Addr{}); again != second {
		t.Fatalf("came back and got %v, had %v", again, second)
	}
}

// A peer that authenticates again asks for the address that it has, and must keep it; one
// that does not ask is another device.
func TestSameIdentitySharesTheAddressItNames(t *testing.T) {
	p := NewPool("p", ranges("10.0.0.1", "10.0.0.9"), 0)
	first, _ := p.Acquire(identity(1), netip.Addr{})
	if shared, err := p.Acquire(identity(1), first); err != nil || shared != first {
		t.Fatalf("asked for %v again and got %v, %v", first, shared, err)
	}
	if other, err := p.Acquire(identity(2), first); err != nil || other == first {
		t.Fatalf("another identity asked for %v and got %v, %v", first, other, err)
	}
	p.Release(first, false)
	if n := p.InUse(); n != 2 {
		t.Fatalf("%d in use after one of the two gave %v back", n, first)
	}
	if device, _ := p.Acquire(identity(1), netip.Addr{}); device == first {
		t.Fatalf("%v is in use and was given to another device", first)
	}
}

// An address waits for the one who had it, and then goes to others, the longest unused first.
func TestPoolHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool("p", ranges("10.0.0.1", "10.0.0.2"), time.Minute)
		first, _ := p.Acquire(identity(1), netip.Addr{})
		second, _ := p.Acquire(identity(2), netip.Addr{})
		p.Release(first, true)
		time.Sleep(30 * time.Second)
		p.Release(second, true)
		if got, err := p.Acquire(identity(3), netip.Addr{}); err == nil {
			t.Fatalf("%v was given away after half a minute", got)
		}
		time.Sleep(30 * time.Second)
		if got, err := p.Acquire(identity(3), netip.Addr{}); err != nil || got != first {
			t.Fatalf("after a minute: %v, %v; want %v", got, err, first)
		}
		if got, err := p.Acquire(identity(2), netip.Addr{}); err != nil || got != second {
			t.Fatalf("the one who had %v came back and got %v, %v", second, got, err)
		}
		if got, err := p.Acquire(identity(1), netip.Addr{}); err == nil {
			t.Fatalf("nothing is free, but %v was given", got)
		}
		p.Release(second, false)
		if got, err := p.Acquire(identity(1), netip.Addr{}); err != nil || got != second {
			t.Fatalf("%v was given back in order, but the next one got %v, %v", second, got, err)
		}
	})
}

// A claimed address belongs to somebody: it is not for others, in the pool or outside.
func TestClaim(t *testing.T) {
	mine, outside := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("192.0.2.1")
	p := NewPool("p", ranges("10.0.0.1", "10.0.0.3"), 0, mine)
	for range 2 {
		for _, addr := range []netip.Addr{mine, outside} {
			if err := p.Claim(identity(1), addr); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := p.Claim(identity(2), mine); err == nil {
		t.Fatal("two identities have one address")
	}
	for i := range 2 {
		if addr, err := p.Acquire(identity(10+i), mine); err != nil || addr == mine {
			t.Fatalf("%v, %v", addr, err)
		}
	}
	if addr, err := p.Acquire(identity(12), mine); err == nil {
		t.Fatalf("a reserved address was given away: %v", addr)
	}
	for range 3 {
		p.Release(mine, false)
		p.Release(outside, false)
	}
	if n := p.InUse(); n != 2 {
		t.Fatalf("%d in use", n)
	}
	if err := p.Claim(identity(2), mine); err != nil {
		t.Fatal(err)
	}
}

// TestPoolRemembersLittle: a vast pool does not keep an entry for everybody who ever came.
func TestPoolRemembersLittle(t *testing.T) {
	p := NewPool("p", ranges("fd00::1", "fd00::ffff:ffff"), 0)
	for i := range maxIdle + 1000 {
		addr, err := p.Acquire(identity(i), netip.Addr{})
		if err != nil {
			t.Fatal(err)
		}
		p.Release(addr, false)
	}
	if len(p.leases) > maxIdle || len(p.former) > maxIdle || p.idle.Len() > maxIdle {
		t.Fatalf("%d leases, %d identities, %d idle", len(p.leases), len(p.former), p.idle.Len())
	}
}

func TestPoolConcurrent(t *testing.T) {
	p := NewPool("p", ranges("10.0.0.0", "10.0.0.255"), 0)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 200 {
				addr, err := p.Acquire(identity(i), netip.Addr{})
				if err != nil {
					t.Error(err)
					return
				}
				p.Release(addr, false)
			}
		})
	}
	wg.Wait()
	if n := p.InUse(); n != 0 {
		t.Fatalf("%d in use", n)
	}
}
