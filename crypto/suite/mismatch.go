package suite

import (
	"fmt"
	"slices"
	"strings"
)

// MismatchError tells that no offered proposal is acceptable. It keeps the slices
// that Select was given.
type MismatchError struct {
	Offered, Accepted []Proposal
}

// Error returns one line: what was offered, what is accepted. Long lists are cut.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("suite: no proposal chosen: offered %s; accepted %s; %s", list(e.Offered), list(e.Accepted), e.Fix())
}

// list names a few proposals in one line.
func list(all []Proposal) string {
	const most = 3
	if len(all) == 0 {
		return "nothing"
	}
	var names []string
	for _, p := range all[:min(most, len(all))] {
		names = append(names, name(p))
	}
	if n := len(all) - most; n > 0 {
		names = append(names, fmt.Sprintf("and %d more", n))
	}
	return strings.Join(names, ", ")
}

// name is a proposal's keywords, cut where a hostile peer sent very many.
func name(p Proposal) string {
	const most = 32
	if n := len(p.Transforms) - most; n > 0 {
		return fmt.Sprintf("%v and %d more", Proposal{p.Protocol, p.Transforms[:most]}, n)
	}
	return p.String()
}

// Table returns lines of text with two columns, offered and accepted, and a row for
// each transform type; rows that have nothing in common are marked. It ends with a
// line feed.
func (e *MismatchError) Table() string {
	var b strings.Builder
	row := func(label, offered, accepted, note string) {
		b.WriteString(strings.TrimRight(fmt.Sprintf("%-6s %-34s %-34s %s", label, offered, accepted, note), " "))
		b.WriteByte('\n')
	}
	row("", "offered", "accepted", "")
	for t := TypeEncr; t <= TypeAddKE7; t++ {
		offered, accepted := union(e.Offered, t), union(e.Accepted, t)
		if len(offered) == 0 && len(accepted) == 0 {
			continue
		}
		note := "<- nothing in common"
		if e.common(t) {
			note = ""
		}
		label := t.String()
		left, right := cells(offered), cells(accepted)
		for i := range max(len(left), len(right)) {
			var l, r string
			if i < len(left) {
				l = left[i]
			}
			if i < len(right) {
				r = right[i]
			}
			row(label, l, r, note)
			label, note = "", ""
		}
	}
	return b.String()
}

// common says whether an offered and an accepted proposal agree on type t.
func (e *MismatchError) common(t TransformType) bool {
	return slices.ContainsFunc(e.Offered, func(theirs Proposal) bool {
		return slices.ContainsFunc(e.Accepted, func(ours Proposal) bool {
			_, ok := pick(theirs.Types(t), ours.Types(t))
			return ok
		})
	})
}

// union returns the transforms of one type of all proposals, each once, the first
// first; only as many as are worth reading.
func union(all []Proposal, t TransformType) []Transform {
	const most = 64
	var out []Transform
	for _, p := range all {
		for _, x := range p.Types(t) {
			if len(out) < most && !slices.Contains(out, x) {
				out = append(out, x)
			}
		}
	}
	return out
}

