package interop

import (
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"martlet/crypto/pki"
)

// proofs is how both sides prove who they are, where it takes more than a certificate of one
// CA.
type proofs struct {
	martlet               string // the sections local and peer
	swanLocal, swanRemote string // what stands in strongSwan's
	swanSecrets           string
	swanFiles             map[string][]byte // in its folder
	martletID, swanID     string            // where they are not those of the certificates
	handler               http.Handler      // serves at web, in both namespaces; nil: nobody does
}

// web is where revocation is told: each side asks itself, so that nothing of it is on the wire.
const web = "127.0.0.1:8980"

// serve answers HTTP in both namespaces.
func (p *proofs) serve(t *testing.T, n *network) {
	if p.handler == nil {
		return
	}
	for _, ns := range []*namespace{n.a, n.b} {
		server := &http.Server{Handler: p.handler, ReadHeaderTimeout: 10 * time.Second}
		l := ns.listen(web)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = server.Serve(l) // ends by Close
		}()
		t.Cleanup(func() {
			if err := server.Close(); err != nil {
				t.Error(err)
			}
			<-done
		})
	}
}

// listen opens a port in the namespace; it stays there whoever accepts from it.
func (ns *namespace) listen(at string) net.Listener {
	ns.t.Helper()
	type result struct {
		l   net.Listener
		err error
	}
	got := make(chan result)
	go func() {
		// The thread is not used again: it ends with the goroutine.
		runtime.LockOSThread()
		err := enter(ns.name)
		var l net.Listener
		if err == nil {
			l, err = net.Listen("tcp", at)
		}
		got <- result{l, err}
	}()
	r := <-got
	if r.err != nil {
		ns.t.Fatal(r.err)
	}
	return r.l
}

// bureau is a root with two CAs below it, one for each side, and what they tell of revocation.
type bureau struct {
	t                *testing.T
	dir              string
	root             *pki.Authority
	research, sales  *pki.Authority // of Martlet and of strongSwan
	martlet, swan    *pki.Credential
	revoked          []*big.Int
	noCRL, noOCSP    bool
	fetched, queried atomic.Int64
}

func newBureau(t *testing.T, kind pki.KeyKind) *bureau {
	t.Helper()
	return newBureauFor(t, kind, 24*time.Hour)
}

// newBureauFor has everything valid for so long.
func newBureauFor(t *testing.T, kind pki.KeyKind, validity time.Duration) *bureau {
	t.Helper()
	b := &bureau{t: t, dir: t.TempDir()}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	var err error
	b.root, err = pki.NewAuthority("Root", now, validity, pki.ECDSAP256)
	must(err)
	b.root.CRL = []string{"http://" + web + "/root.crl"}
	for name, ca := range map[string]**pki.Authority{"research": &b.research, "sales": &b.sales} {
		*ca, err = b.root.Intermediate(name, now, validity, pki.ECDSAP256, pki.Limits{DNSNames: []string{"test"}})
		must(err)
		(*ca).CRL = []string{"http://" + web + "/" + name + ".crl"}
		(*ca).OCSP = []string{"http://" + web + "/" + name}
	}
	b.martlet, err = b.research.Issue(pki.Request{DNSNames: []string{martletID}, Now: now, Validity: validity, Key: kind})
	must(err)
	b.swan, err = b.sales.Issue(pki.Request{DNSNames: []string{swanID}, Now: now, Validity: validity, Key: kind})
	must(err)
	return b
}

