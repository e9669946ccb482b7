package ike

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"slices"
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/ike/message"
)

// ocspPair is a pair with certificates that name a responder, and whose revocation both
// sides ask about.
func ocspPair(t testing.TB) (client, gateway *Connection) {
	client, gateway = certPair(t, pki.ECDSAP256, pki.ECDSAP256)
	ca := *keys().ca
	ca.OCSP = []string{"http://ocsp.example/"}
	issue := func(r pki.Request) []*pki.Credential {
		r.Now, r.Key = epoch.Add(-time.Minute), pki.ECDSAP256
		c, err := ca.Issue(r)
		if err != nil {
			t.Fatal(err)
		}
		return []*pki.Credential{c}
	}
	client.Local.Credentials = issue(pki.Request{Emails: []string{"carol@example.org"}, Purpose: pki.ClientAuth})
	gateway.Local.Credentials = issue(pki.Request{DNSNames: []string{"gw.example.org"}, Purpose: pki.ServerAuth})
	client.Remote.Revocation, gateway.Remote.Revocation = pki.RevocationStrict, pki.RevocationRelaxed
	return client, gateway
}

func TestVouch(t *testing.T) {
	client, gateway := ocspPair(t)
	w, a, b := pair(t, client, gateway)
	a.staple, b.staple = []byte("of the client"), []byte("of the gateway")
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 1)
	for _, h := range []*host{a, b} {
		var q []Vouch
		for _, x := range h.asked {
			if v, ok := x.(Vouch); ok {
				q = append(q, v)
			}
		}
		peer, policy, staple := gateway.Local.Credentials[0], pki.RevocationStrict, b.staple
		if h == b {
			peer, policy, staple = client.Local.Credentials[0], pki.RevocationRelaxed, a.staple
		}
		switch {
		case len(q) != 1:
			t.Errorf("%s asked %d times", h.name, len(q))
		case len(q[0].Chain) != 2 || !q[0].Chain[0].Equal(peer.Cert) || !q[0].Chain[1].Equal(keys().ca.Cert):
			t.Errorf("%s asked about another chain", h.name)
		case q[0].Policy != policy || len(q[0].Stapled) != 1 || !bytes.Equal(q[0].Stapled[0], staple):
			t.Errorf("%s: %v, %q", h.name, q[0].Policy, q[0].Stapled)
		}
	}
}

func TestVouchRefuses(t *testing.T) {
	revoked := func(Vouch) Reply {
		return Vouched{Err: &pki.CertError{Code: pki.CodeRevoked, What: "revoked", Why: "so it is"}}
	}
	unknown := func(Vouch) Reply {
		return Vouched{Err: &pki.CertError{Code: pki.CodeRevocationUnknown, What: "unknown", Why: "nobody answers"}}
	}
	wrong := func(Vouch) Reply { return Configured{} }
	for _, c := range []struct {
		name       string
		atClient   func(Vouch) Reply
		atGateway  func(Vouch) Reply
		wantClient Code
		wantServer Code
	}{
		{"gateway revoked", revoked, nil, CodeCertRevoked, CodeAuthRefused},
		{"client revoked", nil, revoked, CodeAuthRefused, CodeCertRevoked},
		{"gateway unknown", unknown, nil, CodeCertStatus, CodeAuthRefused},
		{"client unknown", nil, unknown, CodeAuthRefused, CodeCertStatus},
		{"wrong answer at client", wrong, nil, CodeInternal, CodeAuthRefused},
		{"wrong answer at gateway", nil, wrong, CodeAuthRefused, CodeInternal},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, gateway := ocspPair(t)
			w, a, b := pair(t, client, gateway)
			a.vouch, b.vouch = c.atClient, c.atGateway
			a.initiate("home", b)
			w.run(time.Minute)
			if a.downCode() != c.wantClient || b.downCode() != c.wantServer {
				t.Errorf("client %s, gateway %s", a.downCode(), b.downCode())
			}
			if c.atClient != nil && slices.ContainsFunc(a.asked, func(q Question) bool { _, ok := q.(Configure); return ok }) {
				t.Error("the host was set up")
			}
			if c.atGateway != nil && len(found[Established](b)) != 0 {
				t.Error("established")
			}
			empty(t, a, b)
		})
	}
}

