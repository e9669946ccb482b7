package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"strings"
	"testing"
)

func TestMatchCert(t *testing.T) {
	root := (*testCA)(nil).make(t, "root", true, nil)
	cert := root.make(t, "cn.example.com", false, func(c *x509.Certificate) {
		c.Subject = pkix.Name{Country: []string{"CH"}, CommonName: "cn.example.com"}
		c.DNSNames = []string{"vpn.example.com", "*.wild.example.com", "*.com", "192.0.2.2", "2001:db8::2"}
		c.EmailAddresses = []string{"carol@example.com"}
		c.IPAddresses = []net.IP{net.ParseIP("192.0.2.1"), net.ParseIP("2001:db8::1")}
	}).cert
	for id, want := range map[string]bool{
		"vpn.example.com":                       true,
		"VPN.Example.COM":                       true,
		"vpn.example.com.":                      false,
		"vpn.example.co":                        false,
		"xvpn.example.com":                      false,
		"cn.example.com":                        false, // the CN does not count
		"a.wild.example.com":                    true,
		"b.a.wild.example.com":                  false,
		"fqdn:.wild.example.com":                false,
		"wild.example.com":                      false,
		"*.wild.example.com":                    false,
		"fqdn:*":                                false,
		"example.com":                           false, // *.com is too wide
		"fqdn:192.0.2.2":                        true,
		"192.0.2.1":                             true,
		"::ffff:192.0.2.1":                      true,
		"192.0.2.2":                             true, // as dNSName, for Windows
		"192.0.2.3":                             false,
		"2001:db8::1":                           true,
		"2001:db8::2":                           true,
		"2001:db8::3":                           false,
		"{1}:#c00002":                           false,
		"192.0.2.0/24":                          false,
		"carol@example.com":                     true,
		"carol@EXAMPLE.com":                     true,
		"Carol@example.com":                     false,
		"*@example.com":                         false,
		"@@vpn.example.com":                     false,
		"@carol@example.com":                    false,
		"C=CH, CN=cn.example.com":               true,
		"C=CH, CN=CN.example.com":               true, // two PrintableStrings
		"C=CH, CN=*":                            false,
		"CN=cn.example.com":                     false,
		"C=CH":                                  false,
		"C=CH, CN=cn.example.com, O=":           false,
		"keyid:vpn.example.com":                 false,
		"%any":                                  false,
		"{13}:":                                 false,
		"{2}:#76706e2e6578616d706c652e636f6d00": false,
	} {
		code := CodeNameMismatch
		if want {
			code = ""
		}
		err := MatchCert(mustParse(t, id), cert)
		wantCode(t, id, err, code)
		if err != nil && !strings.Contains(err.Error(), "dns:vpn.example.com") {
			t.Errorf("%s: %v does not list the names", id, err)
		}
	}
	wantCode(t, "no certificate", nilWhy(MatchCert(Identity{IDFQDN, "a"}, nil)), CodeMalformed)
	bare := root.make(t, "x", false, func(c *x509.Certificate) { c.Subject = pkix.Name{}; c.DNSNames = []string{"a"} }).cert
	wantCode(t, "an empty name for an empty subject", MatchCert(DN([]byte{0x30, 0}), bare), CodeNameMismatch)
}

// nilWhy gives an error without a why one, for wantCode.
func nilWhy(err error) error {
	err.(*CertError).Why = "x"
	return err
}

