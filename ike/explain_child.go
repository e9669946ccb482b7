package ike

import (
	"fmt"
	"slices"
	"strings"

	"martlet/ike/message"
)

func errChildIncomplete() *Error {
	return &Error{
		Code: CodeSyntax, Notify: message.InvalidSyntax, What: "the peer's answer about the child SA is incomplete",
		Why: "SA, Nonce, KE, TSi or TSr is missing", Hint: "report it to whoever made the peer",
	}
}

func errBadChildChoice(o *childOffer, sa *message.SA) *Error {
	return &Error{
		Code: CodeNoChildProposal, What: "the peer chose ESP algorithms that we did not offer",
		Why: "the SA payload of its answer does not fit our proposals", Hint: "report it to whoever made the peer",
		Detail: mismatchTable(o.proposals, plainProposals(sa, anyProposal)),
	}
}

// errChildProposal is a responder's: no ESP proposal is acceptable.
func errChildProposal(s *ikeSA, err error) *Error {
	out := errRefusedProposal(err)
	out.Code = CodeNoChildProposal
	out.What = "the peer offers no ESP algorithms that we accept"
	if s.supports(extWindows) {
		// Without that Windows offers ESP with SHA-1 only, whatever it offers for IKE.
		out.Hint = windowsFix + ". Only where that cannot be done: legacy = \"windows-default\" in the connection lets it in with SHA-1"
	}
	return out
}

func selectorsText(all []message.Selector) string {
	const most = 8
	var b []string
	for _, s := range all[:min(most, len(all))] {
		b = append(b, s.String())
	}
	if n := len(all) - most; n > 0 {
		b = append(b, fmt.Sprintf("and %d more", n))
	}
	if len(b) == 0 {
		return "nothing"
	}
	return strings.Join(b, " ")
}

// errSelectorsAsked is a responder's: it has nothing in common with what was asked.
func errSelectorsAsked(r *childRequest, local, remote []message.Selector) *Error {
	return &Error{
		Code: CodeSelectors, Notify: message.TSUnacceptable, What: "the traffic that the peer asks for does not meet what is configured",
		Why:  fmt.Sprintf("it asks for %s behind us and %s behind it; configured are %s and %s", selectorsText(r.tsr), selectorsText(r.tsi), selectorsText(local), selectorsText(remote)),
		Hint: "make the selectors of both sides overlap",
	}
}

// errTooManyChildren is a responder's.
func errTooManyChildren() *Error {
	return &Error{
		Code: CodeRefused, Notify: message.NoAdditionalSAs, What: "the peer wants one more child SA than it may have",
		Why:  fmt.Sprintf("it has %d on one IKE SA", maxChildren),
		Hint: "put several selectors into one child at the peer, or see why it opens so many",
	}
}

// errMaxQueue is a responder's (RFC 9611 §5.2).
func errMaxQueue(cfg *ChildConfig, n int) *Error {
	return &Error{
		Code: CodeRefused, Notify: message.TSMaxQueue, What: "the peer wants one more SA of the child " + cfg.Name + " than it may have",
		Why:  fmt.Sprintf("it has %d with the same selectors", n),
		Hint: fmt.Sprintf("set parallel of the child %s higher, if they are of use", cfg.Name),
	}
}

// errNotAlike is about an answer that makes no SA like those that it should stand beside.
func errNotAlike(a *childAnswer) *Error {
	return &Error{
		Code: CodeRefused, Remote: true, What: "the peer makes a child SA of " + a.cfg.Name + " that is not like the others",
		Why:  fmt.Sprintf("it answers %v, %s on our side and %s on its side, and whether it is one of several: %v", a.suite, selectorsText(a.local), selectorsText(a.remote), a.resource),
		Hint: "report it to whoever made the peer",
	}
}

func errSelectorsWidened(o *childOffer, tsi, tsr []message.Selector) *Error {
	return &Error{
		Code: CodeSelectors, What: "the peer answers with traffic selectors that we did not offer",
		Why:  fmt.Sprintf("offered %s and %s, answered %s and %s", selectorsText(o.tsi), selectorsText(o.tsr), selectorsText(tsi), selectorsText(tsr)),
		Hint: "report it to whoever made the peer",
	}
}

func errSelectors(offered, answered []message.Selector, remote bool) *Error {
	return &Error{
		Code: CodeSelectors, Notify: message.TSUnacceptable, Remote: remote,
		What: "the gateway allows no traffic of the address that it gave us",
		Why:  fmt.Sprintf("offered %s, answered %s", selectorsText(offered), selectorsText(answered)),
		Hint: "correct the selectors of the gateway",
	}
}

