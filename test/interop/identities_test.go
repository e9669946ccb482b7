package interop

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"
	"testing"
	"time"

	"martlet/crypto/pki"
)

// pskOf are proofs by pre-shared key with what each side says of itself and wants of the
// other; nothing is the default of each program.
func pskOf(martletLocal, martletPeer, swanLocal, swanRemote string) *proofs {
	return &proofs{
		martlet: fmt.Sprintf("[connection.site.local]\nauth = \"psk\"\nsecret = %q\n%s[connection.site.peer]\nauth = \"psk\"\n%s",
			secret, martletLocal, martletPeer),
		swanLocal: "auth = psk\n" + swanLocal, swanRemote: "auth = psk\n" + swanRemote,
		swanSecrets: fmt.Sprintf("ike-1 { secret = %q }", secret),
	}
}

const (
	martletIs = "id = \"" + martletID + "\"\n"
	swanIs    = "id = \"" + swanID + "\"\n"
)

// identityScenarios are about who is who: how each names itself, and what the other accepts.
var identityScenarios = []scenario{
	{name: "psk-addresses", proofs: func(*testing.T) *proofs {
		p := pskOf("", "id = \"10.99.1.2\"\n", "", "id = 10.99.1.1")
		p.martletID, p.swanID = "10.99.1.1", "10.99.1.2"
		return p
	}},
	// Neither says whom it wants to reach, and takes whoever has the key.
	{name: "psk-no-idr", proofs: func(*testing.T) *proofs {
		return pskOf(martletIs, "", "id = "+swanID, "")
	}},
	{name: "psk-email", proofs: func(*testing.T) *proofs {
		p := pskOf("id = \"carol@martlet.test\"\n", "id = \"*@swan.test\"\n", "id = dave@swan.test", "id = *@martlet.test")
		p.martletID, p.swanID = "carol@martlet.test", "dave@swan.test"
		return p
	}},
	{name: "psk-key-id", proofs: func(*testing.T) *proofs {
		p := pskOf("id = \"@#0a0b0c0d\"\n", "id = \"@#01020304\"\n", "id = \"@#01020304\"", "id = \"@#0a0b0c0d\"")
		p.martletID, p.swanID = "@#0a0b0c0d", "@#01020304"
		return p
	}},
	{name: "wildcards", proofs: func(t *testing.T) *proofs {
		p := silent(newBureau(t, pki.ECDSAP256))
		p.martlet = strings.Replace(p.martlet, swanIs, "id = \"*.test\"\n", 1)
		p.swanRemote = strings.Replace(p.swanRemote, martletID, "*.test", 1)
		return p
	}},
	{name: "wildcards-in-subject", proofs: func(t *testing.T) *proofs {
		p := silent(newBureau(t, pki.ECDSAP256))
		p.martlet = strings.Replace(p.martlet, swanIs, "id = \"CN=*\"\n", 1)
		p.martlet = strings.Replace(p.martlet, "auth = \"cert\"\n", "auth = \"cert\"\nid = \"CN="+martletID+"\"\n", 1)
		p.swanLocal = strings.Replace(p.swanLocal, "id = "+swanID, "id = \"CN="+swanID+"\"", 1)
		p.swanRemote = strings.Replace(p.swanRemote, "id = "+martletID, "id = \"CN=*\"", 1)
		p.martletID, p.swanID = "CN="+martletID, "CN="+swanID
		return p
	}},
	{
		name: "another-identity", // who has a certificate of the CA is not yet who is wanted
		proofs: func(t *testing.T) *proofs {
			p := silent(newBureau(t, pki.ECDSAP256))
			p.martlet = strings.Replace(p.martlet, swanIs, "id = \"*.example\"\n", 1)
			return p
		},
		fails: &failure{says: "code: unknown-identity", status: 4, logs: "unknown-identity", swanSays: "AUTHENTICATION_FAILED"},
	},
	{name: "psk-and-certificate", proofs: func(t *testing.T) *proofs {
		p, key := silent(newBureau(t, pki.RSA2048)), pskOf("", "", "", "")
		_, peer, _ := strings.Cut(p.martlet, "[connection.site.peer]")
		p.martlet = fmt.Sprintf("[connection.site.local]\nauth = \"psk\"\nsecret = %q\n%s[connection.site.peer]%s", secret, martletIs, peer)
		p.swanRemote, p.swanSecrets = "auth = psk\n id = "+martletID, key.swanSecrets
		return p
	}},
	{name: "certificate-and-psk", proofs: func(t *testing.T) *proofs {
		p, key := silent(newBureau(t, pki.RSA2048)), pskOf("", "", "", "")
		local, _, _ := strings.Cut(p.martlet, "[connection.site.peer]")
		p.martlet = fmt.Sprintf("%s[connection.site.peer]\nauth = \"psk\"\nsecret = %q\n%s", local, secret, swanIs)
		p.swanLocal, p.swanSecrets = "auth = psk\n id = "+swanID, key.swanSecrets
		return p
	}},
	{
		name: "strong-keys",
		proofs: func(t *testing.T) *proofs {
			b := newBureau(t, pki.ECDSAP521)
			key := strongKey(t) // of both, for it takes long to make
			b.reissue(b.martlet, key, martletID, nil)
			b.reissue(b.swan, key, swanID, nil)
			p := silent(b)
			p.swanLocal = strings.Replace(p.swanLocal, "pubkey", "rsa-sha512", 1)
			return p
		},
		check: func(t *testing.T, p *pair) {
			p.logged(t, "authentication of '"+swanID+"' (myself) with RSA_EMSA_PKCS1_SHA2_512")
			p.traffic(t, inA4, inB4)
		},
	},
	// Dates are written in another form from 2050 on.
	{name: "after-2038", proofs: func(t *testing.T) *proofs {
		return silent(newBureauFor(t, pki.ECDSAP256, 40*365*24*time.Hour))
	}},
	{
		name: "critical-extension-of-strongswan",
		proofs: func(t *testing.T) *proofs {
			b := newBureau(t, pki.ECDSAP256)
			b.reissue(b.swan, nil, swanID, unknownCritical())
			return silent(b)
		},
		swan:  swanSettings{lines: "x509 { enforce_critical = no }"},
		fails: &failure{says: "code: cert-invalid", status: 4, logs: "critical extension", swanSays: "AUTHENTICATION_FAILED"},
	},
	{
		name: "critical-extension-of-martlet",
		proofs: func(t *testing.T) *proofs {
			b := newBureau(t, pki.ECDSAP256)
			b.reissue(b.martlet, nil, martletID, unknownCritical())
			return silent(b)
		},
		fails: &failure{says: "code: auth-refused", status: 4, logs: "auth-refused", swanSays: "critical"},
	},
	{
		name: "two-certificates", // one identity with two kinds of keys
		proofs: func(t *testing.T) *proofs {
			p := silent(newBureau(t, pki.ECDSAP256))
			local := fmt.Sprintf("cert = [%q, %q]\nkey = [%q, %q]\n", shared.pki.cert("ecdsa", martletID), shared.pki.cert("rsa", martletID),
				shared.pki.key("ecdsa", martletID), shared.pki.key("rsa", martletID))
			p.martlet = fmt.Sprintf("[connection.site.local]\nauth = \"cert\"\n%s[connection.site.peer]\nauth = \"cert\"\n%sca = [%q]\n", local, swanIs, shared.pki.ca())
			p.swanLocal = fmt.Sprintf("auth = pubkey\n id = %s\n certs = rsa.pem, ecdsa.pem", swanID)
			p.swanRemote = fmt.Sprintf("auth = rsa\n id = %s", martletID)
			p.swanFiles = map[string][]byte{"x509ca/ca.pem": []byte(readFile(t, shared.pki.ca()))}
			for _, kind := range []string{"rsa", "ecdsa"} {
				p.swanFiles["x509/"+kind+".pem"] = []byte(readFile(t, shared.pki.cert(kind, swanID)))
				p.swanFiles["private/"+kind+".pem"] = []byte(readFile(t, shared.pki.key(kind, swanID)))
			}
			return p
		},
	},
}

func TestIdentities(t *testing.T) {
	t.Parallel()
	for _, sc := range identityScenarios {
		for _, role := range []string{"initiator", "responder"} {
			t.Run(sc.name+"/"+role, func(t *testing.T) {
				start(t)
				sc.play(t, role == "initiator")
			})
		}
	}
}

func strongKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// unknownCritical is an extension that nobody knows.
func unknownCritical() []pkix.Extension {
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 36906, 99}, Critical: true, Value: []byte{asn1.TagNull, 0}}}
}

// reissue gives a credential another certificate of the CA above it: for another key, if there
// is one, and with extensions.
func (b *bureau) reissue(c *pki.Credential, key crypto.Signer, name string, more []pkix.Extension) {
	b.t.Helper()
	ca := b.sales
	if c == b.martlet {
		ca = b.research
	}
	if key != nil {
		c.Key = key
	}
	template := *c.Cert
	template.DNSNames, template.ExtraExtensions = []string{name}, more
	der, err := x509.CreateCertificate(rand.Reader, &template, ca.Cert, c.Key.Public(), ca.Key)
	if err != nil {
		b.t.Fatal(err)
	}
	if c.Cert, err = x509.ParseCertificate(der); err != nil {
		b.t.Fatal(err)
	}
}
