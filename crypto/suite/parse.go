package suite

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// ParseProposal reads one proposal for IKE or ESP in strongSwan's keywords, joined
// by dashes, such as aes256gcm16-prfsha256-x25519. Several words of one kind are
// alternatives in order of preference. ke1_ to ke7_ before a key exchange makes it an
// additional one (RFC 9370), as in x25519-ke1_mlkem768; ke1_none beside it lets the peer
// go without.
//
// As in strongSwan, the PRF of an IKE proposal follows its integrity algorithms
// unless it is named, also beside an AEAD, where the integrity algorithm says
// nothing else and is dropped. Otherwise than in strongSwan, an ESP proposal
// without esn or noesn offers both, esn first: peers that know only 32-bit numbers
// then still choose it.
//
// The error names everything wrong at once, with a hint for each.
func ParseProposal(p Protocol, s string) (Proposal, error) {
	if p != ProtocolIKE && p != ProtocolESP {
		return Proposal{}, fmt.Errorf("suite: proposals are for IKE or ESP, not for %v", p)
	}
	out := Proposal{Protocol: p}
	var faults []string
	for word := range strings.SplitSeq(strings.ToLower(strings.TrimSpace(s)), "-") {
		t, fault := parseWord(word)
		switch {
		case fault != "":
			faults = append(faults, fault)
		case !slices.Contains(out.Transforms, t):
			out.Transforms = append(out.Transforms, t)
		}
	}
	// What is missing cannot be told as long as a word is not understood.
	if len(faults) == 0 {
		out, faults = finish(out)
	}
	if len(faults) != 0 {
		return Proposal{}, fmt.Errorf("suite: %v proposal %q: %s", p, s, strings.Join(faults, "; "))
	}
	return out, nil
}

