package ike

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

func TestCookie(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := pair(t, client, gateway)
	b.e.cfg.HalfOpen = HalfOpen{CookiePrefix: -1}
	b.e.gate.cfg = b.e.cfg.HalfOpen
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 1)
	if b.count(DropCookieRequired) != 1 {
		t.Error("no cookie was asked for")
	}
	inits := sentOf(a, message.IKESAInit, false)
	if len(inits) != 2 {
		t.Fatalf("%d requests, want 2", len(inits))
	}
	if types := payloadTypes(t, inits[1]); types[0] != message.TypeNotify {
		t.Errorf("the cookie is not the first payload: %v", types)
	}
	// RFC 7296 §2.6: all else is as it was.
	first, second := inits[0][message.HeaderLen:], inits[1][len(inits[1])-len(inits[0])+message.HeaderLen:]
	if !bytes.Equal(first, second) {
		t.Error("the request with the cookie differs otherwise")
	}
	if answers := sentOf(b, message.IKESAInit, true); len(answers[0]) > len(inits[0]) {
		t.Error("the cookie is longer than the request")
	}
}

func TestInvalidKE(t *testing.T) {
	client, gateway := pskPair(t)
	client.Proposals = ikeProposals(t, "aes256gcm16-prfsha256-x25519-ecp256-ecp384")
	gateway.Proposals = ikeProposals(t, "aes256gcm16-prfsha256-ecp384")
	w, a, b := pair(t, client, gateway)
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 1)
	if b.count(DropInvalidKE) != 1 || a.established()[0].Suite.KE.ID != suite.KEECP384 {
		t.Error("the group was not changed")
	}
}

// TestInvalidKEWithCookie: both, one after the other; the cookie stays good.
func TestInvalidKEWithCookie(t *testing.T) {
	client, gateway := pskPair(t)
	client.Proposals = ikeProposals(t, "aes256gcm16-prfsha256-x25519-ecp384")
	gateway.Proposals = ikeProposals(t, "aes256gcm16-prfsha256-ecp384")
	w, a, b := pair(t, client, gateway)
	b.e.gate.cfg = HalfOpen{CookiePrefix: -1}
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 1)
	if n := len(sentOf(a, message.IKESAInit, false)); n != 3 {
		t.Errorf("%d requests, want 3: plain, with cookie, with cookie and group", n)
	}
}

// TestSentGroupPreferred: a group that both accept is taken as it comes (interop.md R6).
func TestSentGroupPreferred(t *testing.T) {
	client, gateway := pskPair(t)
	client.Proposals = ikeProposals(t, "aes256gcm16-prfsha256-ecp256-x25519")
	gateway.Proposals = ikeProposals(t, "aes256gcm16-prfsha256-x25519-ecp256")
	_, a, b := up(t, client, gateway)
	if b.count(DropInvalidKE) != 0 || a.established()[0].Suite.KE.ID != suite.KEECP256 {
		t.Error("a round trip was wasted")
	}
}

func TestNoProposal(t *testing.T) {
	client, gateway := pskPair(t)
	client.Proposals = ikeProposals(t, "aes128-sha1-modp1024")
	w, a, b := pair(t, client, gateway)
	a.initiate("home", b)
	w.run(time.Minute)
	if c := a.downCode(); c != CodeNoProposal {
		t.Errorf("code %s", c)
	}
	down := found[Down](a)[0].Err
	if !down.Remote || down.Notify != message.NoProposalChosen || !strings.Contains(down.Detail, "aes128-sha1-modp1024") {
		t.Errorf("client's error %+v", down)
	}
	refused := found[Refused](b)
	if len(refused) == 0 || refused[0].Reason != DropNoProposal {
		t.Fatalf("gateway reports %v", refused)
	}
	err, ok := refused[0].Err.(*Error)
	if !ok || err.Code != CodeNoProposal || !strings.Contains(err.Detail, "modp1024") || !strings.Contains(err.Detail, "x25519") {
		t.Errorf("gateway's explanation: %+v", refused[0].Err)
	}
	// interop.md R16: what helps on Windows, or, where nobody gets an address, in Azure.
	if !strings.Contains(err.Hint, "New-AzIpsecPolicy") || !strings.Contains(err.Hint, `legacy = "old-cloud"`) {
		t.Errorf("hint %q", err.Hint)
	}
	mismatch := &suite.MismatchError{Offered: client.Proposals}
	if hint := errRefusedOffer(mismatch, []*Connection{{Lease: true}}).Hint; !strings.Contains(hint, "Set-VpnConnectionIPsecConfiguration") || !strings.Contains(hint, `legacy = "windows-default"`) {
		t.Errorf("hint %q", hint)
	}
	if len(b.e.Statuses()) != 0 {
		t.Error("the gateway kept state")
	}
	empty(t, a, b)
}

