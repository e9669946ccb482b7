package suite

import "slices"

// Choice is what was selected: which offered proposal, and the algorithms out of it.
type Choice struct {
	Index int // into the offered proposals; the wire number is the proposal's own
	Suite Suite
}

// Select chooses one offered proposal and one algorithm of each of its types, all
// of which one of the accepted proposals allows (RFC 7296 §2.7). The order of
// preference is that of accept, proposals first and transforms within; with
// preferOffered that of the offer.
//
// A type that is missing and the alternative NONE (0) are the same: an AEAD may
// come with integrity NONE, an ESP proposal without key exchange, and one without
// a word about extended sequence numbers means 32-bit ones. The suite repeats a
// NONE that was offered, as the answer must (RFC 7296 §3.3.6). Proposals that miss
// a mandatory type, or bring one that is unknown or unexpected, are never chosen.
//
// Where nothing fits the error is a *MismatchError.
func Select(offered, accept []Proposal, preferOffered bool) (Choice, error) {
	if preferOffered {
		for i, theirs := range offered {
			for _, ours := range accept {
				if s, ok := intersect(theirs, theirs, ours); ok {
					return Choice{i, s}, nil
				}
			}
		}
	} else {
		for _, ours := range accept {
			var best Choice
			var rank []int
			for i, theirs := range offered {
				s, ok := intersect(theirs, ours, theirs)
				if !ok {
					continue
				}
				if r := ours.rank(s); rank == nil || slices.Compare(r, rank) < 0 {
					best, rank = Choice{i, s}, r
				}
			}
			if rank != nil {
				return best, nil
			}
		}
	}
	return Choice{}, &MismatchError{Offered: offered, Accepted: accept}
}

// rank is the places of a suite's algorithms in p, which has them all; less is better.
func (p Proposal) rank(s Suite) []int {
	var out []int
	for _, x := range append([]Transform{s.Encr, s.Integ, s.PRF, s.KE, s.ESN}, s.AddKE[:]...) {
		out = append(out, slices.Index(p.Transforms, x))
	}
	return out
}

// intersect returns the best suite that both proposals allow, in the order of
// first. offered is the one of the two whose explicit NONE is repeated.
func intersect(offered, first, second Proposal) (Suite, bool) {
	if first.Protocol != second.Protocol || offered.hasUnknown() {
		return Suite{}, false
	}
	common := Suite{Protocol: first.Protocol}
	for _, t := range []TransformType{TypePRF, TypeESN} {
		x, ok := pick(first.Types(t), second.Types(t))
		if !ok {
			return Suite{}, false
		}
		*common.slot(t) = echo(offered, t, x)
	}
	if !pickKEs(&common, offered, first, second, TypeKE) {
		return Suite{}, false
	}
	// The integrity algorithm depends on the encryption algorithm, so an offer that
	// mixes AEADs and others is tried cipher by cipher.
	none, allowsNone := commonInteg(first, second, true)
	mac, allowsMAC := commonInteg(first, second, false)
	none = echo(offered, TypeInteg, none)
	secondEncr := second.Types(TypeEncr)
	for _, encr := range first.Types(TypeEncr) {
		s := common
		s.Encr, s.Integ = encr, mac
		if aead(encr.ID) {
			s.Integ = none
		}
		if aead(encr.ID) && !allowsNone || !aead(encr.ID) && !allowsMAC {
			continue
		}
		if slices.Contains(secondEncr, encr) && s.complete() {
			return s, true
		}
	}
	return Suite{}, false
}

// pickKEs fills the key exchanges of s from type t on: each method once only (RFC 9370
// §2.2.2), so that a choice may have to be taken back. The number of ways is bounded by
// our own proposals: what only the peer has is no choice.
func pickKEs(s *Suite, offered, first, second Proposal, t TransformType) bool {
	next := t + 1
	switch t {
	case TypeKE:
		next = TypeAddKE1
	case TypeAddKE7 + 1:
		return true
	}
	theirs := second.Types(t)
	try := func(x Transform) bool {
		*s.slot(t) = echo(offered, t, x)
		return allows(theirs, x) && s.distinctKEs() && pickKEs(s, offered, first, second, next)
	}
	ours := first.Types(t)
	if len(ours) == 0 && try(Transform{}) || slices.ContainsFunc(ours, try) {
		return true
	}
	*s.slot(t) = Transform{}
	return false
}

// commonInteg returns the first integrity algorithm of first that second allows too:
// NONE, explicit or by absence, for an AEAD, and one that is not NONE for the rest.
func commonInteg(first, second Proposal, forAEAD bool) (Transform, bool) {
	theirs := second.Types(TypeInteg)
	if forAEAD {
		none := Transform{Type: TypeInteg}
		return none, allows(first.Types(TypeInteg), none) && allows(theirs, none)
	}
	for _, x := range first.Types(TypeInteg) {
		if x.ID != IntegNone && allows(theirs, x) {
			return x, true
		}
	}
	return Transform{}, false
}

// pick returns the first of first that second allows. Absence allows NONE; the
// result is then zero.
func pick(first, second []Transform) (Transform, bool) {
	if len(first) == 0 {
		return Transform{}, allows(second, Transform{})
	}
	for _, x := range first {
		if allows(second, x) {
			return x, true
		}
	}
	return Transform{}, false
}

// echo returns x as the answer must show it: a NONE only if it was offered.
func echo(offered Proposal, t TransformType, x Transform) Transform {
	if x.ID != 0 {
		return x
	}
	for _, o := range offered.Types(t) {
		if o.ID == 0 {
			return o
		}
	}
	return Transform{}
}
