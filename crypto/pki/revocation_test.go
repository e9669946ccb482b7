package pki

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// office is a root, a CA below it and a certificate, with the places to ask.
type office struct {
	root, sub *Authority
	leaf      *Credential
}

func newOffice(tb testing.TB) *office {
	tb.Helper()
	root, err := NewAuthority("Root", testNow, 0, ECDSAP256)
	if err != nil {
		tb.Fatal(err)
	}
	root.CRL = []string{"http://root.example/root.crl"}
	sub, err := root.Intermediate("Sub", testNow, 0, ECDSAP256, Limits{})
	if err != nil {
		tb.Fatal(err)
	}
	sub.CRL = []string{"http://sub.example/sub.crl", "ldap://sub.example/cn=sub", "file:///etc/passwd", "http://u:p@sub.example/"}
	sub.OCSP = []string{"https://ocsp.example/"}
	leaf, err := sub.Issue(Request{DNSNames: []string{"vpn.example.com"}, Now: testNow, Key: ECDSAP256})
	if err != nil {
		tb.Fatal(err)
	}
	return &office{root, sub, leaf}
}

func (o *office) link() Link { return Link{o.leaf.Cert, o.sub.Cert} }

func (o *office) crl(tb testing.TB, ca *Authority, from, to time.Time, list ...RevokedCert) *CRL {
	tb.Helper()
	der, err := ca.IssueCRL(list, 1, from, to)
	if err != nil {
		tb.Fatal(err)
	}
	crl, err := ParseCRL(der)
	if err != nil {
		tb.Fatal(err)
	}
	again, err := ParseCRL(EncodeCRL(der))
	if err != nil || again.Until() != crl.Until() || crl.Size() < len(der) {
		tb.Errorf("as PEM: %v", err)
	}
	return crl
}

func TestSources(t *testing.T) {
	o := newOffice(t)
	chain, err := Verifier{Roots: []*x509.Certificate{o.root.Cert}, Now: testNow}.Chain(o.leaf.Cert, o.leaf.Chain, ServerAuth)
	if err != nil || len(chain) != 3 {
		t.Fatal(len(chain), err)
	}
	links := Links(chain)
	if len(links) != 2 || !links[0].Cert.Equal(o.leaf.Cert) || !links[1].Issuer.Equal(o.root.Cert) {
		t.Fatal("links")
	}
	if got := links[0].Sources(); !slices.Equal(got, []Source{{"https://ocsp.example/", true}, {"http://sub.example/sub.crl", false}}) {
		t.Error(got)
	}
	if got := links[1].Sources(); !slices.Equal(got, []Source{{"http://root.example/root.crl", false}}) {
		t.Error(got)
	}
	for range 10 {
		o.sub.CRL = append(o.sub.CRL, "http://a.example/"+strings.Repeat("x", len(o.sub.CRL)))
	}
	many, err := o.sub.Issue(Request{DNSNames: []string{"many"}, Now: testNow, Key: ECDSAP256})
	if err != nil {
		t.Fatal(err)
	}
	if got := (Link{many.Cert, o.sub.Cert}).Sources(); len(got) != maxSources {
		t.Error(got)
	}
	if Links(chain[2:]) != nil || Links(nil) != nil {
		t.Error("a trusted certificate was to be asked about")
	}
}

