package suite

import (
	"fmt"
	"slices"
	"strings"
)

// Types returns the transforms of one type, in order of preference.
func (p Proposal) Types(t TransformType) []Transform {
	var of []Transform
	for _, x := range p.Transforms {
		if x.Type == t {
			of = append(of, x)
		}
	}
	return of
}

// KEs returns the key exchange methods in order of preference, KENone included
// where it stands in the proposal.
func (p Proposal) KEs() []uint16 {
	var methods []uint16
	for _, x := range p.Transforms {
		if x.Type == TypeKE {
			methods = append(methods, x.ID)
		}
	}
	return methods
}

// Without returns a copy that has no transforms of type t.
func (p Proposal) Without(t TransformType) Proposal {
	return Proposal{
		Protocol: p.Protocol,
		Transforms: slices.DeleteFunc(slices.Clone(p.Transforms), func(x Transform) bool {
			return x.Type == t
		}),
	}
}

// WithoutKE returns a copy without key exchange, the first and additional ones: the
// proposal of a first Child SA (RFC 7296 §1.2).
func (p Proposal) WithoutKE() Proposal {
	return Proposal{
		Protocol: p.Protocol,
		Transforms: slices.DeleteFunc(slices.Clone(p.Transforms), func(x Transform) bool {
			return x.Type == TypeKE || x.Type.IsAddKE()
		}),
	}
}

// Classic returns a copy without additional key exchanges, for a peer that does not
// know them; ok is false where p insists on one.
func (p Proposal) Classic() (classic Proposal, ok bool) {
	for t := TypeAddKE1; t <= TypeAddKE7; t++ {
		if !allows(p.Types(t), Transform{}) {
			return Proposal{}, false
		}
	}
	return Proposal{
		Protocol: p.Protocol,
		Transforms: slices.DeleteFunc(slices.Clone(p.Transforms), func(x Transform) bool {
			return x.Type.IsAddKE()
		}),
	}, true
}

// HasAddKE says whether p names additional key exchanges, be it NONE.
func (p Proposal) HasAddKE() bool {
	return slices.ContainsFunc(p.Transforms, func(x Transform) bool { return x.Type.IsAddKE() })
}

// PostQuantum says whether every choice within p has an ML-KEM key exchange.
func (p Proposal) PostQuantum() bool {
	for t := TypeKE; t <= TypeAddKE7; t++ {
		of := p.Types(t)
		if (t == TypeKE || t.IsAddKE()) && len(of) > 0 && !slices.ContainsFunc(of, func(x Transform) bool {
			return x.ID != KEMLKEM768 && x.ID != KEMLKEM1024
		}) {
			return true
		}
	}
	return false
}

// Suite turns a proposal that has at most one transform of each type, as a
// responder answers, into a Suite. A proposal that leaves a choice, has a type that
// is not known, or misses what its protocol must have, is an error.
func (p Proposal) Suite() (Suite, error) {
	s := Suite{Protocol: p.Protocol}
	for _, x := range p.Transforms {
		slot := s.slot(x.Type)
		switch {
		case slot == nil:
			return Suite{}, fmt.Errorf("suite: transform type %d is not known", x.Type)
		case *slot != (Transform{}) && *slot != x:
			return Suite{}, fmt.Errorf("suite: proposal leaves a choice between %v and %v, expected one transform of each type", *slot, x)
		}
		*slot = x
	}
	if !s.complete() {
		return Suite{}, fmt.Errorf("suite: %v proposal %q misses a mandatory transform type", p.Protocol, p)
	}
	return s, nil
}

// String writes the proposal in strongSwan's keywords, in the shortest form that
// ParseProposal reads back as the same. An empty one is "(empty)".
func (p Proposal) String() string {
	if len(p.Transforms) == 0 {
		return "(empty)"
	}
	var words []string
	add := func(of []Transform) {
		for _, t := range of {
			words = append(words, t.String())
		}
	}
	integ := slices.DeleteFunc(p.Types(TypeInteg), func(t Transform) bool { return t.ID == IntegNone })
	prf := p.Types(TypePRF)
	add(p.Types(TypeEncr))
	add(integ)
	if !slices.Equal(prf, prfsOf(integ)) {
		add(prf)
	}
	add(p.Types(TypeKE))
	switch esn := p.Types(TypeESN); {
	case slices.Equal(esn, bothESN):
	case len(esn) == 0 && p.Protocol != ProtocolIKE:
		words = append(words, "noesn")
	default:
		add(esn)
	}
	for _, t := range p.Transforms {
		if t.Type == 0 || t.Type > TypeESN {
			words = append(words, t.String())
		}
	}
	return strings.Join(words, "-")
}

