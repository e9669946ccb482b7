package firewall

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// remains are the parts of a table that may be there already.
type remains struct {
	chains []string
	hole   bool
	known  bool // there they are, and so is the table
}

// unknown is what a table may have of which nothing is known.
func unknown(t table) remains { return remains{chains: chainNames, hole: t.family == "inet"} }

// difference leaves out of a table what is in force of the former one, and has nothing but the rest of
// that remain. The hole is no such part, since its elements pass away.
func difference(t, former table) (table, remains) {
	rest := remains{hole: former.hole, known: true}
	for _, c := range former.chains {
		if !slices.ContainsFunc(t.chains, c.equal) {
			rest.chains = append(rest.chains, c.name)
		}
	}
	t.chains = slices.DeleteFunc(slices.Clone(t.chains), func(c chain) bool { return slices.ContainsFunc(former.chains, c.equal) })
	return t, rest
}

func (c chain) equal(other chain) bool {
	return c.name == other.name && c.kind == other.kind && c.hook == other.hook && c.priority == other.priority &&
		slices.EqualFunc(c.rules, other.rules, slices.Equal[rule])
}

// build makes a table what t says, with a hole for so long. A chain that may be there already stays
// and gets other rules: were it replaced by another one, a packet on its way could meet neither the
// old rules nor the new ones.
func build(conn *nftables.Conn, t table, former remains, hole time.Duration) error {
	made := t.kernel()
	if !former.known {
		conn.AddTable(made)
	}
	set := holeSet(made)
	if t.hole {
		// Adding one that exists changes nothing, and then it does exist.
		if err := conn.AddSet(set, nil); err != nil {
			return err
		}
		conn.FlushSet(set)
		if hole > 0 {
			if err := conn.SetAddElements(set, holeElements(hole)); err != nil {
				return err
			}
		}
	}
	for _, name := range former.chains {
		if !slices.Contains(t.chainNames(), name) {
			conn.DelChain(conn.AddChain(&nftables.Chain{Name: name, Table: made}))
		}
	}
	policy := nftables.ChainPolicyAccept
	for _, c := range t.chains {
		point, priority := hooks[c.hook], hookPriorities[c.priority]
		if t.family == "arp" {
			point, priority = arpInput, nftables.ChainPriorityFilter
		}
		in := &nftables.Chain{
			Name:     c.name,
			Table:    made,
			Type:     nftables.ChainType(c.kind),
			Hooknum:  point,
			Priority: priority,
			Policy:   &policy,
		}
		stays := slices.Contains(former.chains, c.name)
		if !stays || !former.known {
			conn.AddChain(in)
		}
		if stays {
			conn.FlushChain(in)
		}
		for _, line := range c.rules {
			var exprs []expr.Any
			for _, part := range line {
				exprs = append(exprs, compile(part)...)
			}
			conn.AddRule(&nftables.Rule{Table: made, Chain: in, Exprs: exprs})
		}
	}
	if former.hole && !t.hole { // no rule names it any more
		if err := conn.AddSet(set, nil); err != nil {
			return err
		}
		conn.DelSet(set)
	}
	return nil
}

// holeSet holds the protocols and ports that pass a hole. The kernel takes each out when its time is
// over, whether we live or not.
func holeSet(t *nftables.Table) *nftables.Set {
	return &nftables.Set{
		Table: t, Name: "hole", HasTimeout: true, Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService),
	}
}

// holeElements last so long. Each part of a key begins on 4 octets.
func holeElements(last time.Duration) []nftables.SetElement {
	var out []nftables.SetElement
	for _, p := range portal {
		key := binary.BigEndian.AppendUint16([]byte{p.protocol, 0, 0, 0}, p.port)
		out = append(out, nftables.SetElement{Key: append(key, 0, 0), Timeout: last})
	}
	return out
}