func TestCRLStatus(t *testing.T) {
	o := newOffice(t)
	l := o.link()
	day := 24 * time.Hour
	entry := RevokedCert{Serial: l.Cert.SerialNumber, At: testNow.Add(-day), Reason: 1}
	held := RevokedCert{Serial: l.Cert.SerialNumber, At: testNow.Add(-day), Reason: reasonHold}
	others := []RevokedCert{{Serial: big.NewInt(1), At: testNow}, {Serial: new(big.Int).Lsh(big.NewInt(1), 150), At: testNow}}
	old, soon := testNow.Add(-10*day), testNow.Add(day)
	stranger := newOffice(t).sub
	for name, c := range map[string]struct {
		crl  *CRL
		want State
	}{
		"empty":            {o.crl(t, o.sub, old, soon), StateGood},
		"others":           {o.crl(t, o.sub, old, soon, others...), StateGood},
		"listed":           {o.crl(t, o.sub, old, soon, append(others, entry)...), StateRevoked},
		"on hold":          {o.crl(t, o.sub, old, soon, held), StateRevoked},
		"stale":            {o.crl(t, o.sub, old, testNow.Add(-day)), StateUnknown},
		"stale and listed": {o.crl(t, o.sub, old, testNow.Add(-day), entry), StateRevoked},
		"stale hold":       {o.crl(t, o.sub, old, testNow.Add(-day), held), StateUnknown},
		"of tomorrow":      {o.crl(t, o.sub, soon, soon.Add(day)), StateUnknown},
		"of the root":      {o.crl(t, o.root, old, soon, entry), StateUnknown},
		"of a namesake":    {o.crl(t, stranger, old, soon, entry), StateUnknown},
	} {
		s := c.crl.Status(l, testNow)
		if s.State != c.want || (s.State == StateUnknown) != (s.Why != "") || (s.State == StateRevoked) != (s.Reason != "") {
			t.Errorf("%s: %+v", name, s)
		}
		want := map[State]string{StateUnknown: CodeRevocationUnknown, StateRevoked: CodeRevoked}[c.want]
		wantCode(t, name, RevocationStrict.Judge(l, s), want)
		if want == CodeRevocationUnknown {
			want = ""
		}
		wantCode(t, name, RevocationRelaxed.Judge(l, s), want)
		wantCode(t, name, RevocationOff.Judge(l, s), "")
	}
	if got := (Status{}); RevocationStrict.Judge(l, got) == nil {
		t.Error("nobody was asked, and strict is content")
	}
}

