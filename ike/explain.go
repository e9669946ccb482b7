package ike

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// What is told to people: what happened, why we think so, what to do.
// Nothing of the peer's goes in here but identities, which print themselves safely,
// algorithms and selectors.

var errWrongReply = errors.New("ike: the answer to a question has the wrong type")

func errInternal(what string) *Error {
	return &Error{
		Code: CodeInternal, What: what,
		Why:  "this should not be possible with a checked configuration",
		Hint: "report it",
	}
}

func errMissing(what string) error { return errors.New("ike: " + what) }

func errHalfOpen(s *ikeSA) *Error {
	return &Error{
		Code: CodeUnreachable, What: fmt.Sprintf("%v began an IKE SA and did not complete it", s.path.Remote),
		Why:  "no IKE_AUTH came in time: our answer was lost, the peer gave up, or UDP port 4500 is blocked on the way to us",
		Hint: "open UDP port 4500 to this machine; if the peer reports an error, follow that",
	}
}

func errUnreachable(s *ikeSA) *Error {
	if s.path.Stream {
		return &Error{
			Code: CodeUnreachable, What: fmt.Sprintf("no answer from %v over TCP", s.path.Remote),
			Why:  "a TCP stream was opened and IKE_SA_INIT is not answered on it",
			Hint: "check that a gateway with TCP encapsulation (RFC 9329) listens on that port, and not something else",
		}
	}
	return &Error{
		Code: CodeUnreachable, What: fmt.Sprintf("no answer from %v", s.path.Remote),
		Why:  fmt.Sprintf("IKE_SA_INIT was sent %d times and nothing came back", s.e.cfg.Retransmit.tries()),
		Hint: "check the address, that the gateway runs, and that UDP ports 500 and 4500 are open on the way",
	}
}

// errStreamLost is for an SA that is being opened over a stream that broke.
func errStreamLost(s *ikeSA, err error) *Error {
	return &Error{
		Code: CodeUnreachable, What: fmt.Sprintf("the TCP stream to %v broke", s.path.Remote),
		Why: err.Error(), Hint: "the gateway's log tells why it closes it, or a firewall on the way does",
	}
}

func errAuthUnanswered(s *ikeSA) *Error {
	if s.path.Stream {
		return &Error{
			Code: CodeUnreachable, What: fmt.Sprintf("%v answers IKE_SA_INIT over TCP, but not IKE_AUTH", s.path.Remote),
			Why: "the TCP stream stands and nothing more came on it", Hint: "the gateway's log tells what it waits for",
		}
	}
	err := &Error{
		Code: CodePortBlocked, What: fmt.Sprintf("%v answers IKE_SA_INIT, but nothing that is sent to UDP port %d", s.path.Remote.Addr(), s.path.Remote.Port()),
		Why:  "IKE_SA_INIT went well and IKE_AUTH was never answered: a firewall lets one port through and not the other",
		Hint: fmt.Sprintf("open UDP port %d on the way to the gateway", s.path.Remote.Port()),
	}
	if _, ok := s.active.(*authTask); ok && s.conn.Local.Method == AuthCert && !s.supports(extFragmentation) {
		err.Why += ", or large packets are dropped: the peer does not know IKE fragmentation (RFC 7383)"
	}
	return err
}

func errPeerDead(s *ikeSA) *Error {
	return &Error{
		Code: CodePeerDead, What: fmt.Sprintf("%v does not answer any more", s.path.Remote),
		Why:  fmt.Sprintf("a request was sent %d times and nothing came back", s.e.cfg.Retransmit.tries()),
		Hint: "check the network on both sides, and that the peer still runs",
	}
}

// errAddressGone is a change of this host's network while an SA is opened.
func errAddressGone(s *ikeSA) *Error {
	return &Error{
		Code: CodeUnreachable, What: fmt.Sprintf("the network changed on the way to %v", s.path.Remote),
		Why:  fmt.Sprintf("this host does not send from %v any more, to where the answer would come", s.path.Local.Addr()),
		Hint: "try again",
	}
}

// errAddressRefused is UNACCEPTABLE_ADDRESSES or UNEXPECTED_NAT_DETECTED for every way that
// we have to the peer.
func errAddressRefused(s *ikeSA, n *message.Notify) *Error {
	return &Error{
		Code: CodeRefused, Notify: n.Notify, Remote: true,
		What: fmt.Sprintf("%v does not take us at %v", s.path.Remote, s.path.Local.Addr()),
		Why:  fmt.Sprintf("this host's network has changed, and the peer answers %v to our new address", n.Notify),
		Hint: "let the peer take us from there: with Martlet that is connection.NAME.from, with others a remote address or a NAT policy",
	}
}