// TestRow49NoFetchForUntrusted: before a chain is trusted, and for a peer that does not
// have the key, nobody is asked.
func TestRow49NoFetchForUntrusted(t *testing.T) {
	other, err := pki.NewAuthority("Other CA", epoch.Add(-time.Hour), 24*time.Hour, pki.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	other.OCSP, other.CRL = []string{"http://evil.example/"}, []string{"http://evil.example/"}
	foreign, err := other.Issue(pki.Request{Emails: []string{"carol@example.org"}, Purpose: pki.ClientAuth, Now: epoch.Add(-time.Minute), Key: pki.ECDSAP256})
	if err != nil {
		t.Fatal(err)
	}
	stolen := *keys().client[pki.ECDSAP256]
	stolen.Key = foreign.Key
	for name, cred := range map[string]*pki.Credential{"another CA": foreign, "a stolen certificate": &stolen} {
		client, gateway := ocspPair(t)
		client.Local.Credentials = []*pki.Credential{cred}
		w, a, b := pair(t, client, gateway)
		a.initiate("home", b)
		w.run(time.Minute)
		if len(b.established()) != 0 || b.downCode() == "" {
			t.Errorf("%s: came in", name)
		}
		for _, q := range b.asked {
			if _, ok := q.(Vouch); ok {
				t.Errorf("%s: was asked about", name)
			}
		}
	}
}

// TestVouchTakesLong: the peer repeats itself, and other peers go on; what never gets an
// answer ends when half-open SAs do.
func TestVouchTakesLong(t *testing.T) {
	client, gateway := ocspPair(t)
	w, a, b := pair(t, client, gateway)
	b.vouch = func(Vouch) Reply { return nil }
	a.initiate("home", b)
	w.run(5 * time.Second)
	if len(sentOf(a, message.IKEAuth, false)) < 3 {
		t.Error("the client did not repeat its request")
	}
	if n := len(slices.DeleteFunc(slices.Clone(b.asked), func(q Question) bool { _, ok := q.(Vouch); return !ok })); n != 1 {
		t.Errorf("asked %d times", n)
	}
	w.run(2 * time.Minute)
	empty(t, a, b)
}

// TestCertReqChooses: of two certificates of ours the one goes out whose CA the peer named,
// though the other CA has the same name, and though we ourselves trust neither.
func TestCertReqChooses(t *testing.T) {
	for _, trusted := range []bool{true, false} {
		client, gateway := certPair(t, pki.ECDSAP256, pki.ECDSAP256)
		namesake, err := pki.NewAuthority("Test CA", epoch.Add(-time.Hour), 24*time.Hour, pki.ECDSAP256)
		if err != nil {
			t.Fatal(err)
		}
		issue := func(ca *pki.Authority, r pki.Request) *pki.Credential {
			r.Now, r.Key = epoch.Add(-time.Minute), pki.ECDSAP256
			c, err := ca.Issue(r)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		carol := pki.Request{Emails: []string{"carol@example.org"}, Purpose: pki.ClientAuth}
		client.Local.Credentials = []*pki.Credential{issue(namesake, carol), issue(keys().ca, carol)}
		if !trusted {
			other, err := pki.NewAuthority("Other CA", epoch.Add(-time.Hour), 24*time.Hour, pki.ECDSAP256)
			if err != nil {
				t.Fatal(err)
			}
			gateway.Local.Credentials = []*pki.Credential{issue(other, pki.Request{DNSNames: []string{"gw.example.org"}, Purpose: pki.ServerAuth})}
			client.Remote.Verifier.Roots = []*x509.Certificate{other.Cert}
		}
		up(t, client, gateway)
	}
}

// TestCertReqAsksAlways: some send a certificate only to who asks for one, so that who trusts the CAs of
// the system asks too, in a list that holds no other CA and is well formed.
func TestCertReqAsksAlways(t *testing.T) {
	ca := pki.KeyHash(keys().ca.Cert)
	var many []*x509.Certificate
	var first []byte // of them, as many as may be named
	for i := range 3 * maxCAHashes {
		many = append(many, &x509.Certificate{RawSubjectPublicKeyInfo: []byte{byte(i)}})
		if h := pki.KeyHash(many[i]); i < maxCAHashes {
			first = append(first, h[:]...)
		}
	}
	for _, c := range []struct {
		name     string
		verifier pki.Verifier
		want     []byte // nil: nothing is asked for
	}{
		{"more CAs than fit", pki.Verifier{Roots: many}, first},
		{"one CA", pki.Verifier{Roots: []*x509.Certificate{keys().ca.Cert}}, ca[:]},
		{"the system's CAs", pki.Verifier{SystemRoots: true}, make([]byte, 20)},
		{"a pinned certificate", pki.Verifier{}, nil},
	} {
		var got []byte
		for _, p := range certReqs([]*Connection{{Remote: Remote{Method: AuthCert, Verifier: c.verifier}}}) {
			if r, ok := p.(*message.CertReq); ok && r.Encoding == message.CertX509Signature {
				got = r.Data
			}
		}
		if !bytes.Equal(got, c.want) {
			t.Errorf("%s: asks for %x, want %x", c.name, got, c.want)
		}
	}
}

// rawPair is two sides that know each other's bare keys.
func rawPair(t testing.TB, kind pki.KeyKind) (client, gateway *Connection) {
	client, gateway = certPair(t, kind, kind)
	bare := func(c *pki.Credential, id string) Local {
		return Local{Method: AuthCert, ID: identity(t, id), Credentials: []*pki.Credential{{Key: c.Key}}}
	}
	pinned := func(c *pki.Credential, id string) Remote {
		return Remote{Method: AuthCert, ID: identity(t, id), Verifier: pki.Verifier{Keys: []crypto.PublicKey{c.Public()}}}
	}
	p := keys()
	client.Local, gateway.Local = bare(p.client[kind], "carol@example.org"), bare(p.gateway[kind], "gw.example.org")
	client.Remote, gateway.Remote = pinned(p.gateway[kind], "gw.example.org"), pinned(p.client[kind], "carol@example.org")
	return client, gateway
}

func TestRawPublicKeys(t *testing.T) {
	for _, kind := range []pki.KeyKind{pki.RSA2048, pki.ECDSAP256, pki.ECDSAP384, pki.Ed25519} {
		client, gateway := rawPair(t, kind)
		up(t, client, gateway)
	}
	// A certificate for the key that is known is as good as the key.
	client, gateway := rawPair(t, pki.ECDSAP256)
	client.Local.Credentials = []*pki.Credential{keys().client[pki.ECDSAP256]}
	up(t, client, gateway)
}

// TestRow35RawKeys: of two keys of one type only the known one passes, and the same modulus
// with another exponent is another key.
func TestRow35RawKeys(t *testing.T) {
	spoiledRSA := func() crypto.PublicKey {
		pub := *keys().client[pki.RSA2048].Public().(*rsa.PublicKey)
		pub.N = new(big.Int).Set(pub.N)
		pub.E = 257
		return &pub
	}
	for name, c := range map[string]struct {
		kind  pki.KeyKind
		known crypto.PublicKey
		want  Code
	}{
		"same type, RSA":     {pki.RSA2048, keys().gateway[pki.RSA2048].Public(), CodeCertUntrusted},
		"same type, ECDSA":   {pki.ECDSAP256, keys().gateway[pki.ECDSAP256].Public(), CodeCertUntrusted},
		"same type, Ed25519": {pki.Ed25519, keys().gateway[pki.Ed25519].Public(), CodeCertUntrusted},
		"another type":       {pki.ECDSAP256, keys().client[pki.RSA2048].Public(), CodeCertUntrusted},
		"another exponent":   {pki.RSA2048, spoiledRSA(), CodeCertUntrusted},
	} {
		// The key is sent along, or it is not, as by strongSwan.
		for _, sent := range []bool{true, false} {
			client, gateway := rawPair(t, c.kind)
			gateway.Remote.Verifier.Keys = []crypto.PublicKey{c.known}
			client.FragmentSize = -1
			_, a, b, auth := halfOpen(t, client, gateway)
			_, e, text, err := message.Open(slices.Clone(auth), engineOf(b).open)
			if err != nil {
				t.Fatal(err)
			}
			ps, err := message.ParsePayloads(e.First, text)
			if err != nil {
				t.Fatal(err)
			}
			want := c.want
			if !sent {
				ps = slices.DeleteFunc(ps, func(p message.Payload) bool { return p.Type() == message.TypeCERT })
				want = CodeSignature
			}
			b.deliver(a, craft(t, engineOf(a), message.IKEAuth, 1, 0, ps...))
			if got := b.downCode(); got != want {
				t.Errorf("%s, sent %v: code %s, want %s", name, sent, got, want)
			}
		}
	}
	// The key that is known, sent and not sent, but another identity.
	client, gateway := rawPair(t, pki.ECDSAP256)
	client.Local.ID = identity(t, "eve@example.org")
	w, a, b := pair(t, client, gateway)
	a.initiate("home", b)
	w.run(time.Second)
	if b.downCode() != CodeIdentity {
		t.Error(b.downCode())
	}
	// A bare key does not pass where a certificate is demanded.
	client, gateway = certPair(t, pki.ECDSAP256, pki.ECDSAP256)
	client.Local.ID = identity(t, "carol@example.org")
	client.Local.Credentials = []*pki.Credential{{Key: keys().client[pki.ECDSAP256].Key}}
	w, a, b = pair(t, client, gateway)
	a.initiate("home", b)
	w.run(time.Second)
	if b.downCode() != CodeCertMissing {
		t.Error(b.downCode())
	}
}

// TestRow48NoCredential: each credential absent at run time, on either side.
func TestRow48NoCredential(t *testing.T) {
	for name, spoil := range map[string]func(l *Local, r *Remote){
		"nothing":         func(l *Local, _ *Remote) { l.Credentials, l.PSK = nil, nil },
		"no key":          func(l *Local, _ *Remote) { l.Credentials = []*pki.Credential{{Cert: keys().ca.Cert}}; l.PSK = nil },
		"no key, no name": func(l *Local, _ *Remote) { l.Credentials, l.PSK, l.ID = []*pki.Credential{{}}, nil, pki.Identity{} },
		"bare key, no name": func(l *Local, _ *Remote) {
			l.Credentials[0] = &pki.Credential{Key: keys().ca.Key}
			l.ID = pki.Identity{}
		},
		"key of another kind":   func(l *Local, _ *Remote) { l.Credentials[0] = &pki.Credential{Cert: keys().ca.Cert, Key: brokenKey{}} },
		"nobody is trusted":     func(_ *Local, r *Remote) { r.Verifier, r.PSK = pki.Verifier{}, nil },
		"a CA without anything": func(_ *Local, r *Remote) { r.Verifier.Roots, r.PSK = []*x509.Certificate{{}}, nil },
		"a key of no kind":      func(_ *Local, r *Remote) { r.Verifier, r.PSK = pki.Verifier{Keys: []crypto.PublicKey{nil, 7}}, nil },
	} {
		for _, byCert := range []bool{true, false} {
			for _, atClient := range []bool{true, false} {
				client, gateway := pskPair(t)
				if byCert {
					client, gateway = certPair(t, pki.ECDSAP256, pki.ECDSAP256)
				} else if name == "bare key, no name" || name == "key of another kind" {
					continue
				}
				if atClient {
					client.Local.Credentials = slices.Clone(client.Local.Credentials)
					spoil(&client.Local, &client.Remote)
				} else {
					gateway.Local.Credentials = slices.Clone(gateway.Local.Credentials)
					spoil(&gateway.Local, &gateway.Remote)
				}
				w, a, b := pair(t, client, gateway)
				a.initiate("home", b)
				w.run(time.Minute)
				if len(a.established())+len(b.established()) != 0 || a.downCode() == "" || a.downCode() == CodeInternal {
					t.Errorf("%s, certificates %v, at the client %v: %s", name, byCert, atClient, a.downCode())
				}
				empty(t, a, b)
			}
		}
	}
}

// brokenKey is a signer whose device is gone.
type brokenKey struct{ crypto.Signer }

func (brokenKey) Public() crypto.PublicKey { return nil }

// TestRow55OtherEncodings: nothing but X.509 (4) is parsed as a certificate; OCSP responses (14)
// and bare keys (15) have their own place; everything else, PKCS#7 before all, is passed over.
func TestRow55OtherEncodings(t *testing.T) {
	junk := bytes.Repeat([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff}, 20)
	for encoding := range 256 {
		for _, data := range [][]byte{nil, junk, keys().ca.Cert.Raw} {
			other := &message.Cert{Encoding: message.CertEncoding(encoding), Data: data}
			leaf := &message.Cert{Encoding: message.CertX509Signature, Data: keys().client[pki.ECDSAP256].Cert.Raw}
			got, err := readCerts([]message.Payload{leaf, other})
			if err != nil || got.leaf == nil {
				t.Fatalf("encoding %d: %v", encoding, err)
			}
			kind := message.CertEncoding(encoding)
			if len(got.others) > 0 && kind != message.CertX509Signature || len(got.ocsp) > 0 && kind != message.CertOCSP || got.rawKey != nil && kind != message.CertRawPublicKey {
				t.Errorf("encoding %d was read as something else", encoding)
			}
			if kind == message.CertX509Signature {
				continue
			}
			if got, err := readCerts([]message.Payload{other}); err != nil || got.leaf != nil {
				t.Errorf("encoding %d alone: %v", encoding, err)
			}
		}
	}
	// Only so many OCSP responses are kept.
	many, err := readCerts(slices.Repeat([]message.Payload{&message.Cert{Encoding: message.CertOCSP, Data: junk}}, 100))
	if err != nil || len(many.ocsp) != pki.MaxChain {
		t.Error(len(many.ocsp), err)
	}
}
