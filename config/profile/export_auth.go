package profile

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"martlet/config"
	"martlet/crypto/pki"
)

// isEAP tells whether an auth is a way to log in by EAP.
func isEAP(auth string) bool { return strings.HasPrefix(auth, "eap") }

// pair tells how the two sides prove who they are, for clients that know few ways: "psk", "cert"
// or "eap".
func (x *exporter) pair() (string, error) {
	local, peer := x.c.Local.Auth, x.c.Peer.Auth
	switch {
	case local == "psk" && peer == "psk":
		return "psk", nil
	case local == "cert" && peer == "cert":
		return "cert", nil
	case isEAP(local) && (peer == "cert" || isEAP(peer)):
		return "eap", nil
	}
	return "", x.cannot("the two sides prove who they are in different ways: "+local+" and "+peer, "use one of \"psk\" and \"cert\" for both, or export for swanctl")
}

// eapOnly refuses gateways that prove themselves by EAP alone.
func (x *exporter) eapOnly() error {
	if isEAP(x.c.Peer.Auth) {
		return x.cannot("the gateway proves itself by EAP alone (RFC 5998), and there it must have a certificate", "set auth = \"cert\" for the peer, or export for mobileconfig or swanctl")
	}
	return nil
}

// user checks a text that goes into a profile as it is.
func (x *exporter) user(key, text string) (string, error) {
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return "", x.cannot(key+" has control characters, or is not UTF-8", "which nobody could type either; choose another one")
	}
	x.carry(key)
	return text, nil
}

// secret returns a pre-shared key or a password, nothing where none may be written; either way a
// note says so. needed: without it the other program does not even ask.
func (x *exporter) secret(key, what string, s config.Secret, needed bool) []byte {
	x.carry(key)
	switch {
	case len(s.Value) == 0:
		return nil
	case x.o.WithSecrets:
		x.note("", "%s is in the file: whoever reads it can connect, so send it on safe ways only", what)
		return s.Value
	case needed:
		x.need(key, "%s is not in the file, as asked: add it there, or export with secrets", what)
	default:
		x.note(key, "%s is not in the file, as asked: the other program asks for it", what)
	}
	return nil
}

// secretText is secret where it must be text.
func (x *exporter) secretText(key, what string, s config.Secret, needed bool) (string, error) {
	value := x.secret(key, what, s, needed)
	if !utf8.Valid(value) || strings.ContainsFunc(string(value), func(r rune) bool { return unicode.IsControl(r) && !strings.ContainsRune("\t\n\r", r) }) {
		return "", x.cannot(what+" is no text, and there only text can be written", "choose one of letters and digits: openssl rand -base64 32")
	}
	return string(value), nil
}

// plainID writes an identity for systems that see the type by its looks: a host name, an e-mail
// address, or an address.
func (x *exporter) plainID(key string, id pki.Identity) (string, error) {
	x.carry(key)
	if id.IsZero() {
		return "", nil
	}
	text := id.Data
	switch id.Type {
	case pki.IDIPv4Addr, pki.IDIPv6Addr:
		return id.String(), nil
	case pki.IDFQDN:
		if _, err := netip.ParseAddr(text); err != nil && !strings.Contains(text, "@") {
			return x.user(key, text)
		}
	case pki.IDRFC822Addr:
		if strings.Contains(text, "@") {
			return x.user(key, text)
		}
	}
	return "", x.cannot(key+" is "+quoted(id.String())+", and there identities are host names, e-mail addresses and addresses", "give the certificate such a name (subjectAltName), and set id to it")
}

// gateway is the one name that the gateway must have: where the connection has a pattern or none,
// how it is called.
func (x *exporter) gateway() pki.Identity {
	id := x.c.Peer.Identity
	x.carry("peer.id")
	if id.IsZero() || strings.HasPrefix(id.Data, "*") && (id.Type == pki.IDFQDN || id.Type == pki.IDRFC822Addr) {
		x.note("peer.id", "the gateway must have the name %s there", x.c.Remote[0])
		id, _ = pki.ParseIdentity(x.c.Remote[0]) // config checked it
	}
	return id
}

