package ike

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/ike/message"
)

// TestAuthenticationFails: each way to fail, the code that each side tells, and that
// nothing is left.
func TestAuthenticationFails(t *testing.T) {
	otherCA, err := pki.NewAuthority("Other CA", epoch.Add(-time.Hour), 24*time.Hour, pki.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(ca *pki.Authority, r pki.Request) *pki.Credential {
		c, err := ca.Issue(r)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	carol := pki.Request{Emails: []string{"carol@example.org"}, Purpose: pki.ClientAuth, Now: epoch.Add(-time.Minute), Key: pki.ECDSAP256}
	gw := pki.Request{DNSNames: []string{"gw.example.org"}, Purpose: pki.ServerAuth, Now: epoch.Add(-time.Minute), Key: pki.ECDSAP256}
	old := func(r pki.Request) pki.Request { r.Now, r.Validity = epoch.Add(-time.Hour), time.Minute; return r }
	named := func(r pki.Request, name string) pki.Request {
		r.DNSNames, r.Emails = []string{name}, nil
		return r
	}
	purpose := func(r pki.Request, p pki.Purpose) pki.Request { r.Purpose = p; return r }

	for _, c := range []struct {
		name            string
		certs           bool
		spoil           func(client, gateway *Connection)
		client, gateway Code
	}{
		{"wrong PSK", false, func(client, _ *Connection) { client.Local.PSK = []byte("something else") }, CodeAuthRefused, CodePSK},
		{"gateway's PSK wrong", false, func(client, _ *Connection) { client.Remote.PSK = []byte("something else") }, CodePSK, CodeAuthRefused},
		{"unknown identity", false, func(client, _ *Connection) { client.Local.ID = identity(t, "dave@example.org") }, CodeAuthRefused, CodeIdentity},
		{"gateway's identity", false, func(client, _ *Connection) { client.Remote.ID = identity(t, "vpn.example.net") }, CodeIdentity, CodeAuthRefused},
		{"PSK for certificate", true, func(client, _ *Connection) {
			client.Local = Local{Method: AuthPSK, ID: identity(t, "carol@example.org"), PSK: []byte(testPSK)}
		}, CodeAuthRefused, CodeAuthMethod},
		{"certificate for PSK", false, func(client, _ *Connection) {
			client.Local = Local{Method: AuthCert, Credentials: []*pki.Credential{keys().client[pki.ECDSAP256]}}
		}, CodeAuthRefused, CodeAuthMethod},
		{"gateway PSK, certificate demanded", true, func(_, gateway *Connection) {
			gateway.Local = Local{Method: AuthPSK, ID: identity(t, "gw.example.org"), PSK: []byte(testPSK)}
		}, CodeAuthMethod, CodeAuthRefused},
		{"client untrusted", true, func(client, _ *Connection) { client.Local.Credentials[0] = issue(otherCA, carol) }, CodeAuthRefused, CodeCertUntrusted},
		{"client expired", true, func(client, _ *Connection) { client.Local.Credentials[0] = issue(keys().ca, old(carol)) }, CodeAuthRefused, CodeCertExpired},
		{"client with server's usage", true, func(client, _ *Connection) {
			client.Local.Credentials[0] = issue(keys().ca, purpose(carol, pki.ServerAuth))
		}, CodeAuthRefused, CodeCertInvalid},
		{"client claims another's name", true, func(client, _ *Connection) { client.Local.ID = identity(t, "dave@example.org") }, CodeAuthRefused, CodeCertName},
		{"gateway untrusted", true, func(_, gateway *Connection) { gateway.Local.Credentials[0] = issue(otherCA, gw) }, CodeCertUntrusted, CodeAuthRefused},
		{"gateway expired", true, func(_, gateway *Connection) { gateway.Local.Credentials[0] = issue(keys().ca, old(gw)) }, CodeCertExpired, CodeAuthRefused},
		{"gateway for another name", true, func(_, gateway *Connection) {
			gateway.Local.Credentials[0] = issue(keys().ca, named(gw, "evil.example.net"))
		}, CodeIdentity, CodeAuthRefused},
		{"gateway lies about its name", true, func(_, gateway *Connection) {
			gateway.Local.Credentials[0] = issue(keys().ca, named(gw, "evil.example.net"))
			gateway.Local.ID = identity(t, "gw.example.org")
		}, CodeCertName, CodeAuthRefused},
		{"client's certificate as gateway's", true, func(_, gateway *Connection) {
			gateway.Local.Credentials[0] = issue(keys().ca, purpose(gw, pki.ClientAuth))
		}, CodeCertInvalid, CodeAuthRefused},
		{"gateway without a key", false, func(_, gateway *Connection) { gateway.Local.PSK = nil }, CodeAuthRefused, CodeNoCredential},
		{"gateway without a certificate", true, func(_, gateway *Connection) { gateway.Local.Credentials = nil }, CodeAuthRefused, CodeNoCredential},
		{"gateway does not know the peer's key", false, func(_, gateway *Connection) { gateway.Remote.PSK = nil }, CodeAuthRefused, CodeNoCredential},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, gateway := pskPair(t)
			if c.certs {
				client, gateway = certPair(t, pki.ECDSAP256, pki.ECDSAP256)
			}
			c.spoil(client, gateway)
			w, a, b := pair(t, client, gateway)
			a.initiate("home", b)
			w.run(10 * time.Second)
			if got := a.downCode(); got != c.client {
				t.Errorf("client's code %s, want %s", got, c.client)
			}
			if got := b.downCode(); got != c.gateway {
				t.Errorf("gateway's code %s, want %s", got, c.gateway)
			}
			for _, h := range []*host{a, b} {
				if h == b && c.client != CodeAuthRefused {
					continue // the client found it, after the gateway was satisfied
				}
				if len(found[Established](h)) != 0 || len(found[ChildUp](h)) != 0 {
					t.Errorf("%s reports an SA", h.name)
				}
			}
			for _, h := range []*host{a, b} {
				err := found[Down](h)[0].Err
				if err.What == "" || err.Why == "" || err.Hint == "" {
					t.Errorf("%s explains too little: %+v", h.name, err)
				}
			}
			w.run(time.Hour)
			empty(t, a, b)
		})
	}
}