// ServeHTTP tells what was revoked, by CRL and by OCSP.
func (b *bureau) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, isCRL := strings.CutSuffix(r.URL.Path[1:], ".crl")
	ca := map[string]*pki.Authority{"root": b.root, "research": b.research, "sales": b.sales}[name]
	if ca == nil || isCRL && b.noCRL || !isCRL && b.noOCSP {
		http.NotFound(w, r)
		return
	}
	if isCRL {
		b.fetched.Add(1)
		var list []pki.RevokedCert
		for _, serial := range b.revoked {
			list = append(list, pki.RevokedCert{Serial: serial, At: time.Now(), Reason: 1})
		}
		der, err := ca.IssueCRL(list, 1, time.Now(), time.Now().Add(time.Hour))
		if err != nil {
			b.t.Error(err)
		}
		_, _ = w.Write(der)
		return
	}
	b.queried.Add(1)
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	if err != nil {
		return
	}
	q, err := ocsp.ParseRequest(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer := ocsp.Response{Status: ocsp.Good, SerialNumber: q.SerialNumber, ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for _, serial := range b.revoked {
		if serial.Cmp(q.SerialNumber) == 0 {
			answer.Status, answer.RevokedAt = ocsp.Revoked, time.Now()
		}
	}
	der, err := ocsp.CreateResponse(ca.Cert, ca.Cert, answer, ca.Key)
	if err != nil {
		b.t.Error(err)
	}
	_, _ = w.Write(der)
}

// file writes a file for Martlet and returns its path.
func (b *bureau) file(name string, data []byte) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

func (b *bureau) keyPEM(c *pki.Credential) []byte {
	b.t.Helper()
	key, err := pki.EncodePrivateKey(c.Key)
	if err != nil {
		b.t.Fatal(err)
	}
	return key
}

// proofs are those of certificates with the CAs between them and the root, which is all that the
// other side has. more stands in Martlet's section of the peer.
func (b *bureau) proofs(more string) *proofs {
	chain := pki.EncodeCertificate(append([]*x509.Certificate{b.martlet.Cert}, b.martlet.Chain...)...)
	root := pki.EncodeCertificate(b.root.Cert)
	return &proofs{
		martlet: fmt.Sprintf("[connection.site.local]\nauth = \"cert\"\ncert = [%q]\nkey = [%q]\n[connection.site.peer]\nauth = \"cert\"\nid = %q\nca = [%q]\n%s",
			b.file("martlet.pem", chain), b.file("martlet.key", b.keyPEM(b.martlet)), swanID, b.file("root.pem", root), more),
		swanLocal:  fmt.Sprintf("auth = pubkey\n id = %s\n certs = swan.pem", swanID),
		swanRemote: fmt.Sprintf("auth = pubkey\n id = %s\n cacerts = root.pem", martletID),
		swanFiles: map[string][]byte{
			"x509ca/root.pem": root, "x509ca/sales.pem": pki.EncodeCertificate(b.sales.Cert),
			"x509/swan.pem": pki.EncodeCertificate(b.swan.Cert), "private/swan.pem": b.keyPEM(b.swan),
		},
		handler: b,
	}
}

// silent are proofs of a bureau that nobody asks.
func silent(b *bureau) *proofs {
	p := b.proofs("")
	p.handler = nil
	return p
}

// revocation makes a scenario about it.
func revocation(name, more string, change func(*bureau, *proofs), fails *failure) scenario {
	return scenario{name: name, fails: fails, proofs: func(t *testing.T) *proofs {
		b := newBureau(t, pki.ECDSAP256)
		p := b.proofs(more)
		change(b, p)
		if fails == nil {
			t.Cleanup(func() {
				if b.fetched.Load()+b.queried.Load() == 0 && p.handler != nil {
					t.Error("nobody asked whether anything was revoked")
				}
			})
		}
		return p
	}}
}

var (
	refusesRevoked = &failure{says: "code: cert-revoked", status: 4, logs: "cert-revoked", swanSays: "AUTHENTICATION_FAILED"}
	refusesUnknown = &failure{says: "code: cert-status", status: 4, logs: "cert-status", swanSays: "AUTHENTICATION_FAILED"}
	swanRefuses    = &failure{says: "code: auth-refused", status: 4, logs: "auth-refused", swanSays: "certificate was revoked"}
)

var certificateScenarios = []scenario{
	{name: "multi-level-ca", proofs: func(t *testing.T) *proofs { return silent(newBureau(t, pki.ECDSAP256)) }},
	{name: "ecdsa-p384", proofs: func(t *testing.T) *proofs { return silent(newBureau(t, pki.ECDSAP384)) }},
	{name: "ecdsa-p521", proofs: func(t *testing.T) *proofs { return silent(newBureau(t, pki.ECDSAP521)) }},
	{name: "certreq-chooses", proofs: func(t *testing.T) *proofs {
		// Martlet's first certificate is of a CA that strongSwan does not have.
		b, other := newBureau(t, pki.ECDSAP256), newBureau(t, pki.ECDSAP256)
		p := silent(b)
		certs := pki.EncodeCertificate(append([]*x509.Certificate{other.martlet.Cert}, other.martlet.Chain...)...)
		p.martlet = strings.NewReplacer(
			"cert = [", fmt.Sprintf("cert = [%q, ", b.file("other.pem", certs)),
			"key = [", fmt.Sprintf("key = [%q, ", b.file("other.key", b.keyPEM(other.martlet))),
		).Replace(p.martlet)
		return p
	}},
	revocation("revoked-by-crl", "revocation = \"relaxed\"\n", func(b *bureau, _ *proofs) {
		b.noOCSP = true
		b.revoked = append(b.revoked, b.swan.Cert.SerialNumber)
	}, refusesRevoked),
	revocation("revoked-by-ocsp", "revocation = \"relaxed\"\n", func(b *bureau, _ *proofs) {
		b.noCRL = true
		b.revoked = append(b.revoked, b.swan.Cert.SerialNumber)
	}, refusesRevoked),
	revocation("revoked-ca", "revocation = \"strict\"\n", func(b *bureau, _ *proofs) {
		b.revoked = append(b.revoked, b.sales.Cert.SerialNumber)
	}, refusesRevoked),
	revocation("strict", "revocation = \"strict\"\n", func(_ *bureau, p *proofs) {
		p.swanRemote += "\n revocation = strict"
	}, nil),
	revocation("strict-server-dead", "revocation = \"strict\"\n", func(_ *bureau, p *proofs) { p.handler = nil }, refusesUnknown),
	revocation("relaxed-server-dead", "revocation = \"relaxed\"\n", func(_ *bureau, p *proofs) { p.handler = nil }, nil),
	revocation("strongswan-sees-revoked", "", func(b *bureau, p *proofs) {
		b.revoked = append(b.revoked, b.martlet.Cert.SerialNumber)
		p.swanRemote += "\n revocation = strict"
	}, swanRefuses),
	{name: "raw-public-keys", proofs: func(t *testing.T) *proofs { return rawKeys(t, pki.RSA2048) }},
	{name: "raw-public-keys-ecdsa", proofs: func(t *testing.T) *proofs { return rawKeys(t, pki.ECDSAP256) }},
	{name: "pkcs12", proofs: func(t *testing.T) *proofs {
		b := newBureau(t, pki.ECDSAP256)
		p := silent(b)
		box := func(c *pki.Credential, password string) []byte {
			data, err := pki.EncodePKCS12(c, []*x509.Certificate{b.root.Cert}, password, false)
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
		p.martlet = fmt.Sprintf("[connection.site.local]\nauth = \"cert\"\ncert = [%q]\nkey_password = \"mercury\"\n[connection.site.peer]\nauth = \"cert\"\nid = %q\nca = [%q]\n",
			b.file("martlet.p12", box(b.martlet, "mercury")), swanID, b.file("root.pem", pki.EncodeCertificate(b.root.Cert)))
		p.swanFiles = map[string][]byte{
			"x509ca/root.pem": pki.EncodeCertificate(b.root.Cert), "pkcs12/swan.p12": box(b.swan, "venus"),
		}
		p.swanLocal = fmt.Sprintf("auth = pubkey\n id = %s", swanID)
		p.swanSecrets = "pkcs12-swan { file = swan.p12\n secret = venus }"
		return p
	}},
	{
		name: "rsa-pss", swan: swanSettings{lines: "rsa_pss = yes"},
		check: func(t *testing.T, p *pair) {
			for _, who := range []string{"'" + swanID + "' (myself)", "'" + martletID + "'"} {
				if want := "authentication of " + who + " with RSA_EMSA_PSS_SHA2_256"; !strings.Contains(p.s.log(), want) {
					t.Errorf("strongSwan's log does not have %q", want)
				}
			}
			p.traffic(t, inA4, inB4)
		},
		proofs: func(t *testing.T) *proofs {
			b := newBureau(t, pki.RSA2048)
			p := silent(b)
			p.swanLocal = strings.Replace(p.swanLocal, "pubkey", "rsa/pss-sha256", 1)
			p.swanRemote = strings.Replace(p.swanRemote, "pubkey", "ike:rsa/pss-sha256", 1)
			return p
		},
	},
}

// rawKeys are bare keys on both sides, without any certificate.
func rawKeys(t *testing.T, kind pki.KeyKind) *proofs {
	b := newBureau(t, kind)
	public := func(c *pki.Credential) []byte {
		data, err := pki.EncodePublicKeyFile(c.Public())
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	return &proofs{
		martlet: fmt.Sprintf("[connection.site.local]\nauth = \"cert\"\nid = %q\ncert = [%q]\nkey = [%q]\n[connection.site.peer]\nauth = \"cert\"\nid = %q\ncert = [%q]\n",
			martletID, b.file("martlet.pub", public(b.martlet)), b.file("martlet.key", b.keyPEM(b.martlet)), swanID, b.file("swan.pub", public(b.swan))),
		swanLocal:  fmt.Sprintf("auth = pubkey\n id = %s\n pubkeys = swan.pem", swanID),
		swanRemote: fmt.Sprintf("auth = pubkey\n id = %s\n pubkeys = martlet.pem", martletID),
		swanFiles: map[string][]byte{
			"pubkey/swan.pem": public(b.swan), "pubkey/martlet.pem": public(b.martlet), "private/swan.pem": b.keyPEM(b.swan),
		},
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	for _, sc := range certificateScenarios {
		for _, role := range []string{"initiator", "responder"} {
			t.Run(sc.name+"/"+role, func(t *testing.T) {
				start(t)
				run := sc
				run.swan.plugins = "curl pkcs7 pkcs12"
				run.play(t, role == "initiator")
			})
		}
	}
}

// TestRevokedAtReauthentication: strongSwan has come in, its certificate is put on the list, and
// it does not come in again.
func TestRevokedAtReauthentication(t *testing.T) {
	start(t)
	b := newBureau(t, pki.ECDSAP256)
	list := func(revoked ...pki.RevokedCert) string {
		der, err := b.sales.IssueCRL(revoked, int64(len(revoked))+1, time.Now(), time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return b.file("sales.crl", der)
	}
	p, leaks := scenario{
		name: "revoked-at-reauthentication", moreA: "reauth = \"6s\"\n",
		moreB: "over_time = 3s\n rand_time = 0s", swan: swanSettings{lines: "make_before_break = yes"},
		proofs: func(*testing.T) *proofs {
			p := b.proofs(fmt.Sprintf("crl = [%q]\n", list()))
			p.handler = nil
			return p
		},
	}.prepare(t, false)
	p.m.serve()
	if out, err := p.s.initiate("net"); err != nil {
		t.Fatalf("swanctl --initiate: %v\n%s", err, out)
	}
	p.m.awaitUp(1)
	p.traffic(t, inA4, inB4)
	list(pki.RevokedCert{Serial: b.swan.Cert.SerialNumber, At: time.Now(), Reason: 1})
	if out, err := p.m.martlet("reload", "-c", p.m.config); err != nil {
		t.Errorf("martlet reload: %v\n%s", err, out)
	}
	p.m.proc.says("cert-revoked")
	p.m.awaitDown()
	leaks.clean(t)
	p.m.end()
}