func TestUnreachable(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := pair(t, client, gateway)
	w.fate = func(*host, Send) int { return 0 }
	a.initiate("home", b)
	w.run(5 * time.Minute)
	if c := a.downCode(); c != CodeUnreachable {
		t.Errorf("code %s", c)
	}
	sent := sentOf(a, message.IKESAInit, false)
	if len(sent) != 10 {
		t.Errorf("%d transmissions, want 10", len(sent))
	}
	for _, s := range sent {
		if !bytes.Equal(s, sent[0]) {
			t.Error("a repetition differs")
		}
	}
	empty(t, a)
}

func TestPortBlocked(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := pair(t, client, gateway)
	w.fate = func(_ *host, s Send) int {
		if s.Path.Encap {
			return 0
		}
		return 1
	}
	a.initiate("home", b)
	w.run(5 * time.Minute)
	if c := a.downCode(); c != CodePortBlocked {
		t.Errorf("client's code %s", c)
	}
	if c := b.downCode(); c != CodeUnreachable {
		t.Errorf("gateway's code %s", c)
	}
	empty(t, a, b)
}

func TestNoNATT(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := pair(t, client, gateway)
	raw := initRequest(t, a, b)
	m, err := message.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	m.Payloads = m.Payloads[:3] // SA, KE, Nonce
	b.deliverOn(b.path(a, false), m.Append(nil))
	if b.count(DropNoNATT) != 1 || len(b.e.Statuses()) != 0 {
		t.Error("an initiator without NAT traversal was let in")
	}
	// As an initiator.
	w.fate = func(*host, Send) int { return 0 }
	a.initiate("home", b)
	x := &script{t, w, a, b}
	x.answerInit(7, goodAnswer(t, a)...)
	w.run(3 * time.Second)
	if c := a.downCode(); c != CodeNoNATT {
		t.Errorf("code %s", c)
	}
}

// goodAnswer is SA, KE and Nonce that fit what h asked for with x25519, without NAT
// detection.
func goodAnswer(t testing.TB, h *host) []message.Payload {
	t.Helper()
	s := h.e.last
	choice, err := suite.Select(s.conn.Proposals, s.conn.Proposals, false)
	if err != nil {
		t.Fatal(err)
	}
	return []message.Payload{
		&message.SA{Proposals: []message.Proposal{{Num: 1, Proposal: choice.Suite.Proposal()}}},
		&message.KE{Method: choice.Suite.KE.ID, Data: append([]byte{9}, make([]byte, 31)...)},
		&message.Nonce{Data: make([]byte, 32)},
	}
}

// TestBadAnswersToInit: what a responder, or somebody on the way, may not choose. None
// ends the attempt while the right answer is still to come.
func TestBadAnswersToInit(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, ps []message.Payload) []message.Payload{
		"no SA":    func(_ *testing.T, ps []message.Payload) []message.Payload { return ps[1:] },
		"no KE":    func(_ *testing.T, ps []message.Payload) []message.Payload { return append(ps[:1:1], ps[2]) },
		"no nonce": func(_ *testing.T, ps []message.Payload) []message.Payload { return ps[:2] },
		"other suite": func(t *testing.T, ps []message.Payload) []message.Payload {
			ps[0] = &message.SA{Proposals: []message.Proposal{{Num: 1, Proposal: ikeProposals(t, "aes128gcm16-prfsha256-x25519")[0]}}}
			return ps
		},
		"two proposals": func(_ *testing.T, ps []message.Payload) []message.Payload {
			sa := ps[0].(*message.SA)
			sa.Proposals = append(sa.Proposals, sa.Proposals[0])
			return ps
		},
		"other group in KE": func(_ *testing.T, ps []message.Payload) []message.Payload {
			ps[1].(*message.KE).Method = suite.KEECP256
			return ps
		},
		"KE too short": func(_ *testing.T, ps []message.Payload) []message.Payload {
			ps[1].(*message.KE).Data = ps[1].(*message.KE).Data[:31]
			return ps
		},
		"KE degenerate": func(_ *testing.T, ps []message.Payload) []message.Payload {
			ps[1].(*message.KE).Data = make([]byte, 32)
			return ps
		},
		"critical": func(_ *testing.T, ps []message.Payload) []message.Payload {
			return append(ps, &message.Unknown{Number: 200, Critical: true})
		},
		"AUTHENTICATION_FAILED": func(*testing.T, []message.Payload) []message.Payload {
			return []message.Payload{notify(message.AuthenticationFailed)}
		},
		"empty": func(*testing.T, []message.Payload) []message.Payload { return nil },
		"empty cookie": func(*testing.T, []message.Payload) []message.Payload {
			return []message.Payload{notify(message.Cookie)}
		},
		"invalid KE without data": func(*testing.T, []message.Payload) []message.Payload {
			return []message.Payload{notify(message.InvalidKEPayload)}
		},
		"invalid KE with a group never offered": func(*testing.T, []message.Payload) []message.Payload {
			return []message.Payload{invalidKE(suite.KEMODP1024)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			client, gateway := pskPair(t)
			w, a, b := pair(t, client, gateway)
			a.initiate("home", b)
			s := a.e.last
			ps := append(goodAnswer(t, a), natDetection(s.spii, 7, b.path(a, false))...)
			(&script{t, w, a, b}).answerInit(7, spoil(t, ps)...)
			w.run(time.Second)
			agree(t, a, b, 1) // the right answer came later and was taken
		})
	}
}

