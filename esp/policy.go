package esp

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
)

// policy finds the child for an outbound packet. It is immutable: whoever has one
// may use it without a lock, and a change makes another that shares most of it.
type policy struct {
	table *bart.Table[*candidates]
}

// candidates are the children whose remote selectors hold a prefix, in the order in
// which they are asked. Immutable.
type candidates struct {
	prefix   netip.Prefix
	children []*child
}

func newPolicy() *policy { return &policy{table: new(bart.Table[*candidates])} }

// lookup returns the child for a packet, or nil. The longest prefix that holds the
// destination goes first; where its children want other protocols, ports or
// sources, the next shorter one does.
func (p *policy) lookup(f *Flow) *child {
	c, ok := p.table.Lookup(f.Dst)
	for ok {
		for _, ch := range c.children {
			if f.Within(ch.local, ch.remote) {
				if ch.group != nil {
					return ch.group.pick(f, ch)
				}
				return ch
			}
		}
		bits := c.prefix.Bits() - 1
		if bits < 0 {
			return nil
		}
		_, c, ok = p.table.LookupPrefixLPM(netip.PrefixFrom(f.Dst, bits))
	}
	return nil
}

// with returns a policy that has ch too: before others of its rank where it wants
// less (narrowness), and behind those that were there before.
func (p *policy) with(ch *child) *policy {
	return p.edit(ch, func(list []*child) []*child {
		if slices.Contains(list, ch) {
			return list // two selectors of ch share the prefix
		}
		return arrange(append(slices.Clip(list), ch))
	})
}

// without returns a policy that has ch no more.
func (p *policy) without(ch *child) *policy {
	return p.edit(ch, func(list []*child) []*child {
		return slices.DeleteFunc(slices.Clone(list), func(o *child) bool { return o == ch })
	})
}

// front returns a policy in which ch goes before all children that want as much.
func (p *policy) front(ch *child) *policy {
	return p.edit(ch, func(list []*child) []*child {
		rest := slices.DeleteFunc(slices.Clone(list), func(o *child) bool { return o == ch })
		return arrange(slices.Insert(rest, 0, ch))
	})
}

func arrange(list []*child) []*child {
	slices.SortStableFunc(list, func(a, b *child) int { return cmp.Compare(b.narrow, a.narrow) })
	return list
}

// edit applies change to the candidates of each prefix of ch's remote selectors.
func (p *policy) edit(ch *child, change func([]*child) []*child) *policy {
	t := p.table
	for i := range ch.remote {
		for _, prefix := range ch.remote[i].prefixes() {
			var list []*child
			if old, ok := t.Get(prefix); ok {
				list = old.children
			}
			if list = change(list); len(list) == 0 {
				t = t.DeletePersist(prefix)
			} else {
				t = t.InsertPersist(prefix, &candidates{prefix: prefix, children: list})
			}
		}
	}
	return &policy{table: t}
}

// behind tells whether some child of an earlier installation is asked before ch
// anywhere.
func (p *policy) behind(ch *child) bool {
	for i := range ch.remote {
		for _, prefix := range ch.remote[i].prefixes() {
			c, ok := p.table.Get(prefix)
			if !ok {
				continue
			}
			for _, o := range c.children {
				if o == ch {
					break
				}
				if o.order < ch.order && o.narrow == ch.narrow {
					return true
				}
			}
		}
	}
	return false
}
