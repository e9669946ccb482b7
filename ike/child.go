package ike

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// child is one child SA pair that is installed.
type child struct {
	ChildInfo
	sa       *ikeSA // nil: it is no more, though something that comes late may still be taken
	cfg      *ChildConfig
	deleting bool // our DELETE is on its way
	quiet    bool // its coming was not reported, nor is its end
	in, out  ChildKeys

	// Who opened it by CREATE_CHILD_SA, and the lower nonce of that; handed on by
	// rekeying. nil for one of IKE_AUTH.
	ours   bool
	lowest []byte

	successor     *child // has its place
	rekeyAt, ends time.Time
	failures      int // of rekeying, one after the other
}

// inherit makes c the heir of the child whose place it takes.
func (c *child) inherit(old *child) { c.ours, c.lowest = old.ours, old.lowest }

// childOffer is a child that we proposed and that was not answered yet. The SPI is
// reserved.
type childOffer struct {
	cfg       *ChildConfig
	spi       uint32
	proposals []suite.Proposal
	tsi, tsr  []message.Selector
	began     time.Time
	resource  bool // others like it may stand beside it
	slot      int  // of those
}

// childAnswer is a child that both sides agreed on, before its keys.
type childAnswer struct {
	cfg           *ChildConfig
	suite         suite.Suite
	spiIn, spiOut uint32
	local, remote []message.Selector
	more          bool // another child could have some of what was left out (RFC 7296 §2.9)
	began         time.Time
	unpadded      bool // the peer takes no padding against traffic analysis

	resource bool // one of a group (RFC 9611 §3)
	group    ChildID
	slot     int
}

// offerChild reserves an SPI and makes the offer of a child of ours. Proposals for the
// child in IKE_AUTH have no key exchange (RFC 7296 §1.2).
func (s *ikeSA) offerChild(cfg *ChildConfig, of selectorOffer, withKE bool) *childOffer {
	o := &childOffer{cfg: cfg, spi: s.e.newESPSPI(), began: s.e.now, tsi: of.local, tsr: of.remote, resource: cfg.Parallel > 1}
	o.proposals = s.followable(cfg.Proposals)
	if !withKE {
		o.proposals = withoutKE(cfg.Proposals)
	}
	return o
}

// payloads is SA, TSi and TSr of the offer; what follows SA in the order of the RFC
// goes between.
func (o *childOffer) payloads(between ...message.Payload) []message.Payload {
	ps := []message.Payload{wireProposals(o.proposals, spiBytes(o.spi))}
	ps = append(ps, between...)
	ps = append(ps, &message.TS{Selectors: o.tsi}, &message.TS{Responder: true, Selectors: o.tsr})
	if o.resource {
		ps = append(ps, resourceInfo(o.slot))
	}
	return ps
}

func spiBytes(spi uint32) []byte { return binary.BigEndian.AppendUint32(nil, spi) }

// acceptAnswer checks what a responder made of our offer. It must be no more than we
// offered, in algorithms and in selectors.
func (s *ikeSA) acceptAnswer(o *childOffer, ps []message.Payload) (*childAnswer, *Error) {
	sa, ok := message.Find[*message.SA](ps)
	tsi, tsr := message.FindTS(ps, false), message.FindTS(ps, true)
	if !ok || tsi == nil || tsr == nil {
		return nil, errChildIncomplete()
	}
	got, spi, ok := chosen(sa, o.proposals)
	if !ok || len(spi) != 4 {
		return nil, errBadChildChoice(o, sa)
	}
	if !within(tsi.Selectors, o.tsi) || !within(tsr.Selectors, o.tsr) {
		return nil, errSelectorsWidened(o, tsi.Selectors, tsr.Selectors)
	}
	// What was offered as "all addresses" stands for the virtual ones, which are
	// known by now.
	local := narrow(tsi.Selectors, s.localSelectors(o.cfg))
	if len(local) == 0 {
		return nil, errSelectors(o.tsi, tsi.Selectors, false)
	}
	return &childAnswer{
		cfg: o.cfg, suite: got, spiIn: o.spi, spiOut: binary.BigEndian.Uint32(spi),
		// Those that others hold are of no use: the packet that wanted the child, say.
		local: local, remote: narrow(tsr.Selectors, o.tsr), began: o.began, unpadded: refusesTFC(ps),
		more:     message.FindNotify(ps, message.AdditionalTSPossible) != nil,
		resource: o.resource && hasResourceInfo(ps),
	}, nil
}