// CVE-2013-6075: names were compared without regard to their lengths.
func TestRow36NameLengths(t *testing.T) {
	root := (*testCA)(nil).make(t, "root", true, nil)
	cert := root.make(t, "x", false, func(c *x509.Certificate) {
		c.Subject = pkix.Name{Country: []string{"CH"}, Organization: []string{"strongSwan"}, CommonName: "moon"}
		c.DNSNames = []string{"moon.example.com"}
	}).cert
	good := string(cert.RawSubject)
	config := mustParse(t, "C=CH, O=strongSwan, CN=moon")
	refuse := func(what string, id Identity) {
		t.Helper()
		if err := MatchCert(id, cert); err == nil {
			t.Errorf("%s: the certificate proves %s", what, id)
		}
		if config.Match(id) {
			t.Errorf("%s: the matcher takes %s", what, id)
		}
	}
	if err := MatchCert(DN([]byte(good)), cert); err != nil || !config.Match(DN([]byte(good))) {
		t.Fatalf("the subject itself: %v", err)
	}
	if err := MatchCert(config, cert); err != nil {
		t.Fatalf("the configured name: %v", err)
	}
	for n := range len(good) {
		refuse("a prefix", DN([]byte(good[:n])))
		for bit := range 8 {
			changed := []byte(good)
			changed[n] ^= 1 << bit
			if bit == 5 && lower(changed[n]) == lower(good[n]) {
				continue // the case of a letter in a PrintableString
			}
			// A string type may turn into another one with the same meaning.
			if dn, ok := readDN(string(changed)); ok && isTextTag(dn[0][0].tag) && sameValues(dn, good) {
				continue
			}
			refuse("one bit changed", DN(changed))
		}
	}
	refuse("an octet behind", DN([]byte(good+"\x00")))
	refuse("twice", DN([]byte(good+good)))
	for _, name := range []string{"C=CH, O=strongSwan", "C=CH, O=strongSwan, CN=moo", "C=CH, O=strongSwan, CN=moon, CN=moon", `C=CH, O=strongSwan, CN=moon\00`, `C=CH, O=strongSwan, CN=moon\00.evil`} {
		refuse(name, mustParse(t, name))
	}
	// The type must be the configured one, and a NUL ends no name.
	host := mustParse(t, "moon.example.com")
	for _, id := range []Identity{
		{IDRFC822Addr, "moon.example.com"},
		{IDKeyID, "moon.example.com"},
		{IDFQDN, good},
		{IDFQDN, "moon.example.com\x00"},
		{IDFQDN, "moon.example.com\x00.evil.org"},
		{IDFQDN, "\x00moon.example.com"},
		{IDKeyID, good},
		{IDDERASN1GN, good},
	} {
		refuse("another type", id)
		if host.Match(id) {
			t.Errorf("%s passes for the host", id)
		}
	}
	refuse("the name as host", Identity{IDFQDN, "CH"})
}

// sameValues tells whether a name has the object identifiers and values of another,
// whatever its string types.
func sameValues(dn [][]attribute, raw string) bool {
	other, _ := readDN(raw)
	if len(dn) != len(other) {
		return false
	}
	for i := range dn {
		if len(dn[i]) != 1 || dn[i][0].oid != other[i][0].oid || dn[i][0].value != other[i][0].value || !isTextTag(dn[i][0].tag) {
			return false
		}
	}
	return true
}

func TestIdentityOf(t *testing.T) {
	root := (*testCA)(nil).make(t, "root", true, nil)
	for want, change := range map[string]func(*x509.Certificate){
		"a.example.com": func(c *x509.Certificate) {
			c.DNSNames = []string{"*.example.com", "192.0.2.1", "a.example.com", "b"}
			c.EmailAddresses = []string{"x@y"}
		},
		"x@y": func(c *x509.Certificate) {
			c.DNSNames = []string{"*.example.com"}
			c.EmailAddresses = []string{"x@y"}
		},
		"192.0.2.1": func(c *x509.Certificate) {
			c.DNSNames = []string{"192.0.2.1"}
			c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)}
		},
		"CN=leaf": nil,
		"%any":    func(c *x509.Certificate) { c.Subject = pkix.Name{} },
	} {
		cert := root.make(t, "leaf", false, change).cert
		id := IdentityOf(cert)
		if id.String() != want {
			t.Errorf("%s, want %s", id, want)
		}
		if !id.IsZero() {
			wantCode(t, want, MatchCert(id, cert), "")
		}
	}
}