// errChildRefused is what a responder says in place of a child.
func errChildRefused(s *ikeSA, o *childOffer, n *message.Notify) *Error {
	err := &Error{
		Code: CodeRefused, Notify: n.Notify, Remote: true,
		What: fmt.Sprintf("the peer refuses the child %s: %v", o.cfg.Name, n.Notify),
		Why:  "it answered with this error", Hint: "see what the peer logs",
	}
	switch n.Notify {
	case message.NoProposalChosen, message.InvalidKEPayload:
		err.Code = CodeNoChildProposal
		err.What = "the peer accepts none of our ESP algorithms for the child " + o.cfg.Name
		err.Hint = "give both sides one ESP proposal in common; the peer's log shows what it accepts"
		err.Detail = offeredList(o.proposals)
	case message.TSUnacceptable, message.SinglePairRequired:
		err.Code = CodeSelectors
		err.What = "the peer accepts none of the traffic of the child " + o.cfg.Name
		err.Why = fmt.Sprintf("it answered %v to %s on our side and %s on its side", n.Notify, selectorsText(o.tsi), selectorsText(o.tsr))
		err.Hint = "make the selectors of both sides overlap"
	case message.InternalAddressFailure, message.FailedCPRequired:
		err.Code = CodeAddress
		err.What = "the gateway gives us no virtual address"
		err.Why = fmt.Sprintf("it answered %v", n.Notify)
		err.Hint = "its address pool may be exhausted; see what the gateway logs"
		if !s.conn.RequestIPv4 && !s.conn.RequestIPv6 {
			err.Hint = "the gateway wants to give us an address: ask for one in the connection"
		}
	case message.NoAdditionalSAs:
		err.Hint = "the peer allows no further child on this SA; put its selectors into the first one"
	}
	return err.explainWindows(n)
}

func errChildDeleted(a *childAnswer) *Error {
	return &Error{
		Code: CodeRefused, Remote: true, What: "the peer closed the child " + a.cfg.Name + " while it was opened",
		Why: "its DELETE came before the child was in service here", Hint: "open it again",
	}
}

func errNoAddress(s *ikeSA) *Error {
	var asked []string
	if s.conn.RequestIPv4 {
		asked = append(asked, "IPv4")
	}
	if s.conn.RequestIPv6 {
		asked = append(asked, "IPv6")
	}
	return &Error{
		Code: CodeAddress, What: "the gateway gave us no virtual address",
		Why:  "we asked for " + strings.Join(asked, " and ") + ", and its answer holds no address",
		Hint: "configure an address pool at the gateway, or do not ask for an address",
	}
}

// errLease is a gateway's: it has no address for the peer.
func errLease(why string) *Error {
	return &Error{
		Code: CodeAddress, Notify: message.InternalAddressFailure, What: "no virtual address for the peer: " + why,
		Why: "the peer asks for one and gets no child without", Hint: "enlarge the address pool",
	}
}

// refusedText tells what the peer does not take of a child that stands.
func refusedText(cfg *ChildConfig, refused []region) string {
	var local, remote []message.Selector
	for _, x := range refused {
		if !slices.Contains(local, x.local) {
			local = append(local, x.local)
		}
		if !slices.Contains(remote, x.remote) {
			remote = append(remote, x.remote)
		}
	}
	return fmt.Sprintf("the peer does not take all of child %s: it refuses %s on our side with %s on its side",
		cfg.Name, selectorsText(local), selectorsText(remote))
}

func errNothingLeft(t *createTask) *Error {
	return &Error{
		Code: CodeSelectors, What: "the peer takes no more of the traffic of the child " + t.cfg.Name,
		Why:  fmt.Sprintf("a packet from %v to %v is for that child, and the peer refuses it, or has as many child SAs as we open", t.packet.Local, t.packet.Remote),
		Hint: "make the selectors of both sides overlap",
	}
}

// errNothingNew is about an answer that takes no more than another child SA.
func errNothingNew(a *childAnswer) *Error {
	return &Error{
		Code: CodeSelectors, Remote: true, What: "the peer gives no more of the traffic of the child " + a.cfg.Name,
		Why:  fmt.Sprintf("it narrows what is missing to %s on our side and %s on its side, which is open already", selectorsText(a.local), selectorsText(a.remote)),
		Hint: "make the selectors of both sides overlap",
	}
}