// TestUnprotectedErrorAlone: without a better answer it is believed after two seconds.
func TestUnprotectedErrorAlone(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := pair(t, client, gateway)
	w.fate = func(*host, Send) int { return 0 }
	a.initiate("home", b)
	(&script{t, w, a, b}).answerInit(0, notify(message.NoProposalChosen))
	if len(found[Warned](a)) != 1 {
		t.Error("the error is not shown at once")
	}
	w.run(1900 * time.Millisecond)
	if len(found[Down](a)) != 0 {
		t.Error("believed too early")
	}
	w.run(200 * time.Millisecond)
	if a.downCode() != CodeNoProposal {
		t.Error("not believed at all")
	}
}

func TestSourcePrefix(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1":         "192.0.2.1/32",
		"::ffff:192.0.2.1":  "192.0.2.1/32",
		"2001:db8:1:2::3":   "2001:db8:1:2::/64",
		"fe80::1%eth0":      "fe80::/64",
		"2001:db8:1:2:ff::": "2001:db8:1:2::/64",
	} {
		if got := sourcePrefix(netip.MustParseAddr(in)); got.String() != want {
			t.Errorf("%s: %v, want %s", in, got, want)
		}
	}
}

func TestAddressChoosesConnection(t *testing.T) {
	client, gateway := pskPair(t)
	other := *gateway
	other.Name, other.From = "branch", []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	far := *gateway
	far.Name, far.From = "far", []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	passive := *gateway
	passive.Name, passive.Respond, passive.From = "out", false, []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}
	w := newWorld(t)
	a := w.add("client", "192.0.2.1", &Config{Connections: []*Connection{client}})
	b := w.add("gateway", "198.51.100.1", &Config{Connections: []*Connection{gateway, &far, &other, &passive}})
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 1)
	if c := b.established()[0].Connection; c != "branch" {
		t.Errorf("connection %s, want the one for the fewest addresses", c)
	}
	c := w.add("stranger", "192.0.2.1", &Config{Connections: []*Connection{client}})
	b.e.cfg.Connections = []*Connection{&far}
	b.deliverOn(Path{Local: b.path(a, false).Local, Remote: netip.MustParseAddrPort("192.0.2.99:500")}, initRequest(t, c, b))
	if b.count(DropNoConnection) != 1 {
		t.Error("an address without connection was let in")
	}
}

func TestVersions(t *testing.T) {
	client, gateway := pskPair(t)
	_, a, b := pair(t, client, gateway)
	raw := initRequest(t, a, b)
	for _, c := range []struct {
		version byte
		answer  bool
	}{{0x10, false}, {0x00, false}, {0x30, true}, {0xf0, true}} {
		b.sent = nil
		raw[17] = c.version
		b.deliverOn(b.path(a, false), raw)
		if got := len(b.sent) == 1; got != c.answer {
			t.Errorf("version %#x: answered %v", c.version, got)
		}
		if c.answer {
			if m, err := message.Parse(b.sent[0].Data); err != nil || m.Notify(message.InvalidMajorVersion) == nil || m.Major != 2 {
				t.Errorf("version %#x: answer %+v, %v", c.version, m, err)
			}
		}
	}
	for range 1000 {
		b.deliverOn(b.path(a, false), raw)
	}
	if len(b.sent) > answersBurst {
		t.Errorf("%d errors sent to a stranger at once", len(b.sent))
	}
	if b.count(DropVersion) != 1004 {
		t.Errorf("%d counted", b.count(DropVersion))
	}
}

func TestNothingToOffer(t *testing.T) {
	client, gateway := pskPair(t)
	client.Proposals = []suite.Proposal{client.Proposals[0].Without(suite.TypeKE)}
	_, a, b := pair(t, client, gateway)
	a.initiate("home", b)
	if c := a.downCode(); c != CodeNoProposal {
		t.Errorf("code %s", c)
	}
	a.reports = nil
	a.initiate("elsewhere", b)
	if c := a.downCode(); c != CodeInternal {
		t.Errorf("code %s", c)
	}
	empty(t, a)
}

func ExampleDrop() {
	fmt.Println(DropICV, DropHalfOpenLimit)
	// Output: bad-icv half-open-limit
}