func TestClientWithoutCredential(t *testing.T) {
	for name, spoil := range map[string]func(*Connection){
		"no key":         func(c *Connection) { c.Local.PSK = nil },
		"no certificate": func(c *Connection) { c.Local = Local{Method: AuthCert} },
		"public only": func(c *Connection) {
			c.Local = Local{Method: AuthCert, Credentials: []*pki.Credential{{Cert: keys().client[pki.RSA2048].Cert}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			client, gateway := pskPair(t)
			spoil(client)
			w, a, b := pair(t, client, gateway)
			a.initiate("home", b)
			w.run(time.Hour)
			if got := a.downCode(); got != CodeNoCredential {
				t.Errorf("code %s", got)
			}
			empty(t, a, b)
		})
	}
}

func TestNotAdmitted(t *testing.T) {
	for _, notify := range []message.NotifyType{0, message.AuthenticationFailed, message.NoAdditionalSAs} {
		client, gateway := pskPair(t)
		w, a, b := pair(t, client, gateway)
		b.admit = func(Admit) Admission { return Admission{Refuse: "the house is full", Notify: notify} }
		a.initiate("home", b)
		w.run(time.Hour)
		if got := b.downCode(); got != CodeRefused {
			t.Errorf("%v: gateway's code %s", notify, got)
		}
		want := CodeAuthRefused
		if notify == message.NoAdditionalSAs {
			want = CodeRefused
		}
		if got := a.downCode(); got != want {
			t.Errorf("%v: client's code %s, want %s", notify, got, want)
		}
		empty(t, a, b)
	}
}

func TestHostFails(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := pair(t, client, gateway)
	a.configure = func(Configure) Configured { return Configured{Err: errMissing("no TUN device")} }
	a.initiate("home", b)
	w.run(time.Hour)
	if got := a.downCode(); got != CodeHost {
		t.Errorf("code %s", got)
	}
	if got := b.downCode(); got != "" {
		t.Errorf("the gateway was not told in order: %s", got)
	}
	empty(t, a, b)
}

// TestIdentities: who is who where neither side says much.
func TestIdentities(t *testing.T) {
	p := keys()
	t.Run("no IDr", func(t *testing.T) {
		// interop.md R8: Windows never sends one.
		client, gateway := certPair(t, pki.RSA2048, pki.RSA2048)
		client.Remote.ID = pki.Identity{}
		_, a, _ := up(t, client, gateway)
		if got := a.established()[0].Remote; got != identity(t, "gw.example.org") {
			t.Errorf("gateway is %v", got)
		}
	})
	t.Run("IDr chooses the name", func(t *testing.T) {
		client, gateway := certPair(t, pki.RSA2048, pki.RSA2048)
		two, err := p.ca.Issue(pki.Request{DNSNames: []string{"one.example.org", "two.example.org"}, Purpose: pki.ServerAuth, Now: epoch.Add(-time.Hour), Key: pki.ECDSAP256})
		if err != nil {
			t.Fatal(err)
		}
		gateway.Local.Credentials = []*pki.Credential{two}
		client.Remote.ID = identity(t, "two.example.org")
		_, a, _ := up(t, client, gateway)
		if got := a.established()[0].Remote; got != client.Remote.ID {
			t.Errorf("gateway is %v", got)
		}
	})
	t.Run("gateway names itself by its subject", func(t *testing.T) {
		client, gateway := certPair(t, pki.RSA2048, pki.RSA2048)
		gateway.Local.ID = pki.DN(gateway.Local.Credentials[0].Cert.RawSubject)
		_, a, _ := up(t, client, gateway)
		if got := a.established()[0].Remote; got != gateway.Local.ID {
			t.Errorf("gateway is %v", got)
		}
	})
	t.Run("PSK without identities", func(t *testing.T) {
		client, gateway := pskPair(t)
		client.Local.ID, client.Remote.ID, gateway.Local.ID, gateway.Remote.ID = pki.Identity{}, pki.Identity{}, pki.Identity{}, pki.Identity{}
		_, a, b := up(t, client, gateway)
		if got := a.established()[0].Remote; got != pki.Addr(netip.MustParseAddr("198.51.100.1")) {
			t.Errorf("gateway is %v", got)
		}
		if got := b.established()[0].Remote; got != pki.Addr(netip.MustParseAddr("192.0.2.1")) {
			t.Errorf("client is %v", got)
		}
	})
	t.Run("the connection is chosen by identity and key", func(t *testing.T) {
		client, gateway := pskPair(t)
		first := *gateway
		first.Name, first.Remote.ID = "dave", identity(t, "dave@example.org")
		second := *gateway
		second.Name, second.Remote.PSK = "other key", []byte("no")
		third := *gateway
		third.Name, third.Local.ID = "other name", identity(t, "mail.example.org")
		w := newWorld(t)
		a := w.add("client", "192.0.2.1", &Config{Connections: []*Connection{client}})
		b := w.add("gateway", "198.51.100.1", &Config{Connections: []*Connection{&first, &second, &third, gateway}})
		a.initiate("home", b)
		w.run(time.Second)
		agree(t, a, b, 1)
		if got := b.established()[0].Connection; got != "rw" {
			t.Errorf("connection %s", got)
		}
	})
	t.Run("a pattern is not asked for", func(t *testing.T) {
		for s, want := range map[string]bool{"*.example.org": false, "gw.example.org": true, "*@example.org": false, "192.0.2.1": true, "C=CH, O=*": false, "%any": false, "10.0.0.0/8": false} {
			if got := concrete(identity(t, s)); got != want {
				t.Errorf("%s: %v", s, got)
			}
		}
	})
}

// TestGatewayChoosesCertificate: RSA and ECDSA, by what the peer announced.
func TestGatewayChoosesCertificate(t *testing.T) {
	p := keys()
	_, gateway := certPair(t, pki.RSA2048, pki.RSA2048)
	gateway.Local.Credentials = []*pki.Credential{p.gateway[pki.ECDSAP256], p.gateway[pki.RSA2048]}
	for name, c := range map[string]struct {
		exts   extension
		hashes []pki.HashID
		want   pki.KeyKind
	}{
		"announced": {extSignatureHashes, []pki.HashID{pki.HashSHA2_256}, pki.ECDSAP256},
		"silent":    {0, nil, pki.RSA2048},
	} {
		s := &ikeSA{lineage: lineage{exts: c.exts, peerHashes: c.hashes}}
		got, _, err := s.chooseCredential(gateway, &gateway.Local)
		if err != nil || got != p.gateway[c.want] {
			t.Errorf("%s: wrong certificate, %v", name, err)
		}
	}
	// The CA that the peer names decides among equals.
	other, err := pki.NewAuthority("Other CA", epoch.Add(-time.Hour), 24*time.Hour, pki.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.Issue(pki.Request{DNSNames: []string{"gw.example.org"}, Now: epoch, Key: pki.ECDSAP256})
	if err != nil {
		t.Fatal(err)
	}
	gateway.Local.Credentials = []*pki.Credential{foreign, p.gateway[pki.ECDSAP256]}
	s := &ikeSA{lineage: lineage{exts: extSignatureHashes, peerHashes: pki.Hashes()}, caHashes: [][20]byte{pki.KeyHash(p.ca.Cert)}}
	if got, _, err := s.chooseCredential(gateway, &gateway.Local); err != nil || got != p.gateway[pki.ECDSAP256] {
		t.Errorf("certificate of a CA that the peer did not name, %v", err)
	}
}

func TestInitialContact(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := pair(t, client, gateway)
	var got []bool
	b.admit = func(q Admit) Admission { got = append(got, q.InitialContact); return Admission{} }
	a.initiate("home", b)
	w.run(time.Second)
	a.initiate("home", b)
	w.run(time.Second)
	if !slices.Equal(got, []bool{true, false}) {
		t.Errorf("INITIAL_CONTACT %v, want on the first SA only", got)
	}
	if len(a.established()) != 2 {
		t.Error("the engine itself removed an SA")
	}
}

// TestOlderSignatures: a peer that announces no hashes signs and is signed for by the
// older methods 1, 9, 10 and 11; strict refuses SHA-1 of method 1.
func TestOlderSignatures(t *testing.T) {
	for _, kind := range []pki.KeyKind{pki.RSA2048, pki.ECDSAP256, pki.ECDSAP384} {
		for _, strict := range []bool{false, true} {
			client, gateway := certPair(t, kind, pki.ECDSAP256)
			gateway.StrictSignatures = strict
			w, a, b := pair(t, client, gateway)
			stripHashes(w)
			a.initiate("home", b)
			w.run(time.Second)
			if strict && kind == pki.RSA2048 {
				if got := b.downCode(); got != CodeSignature {
					t.Errorf("SHA-1 was not refused: %s", got)
				}
				continue
			}
			agree(t, a, b, 1)
		}
	}
}

// stripHashes makes both engines believe that the other announced no hashes.
func stripHashes(w *world) {
	for _, h := range w.nodes {
		h.e.trap = func(string, *ikeSA) {
			for s := h.e.first; s != nil; s = s.next {
				s.exts &^= extSignatureHashes
				s.peerHashes = nil
			}
		}
	}
}

// TestExplanationsAreWhole: no reason of failure is told without what, why and hint, and
// none holds a key.
func TestExplanationsAreWhole(t *testing.T) {
	client, gateway := pskPair(t)
	_, a, b := up(t, client, gateway)
	for _, h := range []*host{a, b} {
		for _, r := range h.reports {
			if text := strings.ToLower(reportText(r)); strings.Contains(text, testPSK[:8]) {
				t.Error("a report holds the key")
			}
		}
	}
	s := engineOf(a)
	for _, err := range []*Error{
		errInternal("x"), errHalfOpen(s), errUnreachable(s), errAuthUnanswered(s), errPeerDead(s), errNoNATT(), errLoop(s),
		errForeignGroup(s, 2), errKeyExchange(errWrongReply), errNothingToOffer(client), errInitRefused(s, notify(message.InvalidSyntax)),
		errInitRefused(s, notify(message.NoProposalChosen)), errNoConnection(s.path), errSyntax(errWrongReply),
		errPeerGaveUp(s, notify(message.AuthenticationFailed)), errNotAdmitted("x"), errHost(errWrongReply), errCert(s, errWrongReply),
		errCertMalformed(errWrongReply), errTooManyCerts(), errCertMissing(), errNoCredential(nil), errMethod(s, message.AuthNull, AuthPSK),
		errWantsEAP(s), errAuthIncomplete(true), errAuthIncomplete(false), errChildIncomplete(), errNoAddress(s), errLease("x"),
	} {
		if err.Code == "" || err.What == "" || err.Why == "" || err.Hint == "" {
			t.Errorf("%+v", err)
		}
	}
}