// grammarID writes an identity in strongSwan's grammar, which is Martlet's.
func grammarID(text string, id pki.Identity) string {
	if text == "" && !id.IsZero() {
		out, _ := id.MarshalText() // its error is always nil
		return string(out)
	}
	return text
}

// authorities are the CAs below which the gateway's certificate must be; none with the system's.
func (x *exporter) authorities() []*x509.Certificate {
	x.carry("peer.ca", "peer.cert")
	if isEAP(x.c.Peer.Auth) {
		x.carry("local.eap_ca")
		return x.c.Local.EAPVerifier.Roots
	}
	if len(x.c.Peer.Cert) > 0 {
		return nil
	}
	return x.c.Peer.Verifier.Roots
}

// pinned is the only certificate that the peer may have, nil if there is a CA.
func (x *exporter) pinned() (*x509.Certificate, error) {
	a := x.c.Peer
	if len(a.Verifier.Keys) > 0 {
		return nil, x.cannot("the peer has a bare public key", "give it a certificate")
	}
	if len(a.Cert) == 0 || len(a.Verifier.Roots) == 0 {
		return nil, nil
	}
	x.carry("peer.cert")
	return a.Verifier.Roots[0], nil
}

// credential is our certificate with its key, of the first proof that has one.
func (x *exporter) credential() (*pki.Credential, error) {
	x.carry("local.cert", "local.key", "local.key_password")
	all := x.c.Local.Credentials
	switch {
	case len(all) == 0 || all[0].Cert == nil:
		return nil, x.cannot("we have a bare key and no certificate", "have a CA issue a certificate for the key")
	case x.o.Password == "":
		return nil, x.cannot("a private key goes into it, and there is no password to encrypt it with", "give a password: at least 16 random characters, for whoever gets the file can try passwords")
	case len(all) > 1:
		x.note("local.cert", "only the first of our certificates is exported")
	}
	return all[0], nil
}

// container is our certificate with its chain and key in PKCS#12. Legacy is for systems that know
// 3DES only.
func (x *exporter) container(legacy bool) ([]byte, *pki.Credential, error) {
	cred, err := x.credential()
	if err != nil {
		return nil, nil, err
	}
	data, err := pki.EncodePKCS12(cred, nil, x.o.Password, legacy)
	if err != nil {
		return nil, nil, x.cannot(bare(err), "export from where the key itself is")
	}
	if legacy {
		x.note("", "the private key is encrypted as all versions of that system can read it, with 3DES and SHA-1: whoever gets the file can try passwords fast, so choose a long one")
	}
	return data, cred, nil
}

// keyPassword is the password of the private key, if it may stand in a file.
func (x *exporter) keyPassword() string {
	return string(x.secret("local.key_password", "the password of the private key", config.Secret{Value: []byte(x.o.Password)}, false))
}

// rounds is how often a password is hashed: fifty times as often as OpenSSL does, and still no second
// on a router.
const rounds = 100_000

// encryptedKey is our private key in PEM, encrypted by the password (PBES2 with AES, RFC 8018
// §6.2), and our certificate.
func (x *exporter) encryptedKey() ([]byte, *pki.Credential, error) {
	cred, err := x.credential()
	if err != nil {
		return nil, nil, err
	}
	plain, err := x509.MarshalPKCS8PrivateKey(cred.Key)
	if err != nil {
		return nil, nil, x.cannot("a key of its type cannot be written", "export from where the key itself is")
	}
	random := make([]byte, 32)
	_, _ = rand.Read(random) // it never fails
	salt, iv := random[:16], random[16:]
	key, err := pbkdf2.Key(sha256.New, x.o.Password, salt, rounds, 32)
	if err != nil {
		return nil, nil, x.cannot(err.Error(), "")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, x.cannot(err.Error(), "")
	}
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	plain = append(plain, slices.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(plain, plain)

	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}) // PBES2
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}) // PBKDF2
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1OctetString(salt)
						b.AddASN1Int64(rounds)
						b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
							b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}) // HMAC with SHA-256
							b.AddASN1NULL()
						})
					})
				})
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}) // AES-256-CBC
					b.AddASN1OctetString(iv)
				})
			})
		})
		b.AddASN1OctetString(plain)
	})
	return pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: b.BytesOrPanic()}), cred, nil
}