// childRequest is a peer's request for a child.
type childRequest struct {
	sa       *message.SA
	tsi, tsr []message.Selector
	first    bool   // in IKE_AUTH, without key exchange
	group    uint16 // of the KE payload, KENone without
	unpadded bool
	resource bool // one of a group
}

// refusesTFC tells whether a peer will not take padding against traffic flow analysis
// (RFC 7296 §1.3.1).
func refusesTFC(ps []message.Payload) bool {
	return message.FindNotify(ps, message.ESPTFCPaddingNotSupported) != nil
}

func readChildRequest(ps []message.Payload, first bool) (*childRequest, bool) {
	sa, ok := message.Find[*message.SA](ps)
	tsi, tsr := message.FindTS(ps, false), message.FindTS(ps, true)
	if !ok || tsi == nil || tsr == nil {
		return nil, false
	}
	r := &childRequest{sa: sa, tsi: tsi.Selectors, tsr: tsr.Selectors, first: first, unpadded: refusesTFC(ps), resource: hasResourceInfo(ps)}
	if ke, ok := message.Find[*message.KE](ps); ok {
		r.group = ke.Method
	}
	return r, true
}

// answerChild narrows a peer's request to the first configured child that has
// something in common with it; one that takes the request's first selectors, which are
// those of the packet that the peer has, goes before (RFC 7296 §2.9). It reserves an SPI;
// num is the number of the proposal that was chosen.
func (s *ikeSA) answerChild(r *childRequest) (a *childAnswer, num uint8, failed *Error) {
	if len(r.tsi) == 0 || len(r.tsr) == 0 {
		return nil, 0, errSelectorsAsked(r, nil, nil) // none of a kind that we know
	}
	var worst *Error
	var first Packet
	if len(r.tsr) > 0 && len(r.tsi) > 0 { // those of kinds that we do not know are left out
		first = Packet{Local: r.tsr[0], Remote: r.tsi[0]}
	}
	var fitting []*ChildConfig
	for _, cfg := range s.conn.Children {
		if !slices.Contains(s.barred, cfg.Name) {
			fitting = append(fitting, cfg)
		}
	}
	slices.SortStableFunc(fitting, func(x, y *ChildConfig) int {
		return cmp.Compare(s.takesFirst(y, first), s.takesFirst(x, first))
	})
	for _, cfg := range fitting {
		a, num, err := s.answerAs(r, cfg, cfg.Proposals, s.localSelectors(cfg), s.remoteSelectors(cfg))
		switch {
		case err == nil:
			a.more = s.additional(r, a)
			if err := s.admitResource(r, a); err != nil {
				s.e.releaseESPSPI(a.spiIn)
				return nil, 0, err
			}
			return a, num, nil
		case worst == nil, err.Code != CodeSelectors:
			worst = err
		}
	}
	if worst == nil {
		worst = errSelectorsAsked(r, nil, nil)
	}
	return nil, 0, worst
}

// takesFirst ranks a configured child for a request: 1 if it takes its first selectors.
func (s *ikeSA) takesFirst(cfg *ChildConfig, first Packet) int {
	if !first.isZero() && first.in(s.localSelectors(cfg), s.remoteSelectors(cfg)) {
		return 1
	}
	return 0
}

// answerRekey does the same for a child in place of another: what that one has is
// good, also where a selector has followed an address since, and its algorithms are
// preferred.
func (s *ikeSA) answerRekey(r *childRequest, old *child) (a *childAnswer, num uint8, failed *Error) {
	return s.answerAs(r, old.cfg, preferring(old.cfg.Proposals, old.Suite),
		slices.Concat(old.Local, s.localSelectors(old.cfg)), slices.Concat(old.Remote, s.remoteSelectors(old.cfg)))
}

func (s *ikeSA) answerAs(r *childRequest, cfg *ChildConfig, proposals []suite.Proposal, local, remote []message.Selector) (*childAnswer, uint8, *Error) {
	tsr, tsi := narrow(r.tsr, local), narrow(r.tsi, remote)
	if len(tsr) == 0 || len(tsi) == 0 {
		return nil, 0, errSelectorsAsked(r, local, remote)
	}
	if others := s.alike(cfg, tsr, tsi); r.resource && len(others) > 0 {
		proposals = preferring(proposals, others[0].Suite)
	}
	choice, err := s.chooseESP(r, proposals)
	if err != nil {
		return nil, 0, errChildProposal(s, err)
	}
	p := r.sa.Proposals[choice.Index]
	return &childAnswer{
		cfg: cfg, suite: choice.Suite, spiIn: s.e.newESPSPI(), spiOut: binary.BigEndian.Uint32(p.SPI),
		local: tsr, remote: tsi, began: s.e.now, unpadded: r.unpadded,
	}, p.Num, nil
}