// errDeleted is the peer's DELETE of an SA that we opened and still want; for a
// responder, and when we are deleting it too, that is no failure.
func (s *ikeSA) errDeleted() *Error {
	if !s.opener || s.state != stateEstablished {
		return nil
	}
	return &Error{
		Code: CodeDeleted, Remote: true, What: fmt.Sprintf("%v closed the connection", s.path.Remote),
		Why:  "it deleted the IKE SA: it was told to, it restarts, or this SA was replaced by another one of our identity",
		Hint: "connect again; see what the gateway logs",
	}
}

func errNoNATT() *Error {
	return &Error{
		Code: CodeNoNATT, What: "the peer has no NAT traversal",
		Why:  "its IKE_SA_INIT has no NAT_DETECTION notifies, and we send ESP in UDP only",
		Hint: "switch on NAT traversal (UDP encapsulation, RFC 3948) at the peer",
	}
}

func errLoop(s *ikeSA) *Error {
	return &Error{
		Code: CodeNegotiationLoop, What: fmt.Sprintf("%v never stops asking for another IKE_SA_INIT", s.path.Remote),
		Why:  fmt.Sprintf("COOKIE and INVALID_KE_PAYLOAD came more than %d times", maxRestarts),
		Hint: "offer a group that the peer accepts as the first one, and see what the peer logs",
	}
}

func errForeignGroup(s *ikeSA, group uint16) *Error {
	return &Error{
		Code: CodeNoProposal, Notify: message.InvalidKEPayload, Remote: true,
		What: fmt.Sprintf("%v wants the key exchange %s, which we did not offer", s.path.Remote, suite.KEName(group)),
		Why:  "INVALID_KE_PAYLOAD names a group that is not in our proposals, or the one that was used",
		Hint: fmt.Sprintf("add %s to the proposals if it is strong enough", suite.KEName(group)),
	}
}

func errKeyExchange(err error) *Error {
	return &Error{
		Code: CodeSyntax, What: "the peer's key exchange value cannot be used",
		Why: err.Error(), Hint: "report it to whoever made the peer, or somebody tampers with the messages",
	}
}

func errNothingToOffer(c *Connection) *Error {
	return &Error{
		Code: CodeNoProposal, What: "connection " + c.Name + " has no key exchange method that is implemented",
		Why: "none of the groups in its proposals can be used", Hint: "name x25519 or ecp256 in the proposals",
	}
}

// errInitRefused is an error that came in place of an answer to IKE_SA_INIT.
func errInitRefused(s *ikeSA, n *message.Notify) *Error {
	if n.Notify != message.NoProposalChosen {
		return &Error{
			Code: CodeRefused, Notify: n.Notify, Remote: true,
			What: fmt.Sprintf("%v refuses IKE_SA_INIT: %v", s.path.Remote, n.Notify),
			Why:  "it answered with this error; it is not protected, so somebody on the way may have sent it",
			Hint: "see what the peer logs",
		}
	}
	return &Error{
		Code: CodeNoProposal, Notify: n.Notify, Remote: true,
		What:   fmt.Sprintf("%v accepts none of our IKE algorithms", s.path.Remote),
		Why:    "it answered NO_PROPOSAL_CHOSEN; or it has no connection for our address",
		Hint:   "give both sides one proposal in common; the peer's log shows what it accepts",
		Detail: offeredList(s.conn.Proposals),
	}
}

func errBadChoice(s *ikeSA, sa *message.SA) *Error {
	return &Error{
		Code: CodeNoProposal, What: fmt.Sprintf("%v chose algorithms that we did not offer", s.path.Remote),
		Why:    "the SA payload of its answer does not fit our proposals",
		Hint:   "report it to whoever made the peer, or somebody tampers with the messages",
		Detail: mismatchTable(s.conn.Proposals, plainProposals(sa, anyProposal)),
	}
}

func anyProposal(message.Proposal) bool { return true }

func offeredList(ps []suite.Proposal) string {
	var b strings.Builder
	for _, p := range ps {
		fmt.Fprintf(&b, "offered: %v\n", p)
	}
	return b.String()
}