// cells breaks the names of transforms into lines that fit a column of Table.
func cells(of []Transform) []string {
	const width, most = 34, 8
	if len(of) == 0 {
		return []string{"-"}
	}
	var lines []string
	line := ""
	for _, t := range of {
		word := t.String()
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if len(lines) == most {
			return append(lines, "...")
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// Fix returns one line: the smallest change that would make a proposal fit. That is
// the proposal to add to ours for the offer that lacks least; where all that was
// offered is weak or not implemented, it says so and names what the peer should
// offer.
func (e *MismatchError) Fix() string {
	wanted := "aes256gcm16-prfsha256-x25519"
	if len(e.Accepted) != 0 {
		wanted = example(simplest(e.Accepted))
	}
	if len(e.Offered) == 0 {
		return fmt.Sprintf("the peer offered nothing: make it offer %q", wanted)
	}
	best := nearest{cost: costImpossible}
	for _, offered := range e.Offered {
		for _, accepted := range append(slices.Clone(e.Accepted), Proposal{Protocol: offered.Protocol}) {
			if n := near(offered, accepted); n.cost < best.cost && n.writable() {
				best = n
			}
		}
	}
	if best.cost >= costUnimplemented {
		return fmt.Sprintf("nothing that the peer offers is complete and implemented here: make it offer %q", wanted)
	}
	fix := fmt.Sprintf("add %q to proposals", best.suite.String())
	if len(best.missing) != 0 {
		fix += " (only " + strings.Join(best.missing, " and ") + " not accepted)"
	}
	if len(best.weak) != 0 {
		return fmt.Sprintf("the peer offers only weak %s: better make it offer %q, else %s", strings.Join(best.weak, " and "), wanted, fix)
	}
	return fix
}

// What one algorithm costs in a fix.
const (
	costNew           = 1       // good, and not accepted so far
	costWeak          = 100     // weak, and not accepted so far
	costUnimplemented = 10_000  // no setting helps
	costImpossible    = 1 << 30 // no suite of that protocol at all
)

// nearest is a suite that the peer offers and what of it is not accepted.
type nearest struct {
	suite         Proposal
	missing, weak []string
	cost          int
}

// writable tells whether the suite may stand in a configuration, where it is one that we have at all.
func (n nearest) writable() bool {
	if n.cost >= costUnimplemented {
		return true
	}
	_, err := ParseProposal(n.suite.Protocol, n.suite.String())
	return err == nil
}

// near returns the suite of offered that needs the cheapest change to accepted: the
// better of one with an AEAD and one with a separate integrity algorithm.
func near(offered, accepted Proposal) nearest {
	best := nearest{cost: costImpossible}
	if offered.Protocol != accepted.Protocol || offered.hasUnknown() {
		return best
	}
	for _, withAEAD := range []bool{true, false} {
		if integs := offered.Types(TypeInteg); withAEAD && len(integs) != 0 && !allows(integs, Transform{}) {
			continue
		}
		s := Suite{Protocol: offered.Protocol}
		var n nearest
		for t := TypeEncr; t <= TypeAddKE7; t++ {
			from := slices.DeleteFunc(offered.Types(t), func(x Transform) bool {
				return t == TypeEncr && aead(x.ID) != withAEAD || t == TypeInteg && (x.ID == IntegNone) != withAEAD
			})
			x, cost := cheapest(from, accepted.Types(t))
			*s.slot(t) = x
			n.cost += cost
			switch {
			case cost == 0:
			case x == Transform{}:
				n.missing = append(n.missing, "a proposal without "+t.String())
			default:
				n.missing = append(n.missing, x.String())
				if x.weak() != "" {
					n.weak = append(n.weak, x.String())
				}
			}
		}
		if !s.complete() || n.cost >= best.cost {
			continue
		}
		// A word about sequence numbers is only wanted where they are the trouble.
		n.suite = s.withoutNone()
		if allows(accepted.Types(TypeESN), s.ESN) || len(accepted.Transforms) == 0 {
			n.suite = withBothESN(n.suite)
		}
		best = n
	}
	return best
}

// withoutNone returns the suite as a proposal that leaves out what is NONE.
func (s Suite) withoutNone() Proposal {
	p := s.Proposal()
	p.Transforms = slices.DeleteFunc(p.Transforms, func(t Transform) bool { return t.ID == 0 })
	return p
}

// withBothESN lets an ESP proposal take either length of sequence numbers, which is
// what its keywords mean without a word about it.
func withBothESN(p Proposal) Proposal {
	p = p.Without(TypeESN)
	if p.Protocol == ProtocolESP {
		p.Transforms = append(p.Transforms, bothESN...)
	}
	return p
}

// cheapest returns which of the offered transforms of one type costs least to
// accept, and what.
func cheapest(offered, accepted []Transform) (Transform, int) {
	if x, ok := pick(offered, accepted); ok {
		return x, 0
	}
	var best Transform
	least := costUnimplemented + 1
	for _, x := range offered {
		cost := costNew
		switch {
		case x.ID != 0 && !x.implemented():
			cost = costUnimplemented
		case x.weak() != "":
			cost = costWeak
		}
		if cost < least {
			best, least = x, cost
		}
	}
	if len(offered) == 0 {
		least = costNew // the type goes unused
	}
	return best, least
}

// simplest returns the first proposal that every peer can offer: without additional key
// exchanges, if there is one.
func simplest(accepted []Proposal) Proposal {
	for _, p := range accepted {
		if classic, ok := p.Classic(); ok {
			return classic
		}
	}
	return accepted[0]
}

// example narrows a proposal to the first of each type, as something to copy.
func example(p Proposal) string {
	var s Suite
	for _, t := range p.Transforms {
		if slot := s.slot(t.Type); slot != nil && *slot == (Transform{}) && t.ID != 0 {
			*slot = t
		}
	}
	s.Protocol = p.Protocol
	return withBothESN(s.Proposal()).String()
}