// preferring puts the algorithms in use before all others of proposals, with the groups
// that are configured beside them; the group in use goes first.
func preferring(proposals []suite.Proposal, used suite.Suite) []suite.Proposal {
	group := used.KE
	bare := used
	bare.KE, bare.AddKE = suite.Transform{}, suite.Suite{}.AddKE
	for _, p := range proposals {
		if !slices.ContainsFunc(withoutKE([]suite.Proposal{p}), bare.Narrows) && !used.Narrows(p) {
			continue
		}
		first := used.Proposal().WithoutKE()
		kes := p.Types(suite.TypeKE)
		if slices.Contains(kes, group) {
			first.Transforms = append(first.Transforms, group)
		}
		for _, ke := range kes {
			if ke != group {
				first.Transforms = append(first.Transforms, ke)
			}
		}
		for i, x := range used.AddKE {
			more := p.Types(suite.TypeAddKE1 + suite.TransformType(i))
			if at := slices.Index(more, x); at > 0 {
				more = append([]suite.Transform{x}, slices.Delete(more, at, at+1)...)
			}
			first.Transforms = append(first.Transforms, more...)
		}
		return append([]suite.Proposal{first}, proposals...)
	}
	return proposals
}

// chooseESP chooses among the proposals for a child. Perfect forward secrecy is the
// initiator's choice: a request without key exchange is as good as one with it, and
// where we configured no group any that the IKE SA may use will do.
func (s *ikeSA) chooseESP(r *childRequest, proposals []suite.Proposal) (suite.Choice, error) {
	offered := plainProposals(r.sa, func(p message.Proposal) bool {
		return p.Protocol == suite.ProtocolESP && len(p.SPI) == 4 && binary.BigEndian.Uint32(p.SPI) > 255
	})
	if r.first {
		// Some peers name groups here all the same (RFC 7296 §1.2).
		for i := range offered {
			offered[i] = offered[i].WithoutKE()
		}
		return suite.Select(offered, withoutKE(proposals), false)
	}
	ours := supportedKEs(proposals)
	more := s.withGroups(proposals)
	accept := slices.Concat(onlyGroup(ours, r.group), ours, onlyGroup(more, r.group), more, withoutKE(proposals))
	return suite.Select(offered, accept, false)
}

// withoutKE is proposals without key exchanges, each once.
func withoutKE(proposals []suite.Proposal) []suite.Proposal {
	var out []suite.Proposal
	for _, p := range proposals {
		p = p.WithoutKE()
		if !slices.ContainsFunc(out, func(q suite.Proposal) bool { return slices.Equal(p.Transforms, q.Transforms) }) {
			out = append(out, p)
		}
	}
	return out
}

// withGroups gives those proposals that have no group those of the IKE SA.
func (s *ikeSA) withGroups(proposals []suite.Proposal) []suite.Proposal {
	groups := usableKEs(s.conn.Proposals)
	var out []suite.Proposal
	for _, p := range proposals {
		if len(p.KEs()) > 0 {
			continue
		}
		q := p.WithoutKE()
		for _, g := range groups {
			q.Transforms = append(q.Transforms, suite.Transform{Type: suite.TypeKE, ID: g})
		}
		out = append(out, q)
	}
	return out
}

// payloads is SA, TSi and TSr of an answer to the peer's request.
func (a *childAnswer) payloads(num uint8, between ...message.Payload) []message.Payload {
	ps := []message.Payload{&message.SA{Proposals: []message.Proposal{{
		Num: num, SPI: spiBytes(a.spiIn), Proposal: a.suite.Proposal(),
	}}}}
	ps = append(ps, between...)
	ps = append(ps, &message.TS{Selectors: a.remote}, &message.TS{Responder: true, Selectors: a.local})
	if a.more {
		ps = append(ps, notify(message.AdditionalTSPossible))
	}
	if a.resource {
		ps = append(ps, resourceInfo(a.slot))
	}
	return ps
}

