package ike

import (
	"cmp"
	"fmt"
	"strings"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// hintPFS is for a child for which we asked no key exchange.
const hintPFS = "the peer may demand perfect forward secrecy (PFS): add its group to the proposals of the child, as in aes256gcm16-x25519"

// errRekey is why a child could not be replaced. Where the peer likes none of the
// algorithms of a child that works, the key exchange is what is new: the first child of
// an SA has none, so that the two sides may never have agreed about it.
func errRekey(err *Error, t *createTask) *Error {
	out := *err
	out.What = "the child " + t.cfg.Name + " cannot be replaced: " + err.What
	if err.Notify != message.NoProposalChosen && err.Notify != message.InvalidKEPayload {
		return &out
	}
	ours := "no key exchange of its own (perfect forward secrecy, PFS)"
	out.Hint = hintPFS
	if groups := t.exchange.groups; len(groups) > 0 {
		ours = "a key exchange of its own (perfect forward secrecy, PFS) by " + groupsText(groups)
		out.Hint = "give both sides a group in common, or none, in the proposals of the child"
	}
	theirs := ""
	if err.Notify == message.NoProposalChosen {
		theirs = ", which does not say what it wants: none, or another group. Its log does"
	}
	out.Why = fmt.Sprintf("the child itself came up without a key exchange, so that a mismatch shows only when it is replaced%s: we ask for %s, and the peer answers %v%s",
		firstReplaced(t.cfg, t.command), ours, err.Notify, theirs)
	return &out
}

// errRekeyAsked is a responder's errRekey. Its table has what both sides want.
func errRekeyAsked(err *Error, old *child) *Error {
	out := *err
	out.What = "the peer cannot replace the child " + old.Name + ": " + err.What
	if err.Code == CodeNoChildProposal {
		out.Why = "the child itself came up without a key exchange of its own (perfect forward secrecy, PFS), so that a mismatch of groups shows only when it is replaced: " + err.Why
	}
	return &out
}

// firstReplaced tells when that would have been, where it was tried early.
func firstReplaced(cfg *ChildConfig, early bool) string {
	every := cmp.Or(cfg.Rekey, usualChildRekey)
	if !early || every < 0 {
		return ""
	}
	return fmt.Sprintf(", for the first time after %v, had this not been tried", every)
}

// groupsText names groups.
func groupsText(groups []uint16) string {
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = suite.KEName(g)
	}
	return strings.Join(names, " or ")
}

// errRekeyRefused is what a peer says in place of an IKE SA that replaces another.
func errRekeyRefused(s *ikeSA, n *message.Notify) *Error {
	err := &Error{
		Code: CodeRefused, Notify: n.Notify, Remote: true,
		What: fmt.Sprintf("%v does not replace the IKE SA: %v", s.path.Remote, n.Notify),
		Why:  "it answered with this error", Hint: "see what the peer logs",
	}
	switch n.Notify {
	case message.NoProposalChosen, message.InvalidKEPayload:
		err.Code = CodeNoProposal
		err.Hint = "the peer accepts other algorithms now than when the connection was made: give both sides one IKE proposal in common"
	case message.NoAdditionalSAs:
		err.Hint = "the peer wants to be the one who replaces IKE SAs, or to authenticate anew: set rekey to \"0s\""
	}
	return err.explainWindows(n)
}

// errWindows is why we do not replace a child of a Windows client.
func errWindows(c *child) *Error {
	return &Error{
		Code: CodeRefused, What: "the child " + c.Name + " is not replaced by us",
		Why:  "the peer is a Windows client, which ends the connection when a gateway replaces a child",
		Hint: "it replaces its children itself",
	}
}
