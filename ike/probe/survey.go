package probe

import (
	"slices"

	"martlet/crypto/kex"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// Survey is what was found out about one gateway.
type Survey struct {
	// Own is what it chose of our own proposals; nil where it takes none of them.
	Own *suite.Suite
	// Described is the answer that opened an SA, whatever was offered; nil where none did.
	Described *Answer
	// Groups, Ciphers, Hashes and Additional are what it takes of what it was asked for: key
	// exchanges in its own order of preference, if it has one; ciphers; hashes, as PRF or for
	// integrity; and ML-KEM beside the first key exchange (RFC 9370 §2.2.2).
	Groups, Ciphers, Hashes, Additional []suite.Transform
	// Refusals are errors other than NO_PROPOSAL_CHOSEN.
	Refusals []message.NotifyType
	// Gateway is where it sends us; zero where it does not.
	Gateway message.GatewayID
	// Open are the questions that were not answered, or not put since others were not.
	Open []string
}

// Ask does one exchange, with a cookie where that is asked for. The error is that nothing came
// that answers.
type Ask func(Question) (*Answer, error)

// maxSilences is how many questions may stay without answer until no more are put.
const maxSilences = 2

// What is asked for, the strong first. The decoy is one of the groups, since a key exchange has to be
// of a group that is offered (RFC 7296 §3.4).
var (
	askedGroups = []uint16{
		suite.KEX25519, suite.KEECP256, suite.KEECP384, suite.KEECP521, suite.KEMODP2048, suite.KEMODP3072,
		suite.KEMODP4096, suite.KEMODP1536, suite.KEMODP1024, Decoy,
	}
	aeads = []suite.Transform{
		{Type: suite.TypeEncr, ID: suite.EncrAESGCM16, KeyLen: 256},
		{Type: suite.TypeEncr, ID: suite.EncrAESGCM16, KeyLen: 128},
		{Type: suite.TypeEncr, ID: suite.EncrChaCha20Poly1305},
	}
	others = []suite.Transform{
		{Type: suite.TypeEncr, ID: suite.EncrAESCBC, KeyLen: 256},
		{Type: suite.TypeEncr, ID: suite.EncrAESCBC, KeyLen: 128},
		{Type: suite.TypeEncr, ID: suite.Encr3DES},
	}
	hashes = []struct{ prf, integ suite.Transform }{
		{suite.Transform{Type: suite.TypePRF, ID: suite.PRFHMACSHA256}, suite.Transform{Type: suite.TypeInteg, ID: suite.IntegHMACSHA2_256_128}},
		{suite.Transform{Type: suite.TypePRF, ID: suite.PRFHMACSHA384}, suite.Transform{Type: suite.TypeInteg, ID: suite.IntegHMACSHA2_384_192}},
		{suite.Transform{Type: suite.TypePRF, ID: suite.PRFHMACSHA512}, suite.Transform{Type: suite.TypeInteg, ID: suite.IntegHMACSHA2_512_256}},
		{suite.Transform{Type: suite.TypePRF, ID: suite.PRFHMACSHA1}, suite.Transform{Type: suite.TypeInteg, ID: suite.IntegHMACSHA1_96}},
	}
)

// Alive is a question that every gateway answers in some way, and that leaves nothing there.
func Alive() Question { return Question{Offer: offer(everything(), askedGroups), Group: Decoy} }

// Take puts all questions, one after the other: whether our own proposals are taken, and what else
// is. They are 25 at most. One of them leaves a half-open SA; if the
// gateway takes the decoy, two do, and what would leave more is not asked.
func Take(own []suite.Proposal, ask Ask) *Survey {
	t := &taking{Survey: &Survey{}, ask: ask}
	t.own(own)
	t.groups()
	if t.Described == nil && len(t.Groups) > 0 {
		t.describe()
	}
	if len(t.Groups) > 0 {
		t.ciphers()
		t.hashes()
		t.additional()
	}
	return t.Survey
}

// Weak is one line for each algorithm that it takes and should not.
func (s *Survey) Weak() []string {
	return suite.Proposal{Transforms: slices.Concat(s.Groups, s.Ciphers, s.Hashes)}.Weak()
}

// taking is a Survey on the way.
type taking struct {
	*Survey
	ask      Ask
	silences int
	noDecoy  bool // the gateway takes the decoy: questions leave half-open SAs
}

// put puts a question; nil is no answer.
func (t *taking) put(what string, q Question) *Answer {
	if t.silences >= maxSilences || t.noDecoy && q.Group == Decoy {
		t.Open = append(t.Open, what)
		return nil
	}
	a, err := t.ask(q)
	if err != nil {
		t.silences++
		t.Open = append(t.Open, what)
		return nil
	}
	t.silences = 0
	switch a.Kind {
	case Took:
		if t.Described == nil {
			t.Described = a
		}
		t.noDecoy = t.noDecoy || q.Group == Decoy
	case Refused:
		if a.Refusal != message.NoProposalChosen && !slices.Contains(t.Refusals, a.Refusal) {
			t.Refusals = append(t.Refusals, a.Refusal)
		}
	case Redirected:
		t.Gateway = a.Gateway
	case OtherGroup, CookieAsked:
	}
	return a
}

// own offers what we would offer.
func (t *taking) own(of []suite.Proposal) {
	groups := usable(of)
	if len(groups) == 0 {
		return
	}
	q := Question{Offer: of, Group: groups[0], Redirect: true}
	a := t.put("our proposals", q)
	if a != nil && a.Kind == Redirected {
		q.Redirect = false
		a = t.put("our proposals", q)
	}
	if a != nil && a.Kind == OtherGroup && slices.Contains(groups, a.Group) {
		q.Group = a.Group
		a = t.put("our proposals", q)
	}
	if a != nil && a.Kind == Took {
		t.Own = &a.Suite
	}
}

// usable is the groups of proposals that are implemented.
func usable(of []suite.Proposal) []uint16 {
	var out []uint16
	for _, p := range of {
		for _, g := range p.KEs() {
			if kex.Supported(g) && !slices.Contains(out, g) {
				out = append(out, g)
			}
		}
	}
	return out
}

// groups offers all groups, then all but the one that was chosen, until none is taken any more.
func (t *taking) groups() {
	left := slices.Clone(askedGroups)
	for len(left) > 0 {
		a := t.put("groups", Question{Offer: offer(everything(), left), Group: Decoy})
		if a == nil || a.Kind != OtherGroup && a.Kind != Took {
			return
		}
		i := slices.Index(left, a.Group)
		if i < 0 {
			return // it wants a group that was not offered
		}
		t.Groups = append(t.Groups, suite.Transform{Type: suite.TypeKE, ID: a.Group})
		left = slices.Delete(left, i, i+1)
		if a.Kind == Took {
			return // what is left has no decoy any more
		}
	}
}

// describe has an SA opened by a gateway that takes none of our defaults: only who opens one says
// what he can do.
func (t *taking) describe() {
	group := t.Groups[0].ID
	t.put("extensions", Question{Offer: offer(everything(), []uint16{group}), Group: group})
}

func (t *taking) ciphers() {
	for _, c := range slices.Concat(aeads, others) {
		of := everything()
		of.ciphers = []suite.Transform{c}
		t.Ciphers = t.taken(t.Ciphers, c, offer(of, askedGroups))
	}
}

// hashes asks for each as PRF beside any integrity algorithm, and the other way round.
func (t *taking) hashes() {
	for _, h := range hashes {
		prf, integ := everything(), everything()
		prf.prfs = []suite.Transform{h.prf}
		integ.integs, integ.ciphers = []suite.Transform{h.integ}, others
		t.Hashes = t.taken(t.Hashes, h.integ, append(offer(prf, askedGroups), offer(integ, askedGroups)...))
	}
}

// additional asks for each ML-KEM where the gateway knows of additional key exchanges at all.
func (t *taking) additional() {
	if t.Described == nil || !slices.Contains(t.Described.Extensions, message.IntermediateExchangeSupported) {
		return
	}
	for _, id := range []uint16{suite.KEMLKEM768, suite.KEMLKEM1024} {
		x := suite.Transform{Type: suite.TypeAddKE1, ID: id}
		of := offer(everything(), askedGroups)
		for i := range of {
			of[i].Transforms = append(of[i].Transforms, x)
		}
		t.Additional = t.taken(t.Additional, suite.Transform{Type: suite.TypeKE, ID: id}, of)
	}
}

// taken adds what an offer is about to those that are taken, if it is.
func (t *taking) taken(to []suite.Transform, x suite.Transform, of []suite.Proposal) []suite.Transform {
	a := t.put(x.String(), Question{Offer: of, Group: Decoy})
	if a != nil && (a.Kind == OtherGroup || a.Kind == Took) && slices.Contains(askedGroups, a.Group) {
		return append(to, x)
	}
	return to
}

// algorithms are those of an offer, besides its groups.
type algorithms struct{ ciphers, prfs, integs []suite.Transform }

func everything() algorithms {
	a := algorithms{ciphers: slices.Concat(aeads, others)}
	for _, h := range hashes {
		a.prfs, a.integs = append(a.prfs, h.prf), append(a.integs, h.integ)
	}
	return a
}

// offer makes proposals of algorithms and groups. AEADs and other ciphers go apart (RFC 5282 §8).
func offer(a algorithms, groups []uint16) []suite.Proposal {
	var kes []suite.Transform
	for _, g := range groups {
		kes = append(kes, suite.Transform{Type: suite.TypeKE, ID: g})
	}
	var out []suite.Proposal
	isAEAD := func(c suite.Transform) bool { return slices.Contains(aeads, c) }
	if own := slices.DeleteFunc(slices.Clone(a.ciphers), func(c suite.Transform) bool { return !isAEAD(c) }); len(own) > 0 {
		out = append(out, suite.Proposal{Protocol: suite.ProtocolIKE, Transforms: slices.Concat(own, a.prfs, kes)})
	}
	if rest := slices.DeleteFunc(slices.Clone(a.ciphers), isAEAD); len(rest) > 0 {
		out = append(out, suite.Proposal{Protocol: suite.ProtocolIKE, Transforms: slices.Concat(rest, a.prfs, a.integs, kes)})
	}
	return out
}