// TestCRLScope is about issuing distribution points and extensions that are not understood.
func TestCRLScope(t *testing.T) {
	o := newOffice(t)
	uri := "\xa0\x1e\xa0\x1c\x86\x1ahttp://sub.example/sub.crl"
	for name, c := range map[string]struct {
		id       asn1.ObjectIdentifier
		critical bool
		value    string
		want     State
	}{
		"nothing":            {asn1.ObjectIdentifier{2, 5, 29, 28}, true, "\x30\x00", StateGood},
		"end entities":       {asn1.ObjectIdentifier{2, 5, 29, 28}, true, "\x30\x03\x81\x01\xff", StateGood},
		"CAs":                {asn1.ObjectIdentifier{2, 5, 29, 28}, true, "\x30\x03\x82\x01\xff", StateUnknown},
		"some reasons":       {asn1.ObjectIdentifier{2, 5, 29, 28}, true, "\x30\x04\x83\x02\x01\x06", StateUnknown},
		"indirect":           {asn1.ObjectIdentifier{2, 5, 29, 28}, true, "\x30\x03\x84\x01\xff", StateUnknown},
		"attributes":         {asn1.ObjectIdentifier{2, 5, 29, 28}, true, "\x30\x03\x85\x01\xff", StateUnknown},
		"its point":          {asn1.ObjectIdentifier{2, 5, 29, 28}, true, "\x30\x20" + uri, StateGood},
		"another point":      {asn1.ObjectIdentifier{2, 5, 29, 28}, true, "\x30\x20" + strings.Replace(uri, "sub.crl", "bus.crl", 1), StateUnknown},
		"a relative point":   {asn1.ObjectIdentifier{2, 5, 29, 28}, true, "\x30\x04\xa0\x02\xa1\x00", StateUnknown},
		"a broken one":       {asn1.ObjectIdentifier{2, 5, 29, 28}, true, "\x30\x05\x81\x01\xff", StateUnknown},
		"a delta":            {asn1.ObjectIdentifier{2, 5, 29, 27}, true, "\x02\x01\x01", StateUnknown},
		"unknown":            {asn1.ObjectIdentifier{1, 2, 3}, false, "\x05\x00", StateGood},
		"unknown, critical":  {asn1.ObjectIdentifier{1, 2, 3}, true, "\x05\x00", StateUnknown},
		"neither is allowed": {asn1.ObjectIdentifier{2, 5, 29, 28}, true, "\x30\x03\x81\x01\x00", StateGood},
	} {
		der, err := x509.CreateRevocationList(nil, &x509.RevocationList{
			Number: big.NewInt(1), ThisUpdate: testNow, NextUpdate: testNow.Add(time.Hour),
			ExtraExtensions: []pkix.Extension{{Id: c.id, Critical: c.critical, Value: []byte(c.value)}},
		}, o.sub.Cert, o.sub.Key)
		if err != nil {
			t.Fatal(name, err)
		}
		crl, err := ParseCRL(der)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if s := crl.Status(o.link(), testNow); s.State != c.want {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// Delta lists and indirect ones (RFC 5280 §5.2.4, §5.2.5) are no complete lists of a CA, whether they
// say so critically or not, and whatever else they say: nobody is good by them, and it is said why.
func TestDeltaAndIndirectListsTellNothing(t *testing.T) {
	o := newOffice(t)
	ext := func(id int, critical bool, value string) pkix.Extension {
		return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, id}, Critical: critical, Value: []byte(value)}
	}
	for name, c := range map[string]struct {
		ext []pkix.Extension
		why string
	}{
		"delta":                {[]pkix.Extension{ext(27, true, "\x02\x01\x01")}, "delta list"},
		"delta, uncritical":    {[]pkix.Extension{ext(27, false, "\x02\x01\x01")}, "delta list"},
		"indirect":             {[]pkix.Extension{ext(28, true, "\x30\x03\x84\x01\xff")}, "indirect list"},
		"indirect, uncritical": {[]pkix.Extension{ext(28, false, "\x30\x03\x84\x01\xff")}, "indirect list"},
		"both":                 {[]pkix.Extension{ext(27, true, "\x02\x01\x01"), ext(28, true, "\x30\x03\x84\x01\xff")}, "delta list"},
	} {
		der, err := x509.CreateRevocationList(nil, &x509.RevocationList{
			Number: big.NewInt(2), ThisUpdate: testNow, NextUpdate: testNow.Add(time.Hour), ExtraExtensions: c.ext,
		}, o.sub.Cert, o.sub.Key)
		if err != nil {
			t.Fatal(name, err)
		}
		crl, err := ParseCRL(der)
		if err != nil {
			t.Fatal(name, err)
		}
		s := crl.Status(o.link(), testNow)
		if s.State != StateUnknown || !strings.Contains(s.Why, c.why) || !strings.Contains(s.Why, "not supported") || !strings.Contains(crl.Unusable(), c.why) {
			t.Errorf("%s: %+v", name, s)
		}
		wantCode(t, name, RevocationStrict.Judge(o.link(), s), CodeRevocationUnknown)
	}
	if crl, err := ParseCRL(o.complete(t)); err != nil || crl.Unusable() != "" {
		t.Errorf("a complete list: %q, %v", crl.Unusable(), err)
	}
}

// complete is a complete list without entries.
func (o *office) complete(t *testing.T) []byte {
	t.Helper()
	der, err := x509.CreateRevocationList(nil, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: testNow, NextUpdate: testNow.Add(time.Hour)}, o.sub.Cert, o.sub.Key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// response makes an OCSP response; change may alter it.
func (o *office) response(tb testing.TB, signer *x509.Certificate, key crypto.Signer, change func(*ocsp.Response)) []byte {
	tb.Helper()
	template := ocsp.Response{Status: ocsp.Good, SerialNumber: o.leaf.Cert.SerialNumber, ThisUpdate: testNow, NextUpdate: testNow.Add(time.Hour)}
	if change != nil {
		change(&template)
	}
	der, err := ocsp.CreateResponse(o.sub.Cert, signer, template, key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func TestOCSP(t *testing.T) {
	o := newOffice(t)
	responder := func(ca *Authority, change func(*x509.Certificate)) *testCA {
		return (&testCA{ca.Cert, ca.Key}).make(t, "Responder", false, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
			if change != nil {
				change(c)
			}
		})
	}
	delegate := responder(o.sub, nil)
	noUsage := responder(o.sub, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	expired := responder(o.sub, func(c *x509.Certificate) { c.NotAfter = testNow.Add(-2 * time.Hour) })
	foreign := responder(o.root, nil)
	other := newOffice(t)
	embed := func(c *testCA, change func(*ocsp.Response)) []byte {
		return o.response(t, c.cert, c.key, func(r *ocsp.Response) {
			r.Certificate = c.cert
			if change != nil {
				change(r)
			}
		})
	}
	direct := func(change func(*ocsp.Response)) []byte { return o.response(t, o.sub.Cert, o.sub.Key, change) }
	damaged := direct(nil)
	damaged[len(damaged)-1] ^= 1
	ofOther, err := ocsp.CreateResponse(other.sub.Cert, o.sub.Cert, ocsp.Response{
		Status: ocsp.Good, SerialNumber: o.leaf.Cert.SerialNumber, ThisUpdate: testNow, NextUpdate: testNow.Add(time.Hour),
	}, o.sub.Key)
	if err != nil {
		t.Fatal(err)
	}
	revoke := func(reason int) func(*ocsp.Response) {
		return func(r *ocsp.Response) {
			r.Status, r.RevokedAt, r.RevocationReason = ocsp.Revoked, testNow.Add(-time.Hour), reason
		}
	}
	age := func(r *ocsp.Response) {
		r.ThisUpdate, r.NextUpdate = testNow.Add(-48*time.Hour), testNow.Add(-24*time.Hour)
	}
	for name, c := range map[string]struct {
		der  []byte
		want State
	}{
		"the CA":               {direct(nil), StateGood},
		"the CA, embedded":     {embed(&testCA{o.sub.Cert, o.sub.Key}, nil), StateGood},
		"a delegate":           {embed(delegate, nil), StateGood},
		"revoked":              {direct(revoke(1)), StateRevoked},
		"revoked by delegate":  {embed(delegate, revoke(4)), StateRevoked},
		"revoked, old":         {direct(func(r *ocsp.Response) { revoke(1)(r); age(r) }), StateRevoked},
		"on hold, old":         {direct(func(r *ocsp.Response) { revoke(reasonHold)(r); age(r) }), StateUnknown},
		"unknown":              {direct(func(r *ocsp.Response) { r.Status = ocsp.Unknown }), StateUnknown},
		"old":                  {direct(age), StateUnknown},
		"of tomorrow":          {direct(func(r *ocsp.Response) { r.ThisUpdate = testNow.Add(24 * time.Hour) }), StateUnknown},
		"no next":              {direct(func(r *ocsp.Response) { r.NextUpdate = time.Time{} }), StateGood},
		"no next, old":         {direct(func(r *ocsp.Response) { age(r); r.NextUpdate = time.Time{} }), StateUnknown},
		"another serial":       {direct(func(r *ocsp.Response) { r.SerialNumber = big.NewInt(7) }), StateUnknown},
		"another CA's":         {ofOther, StateUnknown},
		"damaged":              {damaged, StateUnknown},
		"delegate, no usage":   {embed(noUsage, nil), StateUnknown},
		"delegate, expired":    {embed(expired, nil), StateUnknown},
		"delegate of the root": {embed(foreign, nil), StateUnknown},
		"a stranger":           {o.response(t, other.sub.Cert, other.sub.Key, nil), StateUnknown},
		"a stranger, embedded": {embed(&testCA{other.sub.Cert, other.sub.Key}, nil), StateUnknown},
		"another name":         {o.response(t, delegate.cert, o.sub.Key, nil), StateUnknown},
		"try later":            {ocsp.TryLaterErrorResponse, StateUnknown},
		"nothing":              {nil, StateUnknown},
		"too long":             {make([]byte, maxOCSP+1), StateUnknown},
	} {
		s := o.link().CheckOCSP(c.der, testNow)
		if s.State != c.want || (s.State == StateUnknown) != (s.Why != "") {
			t.Errorf("%s: %+v", name, s)
		}
	}
	request, err := o.link().OCSPRequest()
	if err != nil {
		t.Fatal(err)
	}
	if q, err := ocsp.ParseRequest(request); err != nil || q.SerialNumber.Cmp(o.leaf.Cert.SerialNumber) != 0 {
		t.Error(err)
	}
	whole := direct(nil)
	for i := range whole {
		if s := o.link().CheckOCSP(whole[:i], testNow); s.State != StateUnknown {
			t.Errorf("cut to %d octets: %+v", i, s)
		}
	}
}

func TestParseCRLTruncated(t *testing.T) {
	o := newOffice(t)
	der, err := o.sub.IssueCRL([]RevokedCert{{Serial: big.NewInt(5), At: testNow, Reason: 1}}, 1, testNow, testNow.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for i := range der {
		if _, err := ParseCRL(der[:i]); err == nil {
			t.Errorf("cut to %d octets it is read", i)
		}
	}
	for _, b := range [][]byte{make([]byte, maxFile+1), EncodeCertificate(o.root.Cert), []byte(pemBegin)} {
		if _, err := ParseCRL(b); err == nil {
			t.Error("read as a list")
		}
	}
}

func TestRevocationWords(t *testing.T) {
	for r, want := range []string{"off", "relaxed", "strict", "revocation 3"} {
		if got := Revocation(r).String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for code, want := range map[int]string{-1: "reason -1", 0: "no reason given", 6: "on hold", 7: "reason 7", 99: "reason 99"} {
		if got := reasonText(code); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestIntermediate(t *testing.T) {
	root, err := NewAuthority("Root", testNow, 24*time.Hour, ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := root.Intermediate("Sub", testNow, 0, ECDSAP256, Limits{
		DNSNames: []string{"example.com"}, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Emails: []string{"example.com"},
	})
	if err != nil || !sub.Cert.NotAfter.Equal(root.Cert.NotAfter) {
		t.Fatal(err)
	}
	v := Verifier{Roots: []*x509.Certificate{root.Cert}, Now: testNow}
	issue := func(name, addr string) *Credential {
		cred, err := sub.Issue(Request{DNSNames: []string{name}, Addresses: []netip.Addr{netip.MustParseAddr(addr)}, Now: testNow, Key: ECDSAP256})
		if err != nil {
			t.Fatal(err)
		}
		if len(cred.Chain) != 1 || !cred.Chain[0].Equal(sub.Cert) {
			t.Error("the chain to send")
		}
		return cred
	}
	client, err := sub.Issue(Request{DNSNames: []string{"vpn.example.com"}, Addresses: []netip.Addr{netip.MustParseAddr("10.1.1.1")}, Purpose: ClientAuth, Now: testNow, Key: ECDSAP256})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, "within the limits", v.Verify(client.Cert, client.Chain, ClientAuth), "")
	bad := issue("vpn.example.org", "10.1.1.1")
	wantCode(t, "another domain", v.Verify(bad.Cert, bad.Chain, ServerAuth), CodeConstraint)
	bad = issue("vpn.example.com", "192.0.2.1")
	wantCode(t, "another network", v.Verify(bad.Cert, bad.Chain, ServerAuth), CodeConstraint)
	if _, err := root.Intermediate("Sub", testNow, 0, ECDSAP256, Limits{Prefixes: make([]netip.Prefix, 1)}); err == nil {
		t.Error("a limit that is no prefix")
	}
	// What the root makes may not make CAs itself.
	low, err := sub.Intermediate("Low", testNow, 0, ECDSAP256, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	cred, err := low.Issue(Request{DNSNames: []string{"vpn.example.com"}, Purpose: ClientAuth, Now: testNow, Key: ECDSAP256})
	if err != nil || len(cred.Chain) != 2 {
		t.Fatal(err)
	}
	wantCode(t, "too deep", v.Verify(cred.Cert, cred.Chain, ClientAuth), CodeConstraint)
}