// String writes the suite in strongSwan's keywords.
func (s Suite) String() string { return s.Proposal().String() }

// Proposal returns the suite as a proposal without choice, as a responder answers.
func (s Suite) Proposal() Proposal {
	p := Proposal{Protocol: s.Protocol}
	for t := TypeEncr; t <= TypeAddKE7; t++ {
		if x := *s.slot(t); x != (Transform{}) {
			p.Transforms = append(p.Transforms, x)
		}
	}
	return p
}

// Narrows says whether s is a choice that p allows: the initiator checks with it
// what the responder picked (RFC 7296 §2.7). A type that is absent and one that is
// NONE (0) are the same.
func (s Suite) Narrows(p Proposal) bool {
	if s.Protocol != p.Protocol || !s.complete() {
		return false
	}
	for t := TypeEncr; t <= TypeAddKE7; t++ {
		if x := *s.slot(t); !allows(p.Types(t), x) {
			return false
		}
	}
	return !p.hasUnknown()
}

// slot returns where s keeps transforms of type t, nil for a type without place.
func (s *Suite) slot(t TransformType) *Transform {
	switch {
	case t == TypeEncr:
		return &s.Encr
	case t == TypePRF:
		return &s.PRF
	case t == TypeInteg:
		return &s.Integ
	case t == TypeKE:
		return &s.KE
	case t == TypeESN:
		return &s.ESN
	case t.IsAddKE():
		return &s.AddKE[t-TypeAddKE1]
	}
	return nil
}

// complete says whether s has every type its protocol must have, and none that it
// must not have (RFC 7296 §3.3.3; RFC 5282 §8 for the integrity beside an AEAD).
func (s *Suite) complete() bool {
	if s.Encr.ID == 0 || aead(s.Encr.ID) != (s.Integ.ID == IntegNone) || !s.distinctKEs() {
		return false
	}
	switch s.Protocol {
	case ProtocolIKE:
		return s.PRF.ID != 0 && s.KE.ID != KENone && s.ESN == (Transform{}) && !implicitIV(s.Encr.ID)
	case ProtocolESP:
		return s.PRF == (Transform{})
	}
	return false
}

// AddKEs returns the additional key exchange methods in the order in which they are
// done (RFC 9370 §2.2.2).
func (s Suite) AddKEs() []uint16 {
	var methods []uint16
	for _, x := range s.AddKE {
		if x.ID != KENone {
			methods = append(methods, x.ID)
		}
	}
	return methods
}

// distinctKEs says whether no key exchange method is there twice, and no additional one
// without a first one (RFC 9370 §2.2.2).
func (s *Suite) distinctKEs() bool {
	more := s.AddKEs()
	for i, m := range more {
		if m == s.KE.ID || slices.Contains(more[:i], m) {
			return false
		}
	}
	return len(more) == 0 || s.KE.ID != KENone
}

// hasUnknown says whether p has a transform type without place in a Suite; such a
// proposal must be refused whole (RFC 7296 §3.3.6).
func (p Proposal) hasUnknown() bool {
	var s Suite
	return slices.ContainsFunc(p.Transforms, func(t Transform) bool { return s.slot(t.Type) == nil })
}

// allows says whether x is among the alternatives; no alternatives at all means
// that the type is not wanted, which is NONE (0).
func allows(of []Transform, x Transform) bool {
	if x.ID == 0 {
		return len(of) == 0 || slices.ContainsFunc(of, func(t Transform) bool { return t.ID == 0 })
	}
	return slices.Contains(of, x)
}

// bothESN is what an ESP proposal without a word about it offers: either length of
// sequence numbers, the long one first. It is never written to.
var bothESN = []Transform{{TypeESN, ESNYes, 0}, {TypeESN, ESNNo, 0}}

// prfsOf returns the PRFs that follow from integrity algorithms, in their order.
func prfsOf(integ []Transform) []Transform {
	var prfs []Transform
	for _, t := range integ {
		if prf := prfOf(t.ID); prf != (Transform{}) && !slices.Contains(prfs, prf) {
			prfs = append(prfs, prf)
		}
	}
	return prfs
}