func mismatchTable(offered, accepted []suite.Proposal) string {
	return (&suite.MismatchError{Offered: offered, Accepted: accepted}).Table()
}

func errNoIntermediate() *Error {
	return &Error{
		Code: CodeNoProposal, What: "the peer chose an additional key exchange and knows no IKE_INTERMEDIATE",
		Why:  "the notify INTERMEDIATE_EXCHANGE_SUPPORTED (RFC 9242) is missing in its answer",
		Hint: "report it to whoever made the peer, or somebody tampers with the messages",
	}
}

func errIntermediateRefused(s *ikeSA, n *message.Notify) *Error {
	return &Error{
		Code: CodeRefused, Notify: n.Notify, Remote: true,
		What: fmt.Sprintf("%v refuses the additional key exchange: %v", s.path.Remote, n.Notify),
		Why:  fmt.Sprintf("it chose %v and answered IKE_INTERMEDIATE with this error", s.suite),
		Hint: "see what the peer logs; without additional key exchanges (post_quantum = \"off\") it may go",
	}
}

func errNoConnection(p Path) *Error {
	return &Error{
		Code: CodeIdentity, Notify: message.NoProposalChosen,
		What: fmt.Sprintf("no connection takes requests from %v", p.Remote.Addr()),
		Why:  "no connection that responds has this address among those it may come from",
		Hint: "add the address to a connection, or leave the peer's address open",
	}
}

// errRefusedProposal is what a responder tells about algorithms that do not meet.
func errRefusedProposal(err error) *Error {
	out := &Error{
		Code: CodeNoProposal, Notify: message.NoProposalChosen,
		What: "the peer offers no IKE algorithms that we accept", Why: err.Error(),
	}
	m, ok := errors.AsType[*suite.MismatchError](err)
	if !ok {
		return out
	}
	m.Offered = slices.DeleteFunc(slices.Clone(m.Offered), func(p suite.Proposal) bool { return len(p.Transforms) == 0 })
	out.Why = "no proposal has an algorithm of every type in common with ours"
	out.Hint, out.Detail = m.Fix(), m.Table()
	return out
}

// windowsFix is what makes a Windows client offer what we accept.
const windowsFix = "On the Windows machine, in PowerShell: " +
	"Set-VpnConnectionIPsecConfiguration -ConnectionName NAME -AuthenticationTransformConstants GCMAES256 " +
	"-CipherTransformConstants GCMAES256 -EncryptionMethod GCMAES256 -IntegrityCheckMethod SHA384 -DHGroup ECP384 -PfsGroup ECP384 -Force"

// errRefusedOffer is errRefusedProposal for the first message of a peer, which is perhaps
// one as it comes out of the box.
func errRefusedOffer(err error, candidates []*Connection) *Error {
	out := errRefusedProposal(err)
	m, ok := errors.AsType[*suite.MismatchError](err)
	if !ok || !onlyMODP1024(m.Offered) {
		return out
	}
	if slices.ContainsFunc(candidates, func(c *Connection) bool { return c.Lease }) {
		// This is Windows as it is installed.
		out.Hint = "this looks like Windows with its defaults (modp1024 only). " + windowsFix +
			". Only where that cannot be done: legacy = \"windows-default\" in the connection lets it in with weak algorithms"
		return out
	}
	out.Hint = "this looks like Azure with its stock policies (modp1024 only): give the connection there a custom policy " +
		"(New-AzIpsecPolicy with -DhGroup ECP384 and GCMAES256). Only where that cannot be done: " +
		"legacy = \"old-cloud\" in the connection lets it in with weak algorithms"
	return out
}

func onlyMODP1024(offered []suite.Proposal) bool {
	offered = slices.DeleteFunc(slices.Clone(offered), func(p suite.Proposal) bool { return len(p.Transforms) == 0 })
	if len(offered) == 0 {
		return false
	}
	for _, p := range offered {
		if kes := p.KEs(); len(kes) != 1 || kes[0] != suite.KEMODP1024 {
			return false
		}
	}
	return true
}

func errSyntax(err error) *Error {
	return &Error{
		Code: CodeSyntax, Notify: message.InvalidSyntax, What: "the peer sent a protected message that is malformed",
		Why: err.Error(), Hint: "report it to whoever made the peer",
	}
}

