package config

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sort"
)

// pool checks a pool and parses its addresses.
func (f *faults) pool(p *Pool, path string) {
	fillZero(reflect.ValueOf(p).Elem())
	key := join(path, "addresses")
	if len(p.Addresses) == 0 {
		if !f.has(key) {
			f.add(path, "addresses are missing", `addresses = ["10.9.0.0/24"]`)
		}
		return
	}
	p.Ranges, p.Gateway = nil, netip.Addr{}
	prefixes := 0
	for i, text := range p.Addresses {
		at := index(key, i)
		r, err := parseRange(text)
		if err != nil {
			f.fault(at, err)
			continue
		}
		if prefix, err := parsePrefix(text); err == nil {
			r = hosts(prefix)
			if prefixes++; prefixes == 1 && r.From != r.To {
				p.Gateway, r.From = r.From, r.From.Next()
			}
		}
		if len(p.Ranges) > 0 && p.Ranges[0].From.Is4() != r.From.Is4() {
			f.add(at, "a pool has addresses of one family", "make a second pool and name both in the connection")
			continue
		}
		p.Ranges = append(p.Ranges, r)
	}
}

// hosts returns the addresses of a prefix that hosts may have: without IPv4's network and
// broadcast addresses and IPv6's anycast address of the routers (RFC 4291 §2.6.1).
func hosts(p netip.Prefix) Range {
	r := Range{p.Addr(), lastOf(p)}
	if p.Addr().BitLen()-p.Bits() < 2 {
		return r // RFC 3021, RFC 6164
	}
	r.From = r.From.Next()
	if p.Addr().Is4() {
		r.To = r.To.Prev()
	}
	return r
}

// pools checks pools by themselves, against each other and against the connections.
func (f *faults) pools(c *Config) {
	used := map[string]bool{}
	for _, conn := range c.Connections {
		if conn != nil {
			for _, name := range conn.Pool {
				used[name] = true
			}
		}
	}
	type run struct {
		Range
		path, pool string
	}
	var runs []run
	for _, name := range slices.Sorted(maps.Keys(c.Pools)) {
		path, p := join("pool", name), c.Pools[name]
		if p == nil {
			f.add(path, "the pool is nil", "")
			continue
		}
		p.Name = name
		f.name(path, name)
		f.pool(p, path)
		f.groups(c, p.Groups, join(path, "groups"))
		if !used[name] {
			f.warn(path, "no connection names this pool")
		}
		for _, r := range p.Ranges {
			runs = append(runs, run{r, join(path, "addresses"), name})
		}
	}
	sort.SliceStable(runs, func(i, j int) bool { return runs[i].From.Less(runs[j].From) })
	for i := 1; i < len(runs); i++ {
		a, b := runs[i-1], runs[i]
		if !a.To.Less(b.From) {
			f.add(b.path, fmt.Sprintf("%v-%v overlaps %v-%v of pool %s", b.From, b.To, a.From, a.To, a.pool), "two peers would get the same address")
		}
		if b.To.Less(a.To) {
			runs[i].To = a.To
		}
	}
}