// keyedChild is a child with its keys, ready for the data plane.
func (s *ikeSA) keyedChild(a *childAnswer, ours bool, shared, ni, nr []byte, more ...[]byte) (*Child, *Error) {
	i, r, err := DeriveChild(s.prf, s.keys.D, a.suite, shared, ni, nr, more...)
	if err != nil {
		return nil, errInternal(err.Error())
	}
	// RFC 7296 §2.17: the first keys are of what the initiator of this exchange
	// sends.
	in, out := i, r
	if ours {
		in, out = r, i
	}
	tfc := a.cfg.TFC
	if a.unpadded {
		tfc = 0
	}
	id := s.e.newChildID()
	if a.resource && a.group == 0 {
		a.group = id
	}
	return &Child{
		ChildInfo: ChildInfo{
			ID: id, SA: s.id(), Connection: s.conn.Name, Name: a.cfg.Name,
			SPIIn: a.spiIn, SPIOut: a.spiOut, Suite: a.suite,
			Local: a.local, Remote: a.remote, Path: s.espPath, Group: a.group, Slot: a.slot,
		},
		In: in, Out: out, Window: a.cfg.Window, TFC: tfc, CopyDSCP: a.cfg.CopyDSCP, KeepMSS: a.cfg.KeepMSS,
	}, nil
}

// install puts a child into the data plane.
func (s *ikeSA) install(c *Child, a *childAnswer) *child {
	kept := &child{ChildInfo: c.ChildInfo, sa: s, cfg: a.cfg, in: c.In, out: c.Out}
	kept.Path, c.Path = s.espPath, s.espPath
	s.children = append(s.children, kept)
	s.e.children[c.ID] = kept
	c.Soft, c.Hard = s.volumes(kept)
	s.age(kept)
	kept.logKeys()
	s.e.do(Install{Child: c})
	return kept
}

// childUp reports a child that was installed, in place of another or of none.
func (s *ikeSA) childUp(c *Child, a *childAnswer, replaces ChildID) {
	d := StageDone{SA: s.id(), Connection: s.conn.Name, Stage: StageChild, Took: s.e.now.Sub(a.began)}
	if !slices.ContainsFunc(s.stages, func(d StageDone) bool { return d.Stage == StageChild }) {
		s.stages = append(s.stages, d)
	}
	if replaces == 0 {
		s.e.report(d)
	}
	s.e.report(ChildUp{Child: c.ChildInfo, Replaces: replaces})
}

// childFailed reports that a child could not be opened.
func (s *ikeSA) childFailed(name string, err *Error) {
	s.e.report(ChildFailed{SA: s.id(), Connection: s.conn.Name, Peer: s.remote, Path: s.path, Name: name, Err: err})
}

// removeChild takes a child out of the data plane and reports it.
func (s *ikeSA) removeChild(c *child, reason string) {
	s.forgetChild(c, reason)
	s.e.releaseESPSPI(c.SPIIn)
	s.e.do(Remove{Child: c.ID})
}

// retire ends a child in whose place there may be another. Nothing is sent on it any more,
// but what is on its way is still taken for a while.
func (s *ikeSA) retire(c *child, reason string) {
	if c.successor == nil {
		s.removeChild(c, reason)
		return
	}
	s.e.do(Retire{Child: c.ID})
	s.forgetChild(c, reason)
	c.ends = s.e.now.Add(retiredLife)
	s.retired = append(s.retired, c)
	s.armChildren()
}

// removeRetired ends what retire left, if its time has come.
func (s *ikeSA) removeRetired(all bool) {
	s.retired = slices.DeleteFunc(s.retired, func(c *child) bool {
		if !all && c.ends.After(s.e.now) {
			return false
		}
		s.e.releaseESPSPI(c.SPIIn)
		s.e.do(Remove{Child: c.ID})
		return true
	})
}

// forgetChild takes a child out of the tables and reports its end.
func (s *ikeSA) forgetChild(c *child, reason string) {
	replaced := c.successor != nil || s.surplus
	s.children = slices.DeleteFunc(s.children, func(x *child) bool { return x == c })
	c.sa = nil
	delete(s.e.children, c.ID)
	for _, old := range s.children {
		if old.successor == c {
			// It stands for itself again.
			old.successor = nil
			s.age(old)
		}
	}
	s.armChildren()
	if !c.quiet {
		s.e.report(ChildDown{Child: c.ID, SA: s.id(), Connection: s.conn.Name, Name: c.Name, Reason: reason, Replaced: replaced})
	}
}