func errPeerGaveUp(s *ikeSA, n *message.Notify) *Error {
	return &Error{
		Code: CodeAuthRefused, Notify: n.Notify, Remote: true,
		What: fmt.Sprintf("%v ended the SA: %v", s.path.Remote, n.Notify),
		Why:  "it does not accept how we proved our identity, or could not read our message",
		Hint: "see what the peer logs",
	}
}

func errNotAdmitted(why string) *Error {
	return &Error{Code: CodeRefused, What: "the peer is not let in: " + why, Why: "a rule of this gateway", Hint: "change the rule, or disconnect others"}
}

func errHost(err error) *Error {
	return &Error{
		Code: CodeHost, What: "this machine could not be set up for the tunnel", Why: err.Error(),
		Hint: "the line above names what was refused; it often takes root or CAP_NET_ADMIN",
	}
}

// certError puts what pki says into an Error.
func errCert(s *ikeSA, err error) *Error {
	out := &Error{
		Code: CodeCertInvalid, Notify: message.AuthenticationFailed,
		What: "the certificate of " + s.remote.String() + " is refused", Why: err.Error(), Hint: "see the line above",
	}
	c, ok := errors.AsType[*pki.CertError](err)
	if !ok {
		return out
	}
	out.What, out.Why, out.Hint = c.What, c.Why, c.Hint
	switch c.Code {
	case pki.CodeUnknownAuthority:
		out.Code = CodeCertUntrusted
	case pki.CodeExpired, pki.CodeNotYetValid:
		out.Code = CodeCertExpired
	case pki.CodeNameMismatch:
		out.Code = CodeCertName
	case pki.CodeRevoked:
		out.Code = CodeCertRevoked
	case pki.CodeRevocationUnknown:
		out.Code = CodeCertStatus
	}
	return out
}

func errCertMalformed(err error) *Error {
	return &Error{
		Code: CodeCertInvalid, Notify: message.AuthenticationFailed, What: "the peer's certificate cannot be read",
		Why: err.Error(), Hint: "issue it again",
	}
}

func errTooManyCerts() *Error {
	return &Error{
		Code: CodeCertInvalid, Notify: message.AuthenticationFailed, What: "the peer sent too many certificates",
		Why:  fmt.Sprintf("at most %d are looked at", pki.MaxCertificates),
		Hint: "have the peer send its own certificate and the CAs in between only",
	}
}

func errCertMissing() *Error {
	return &Error{
		Code: CodeCertMissing, Notify: message.AuthenticationFailed, What: "the peer sent no certificate",
		Why:  "it signed AUTH, but there is no X.509 certificate (encoding 4) beside it",
		Hint: "have the peer send its certificate (strongSwan: send_cert = always)",
	}
}

func errNoCredential(err error) *Error {
	out := &Error{
		Code: CodeNoCredential, What: "we have nothing to authenticate with that the peer takes",
		Why: "no pre-shared key or private key is configured", Hint: "configure one, or one of another kind (RSA instead of Ed25519, say)",
	}
	if err != nil {
		out.Why = err.Error()
	}
	return out
}

func errRedirects(s *ikeSA, to message.GatewayID) *Error {
	return &Error{
		Code: CodeNegotiationLoop, Notify: message.Redirect, Remote: true,
		What: fmt.Sprintf("%v redirects us to %v, and that is once too often", s.path.Remote, to),
		Why:  fmt.Sprintf("%d redirects in %v were followed already (RFC 5685)", maxRedirects, redirectWindow),
		Hint: "the gateways send their clients in a circle; see what they are configured to",
	}
}

func errRedirect(to message.GatewayID, err error) *Error {
	e := &Error{
		Code: CodeUnreachable, Notify: message.Redirect, Remote: true,
		What: fmt.Sprintf("the gateway redirects us to %v, which cannot be reached", to),
		Why:  "it was not asked for, or names no gateway",
		Hint: "see what the gateway is configured to",
	}
	if err != nil {
		e.Why = err.Error()
	}
	return e
}

func errCrashed(s *ikeSA) *Error {
	return &Error{
		Code: CodePeerRestarted, Notify: message.QuickCrashDetection, Remote: true,
		What: fmt.Sprintf("%v has lost the SA: it crashed, or was started anew", s.path.Remote),
		Why:  "it showed the token that it gave us for that case (RFC 6290)",
		Hint: "connect again; nothing is lost but what was on its way",
	}
}