// ParseProposals reads a list of proposals. The word default stands for all of
// defaults, and an empty list means defaults alone. Repetitions are dropped. The
// error joins those of all proposals.
func ParseProposals(p Protocol, list []string, defaults []Proposal) ([]Proposal, error) {
	if len(list) == 0 {
		list = []string{"default"}
	}
	var out []Proposal
	var faults []error
	add := func(x Proposal) {
		same := func(y Proposal) bool { return slices.Equal(x.Transforms, y.Transforms) }
		if !slices.ContainsFunc(out, same) {
			out = append(out, x)
		}
	}
	for _, s := range list {
		if strings.EqualFold(strings.TrimSpace(s), "default") {
			for _, d := range defaults {
				add(d)
			}
			continue
		}
		x, err := ParseProposal(p, s)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		add(x)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return out, nil
}

// parseWord reads one keyword; the second result says what is wrong with it.
func parseWord(word string) (Transform, string) {
	if word == "" {
		return Transform{}, "empty keyword: write keywords joined by single dashes, e.g. aes256gcm16-prfsha256-x25519"
	}
	if t, method, ok := cutAddKE(word); ok {
		if method == "none" {
			return Transform{Type: t}, ""
		}
		x, fault := parseWord(method)
		if fault == "" && x.Type != TypeKE {
			fault = fmt.Sprintf("%s is no key exchange: write one behind %v_, e.g. %v_mlkem768", method, t, t)
		}
		return Transform{Type: t, ID: x.ID}, fault
	}
	for _, k := range keywords {
		if k.name != word {
			continue
		}
		if k.refusal != "" {
			return Transform{}, word + " is " + k.refusal
		}
		return k.t, ""
	}
	if strings.HasSuffix(word, "!") {
		return Transform{}, fmt.Sprintf("unknown keyword %q: drop the %q, only listed proposals are accepted anyway", word, "!")
	}
	if s := suggest(word); s != "" {
		return Transform{}, fmt.Sprintf("unknown keyword %q, did you mean %q?", word, s)
	}
	return Transform{}, fmt.Sprintf("unknown keyword %q, expected strongSwan's such as aes256gcm16, prfsha256 or x25519", word)
}

// cutAddKE takes strongSwan's prefix of an additional key exchange, ke1_ to ke7_, off.
func cutAddKE(word string) (t TransformType, method string, ok bool) {
	for t := TypeAddKE1; t <= TypeAddKE7; t++ {
		if method, ok := strings.CutPrefix(word, t.String()+"_"); ok {
			return t, method, true
		}
	}
	return 0, "", false
}

// finish derives what is not written and lists what is missing or too much.
func finish(p Proposal) (Proposal, []string) {
	var faults []string
	fault := func(s string) { faults = append(faults, s) }
	encr, integ := p.Types(TypeEncr), p.Types(TypeInteg)
	article := "an " + p.Protocol.String() + " proposal"

	withMAC := slices.DeleteFunc(slices.Clone(encr), func(t Transform) bool { return aead(t.ID) })
	switch {
	case len(encr) == 0:
		fault(article + " needs an encryption algorithm, e.g. aes256gcm16")
	case len(withMAC) != 0 && len(withMAC) != len(encr):
		fault(fmt.Sprintf("%v needs an integrity algorithm and the others bring their own: write two proposals, one for each kind", withMAC[0]))
	case len(withMAC) != 0 && len(integ) == 0:
		fault(fmt.Sprintf("%v needs an integrity algorithm, e.g. -sha256", withMAC[0]))
	}

	if p.Protocol == ProtocolIKE {
		if i := slices.IndexFunc(encr, func(t Transform) bool { return implicitIV(t.ID) }); i >= 0 {
			fault(encr[i].String() + " is for ESP only: IKE has no sequence number to take the IV from (RFC 8750 §8)")
		}
		if len(p.Types(TypePRF)) == 0 {
			p.Transforms = append(p.Transforms, prfsOf(integ)...)
			if len(integ) == 0 && len(encr) != 0 && len(withMAC) == 0 {
				fault(article + " needs a pseudo-random function beside " + encr[0].String() + ", e.g. -prfsha256")
			}
		}
		switch kes := p.KEs(); {
		case len(kes) == 0:
			fault(article + " needs a key exchange group, e.g. -x25519")
		case slices.Contains(kes, KENone):
			fault(article + " cannot go without key exchange: remove modpnone")
		}
		for _, x := range p.Types(TypeKE) {
			if x.ID == KEMLKEM768 || x.ID == KEMLKEM1024 {
				// IKE_SA_INIT cannot be fragmented (RFC 7383 §2), IKE_INTERMEDIATE can.
				fault(fmt.Sprintf("%v is too large for the first message of an IKE SA: write x25519-ke1_%v", x, x))
			}
		}
		if esn := p.Types(TypeESN); len(esn) != 0 {
			fault(fmt.Sprintf("%v belongs in an ESP proposal", esn[0]))
		}
	} else {
		if prf := p.Types(TypePRF); len(prf) != 0 {
			fault(fmt.Sprintf("%v belongs in an IKE proposal: an ESP proposal has no pseudo-random function", prf[0]))
		}
		if len(p.Types(TypeESN)) == 0 {
			p.Transforms = append(p.Transforms, bothESN...)
		}
	}
	if len(withMAC) == 0 {
		p = p.Without(TypeInteg)
	}
	switch {
	case len(p.KEs()) == 0 && p.HasAddKE():
		fault("additional key exchanges go beside a first one, e.g. x25519-ke1_mlkem768")
	case len(faults) == 0:
		if _, ok := intersect(p, p, p); !ok {
			fault("each key exchange can be done once only: name another one in ke1_ to ke7_ (RFC 9370 §2.2.2)")
		}
	}
	sort.SliceStable(p.Transforms, func(i, j int) bool { return p.Transforms[i].Type < p.Transforms[j].Type })
	return p, faults
}

// suggest returns the keyword that was probably meant: the first that begins with
// word, else the nearest within a third of its letters, else none. What is refused
// is not suggested.
func suggest(word string) string {
	best, least := "", len(word)/3+1
	for _, k := range keywords {
		if k.refusal != "" {
			continue
		}
		if len(word) >= 3 && strings.HasPrefix(k.name, word) {
			return k.name
		}
		if d := Distance(word, k.name, least); d < least {
			best, least = k.name, d
		}
	}
	return best
}

// Distance counts the insertions, deletions and replacements of an octet that
// turn a into b, for hints at what was meant. It gives up with limit where the lengths
// differ by as much.
func Distance(a, b string, limit int) int {
	if max(len(a)-len(b), len(b)-len(a)) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
