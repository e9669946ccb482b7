package profile

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"martlet/crypto/pki"
)

// signed makes a message of a library, with a key of a kind.
func signed(t testing.TB, content []byte, kind pki.KeyKind, change func(s *pkcs7.SignedData)) ([]byte, *pki.Credential) {
	t.Helper()
	now := time.Now()
	ca, err1 := pki.NewAuthority("Example CA", now, 24*time.Hour, pki.ECDSAP256)
	cred, err2 := ca.Issue(pki.Request{CommonName: "Signer", Now: now, Validity: time.Hour, Key: kind})
	s, err3 := pkcs7.NewSignedData(content)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	s.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if change != nil {
		change(s)
	}
	if err := s.AddSigner(cred.Cert, cred.Key, pkcs7.SignerInfoConfig{}); err != nil {
		t.Fatal(err)
	}
	data, err := s.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return data, cred
}

func TestSignaturesOfALibraryAreRight(t *testing.T) {
	for _, kind := range []pki.KeyKind{pki.RSA2048, pki.ECDSAP256, pki.ECDSAP384} {
		data, cred := signed(t, []byte("the content"), kind, nil)
		m, err := parseSigned(toDER(data))
		if err != nil {
			t.Fatal(err)
		}
		if err := m.verify(); err != nil || !m.signer.Equal(cred.Cert) || string(m.content) != "the content" {
			t.Errorf("%v: %v, %q", kind, err, m.content)
		}
		m.content = []byte("other content")
		if err := m.verify(); err == nil {
			t.Errorf("%v: other content is right, too", kind)
		}
	}
}

func TestHashesThatCanBeForgedAreRefused(t *testing.T) {
	data, _ := signed(t, []byte("the content"), pki.RSA2048, func(s *pkcs7.SignedData) { s.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA1) })
	m, err := parseSigned(toDER(data))
	if err != nil {
		t.Fatal(err)
	}
	contains(t, m.verify().Error(), "SHA-2")
}

// TestNoChangedMessageIsRight changes each octet of a message in turn: whatever is taken still has
// the content that was signed.
func TestNoChangedMessageIsRight(t *testing.T) {
	data, _ := signed(t, []byte("the content"), pki.ECDSAP256, nil)
	for i := range data {
		for _, bit := range []byte{1, 0x80} {
			changed := bytes.Clone(data)
			changed[i] ^= bit
			if !isShallow(changed) {
				continue
			}
			m, err := parseSigned(toDER(changed))
			if err == nil && m.signer != nil && m.verify() == nil && string(m.content) != "the content" {
				t.Errorf("octet %d: %q is signed, too", i, m.content)
			}
		}
	}
}

func TestAMessageWithoutSignerOrContentIsTold(t *testing.T) {
	data, _ := signed(t, []byte("the content"), pki.ECDSAP256, func(s *pkcs7.SignedData) { s.Detach() })
	contains(t, fails(t, string(data), Options{}), "only the signature")
	s, err := pkcs7.NewSignedData([]byte("the content"))
	if err != nil {
		t.Fatal(err)
	}
	if data, err = s.Finish(); err != nil {
		t.Fatal(err)
	}
	contains(t, fails(t, string(data), Options{}), "exactly one signer")
}

// FuzzSigned: whatever of a message is changed, what is taken as signed is what was signed.
func FuzzSigned(f *testing.F) {
	first, _ := signed(f, []byte("the content"), pki.ECDSAP256, nil)
	seeds := [][]byte{first}
	for _, name := range []string{"testdata/apple-signed/signed.mobileconfig", "testdata/apple-signed-ber/signed.mobileconfig"} {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, data)
	}
	var contents [][]byte
	for _, data := range seeds {
		m, err := parseSigned(toDER(data))
		if err != nil || m.signer == nil || m.verify() != nil {
			f.Fatal("a seed is not signed")
		}
		contents = append(contents, m.content)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 || !isShallow(data) {
			return
		}
		m, err := parseSigned(toDER(data))
		if err != nil || m.signer == nil || m.verify() != nil {
			return
		}
		if !slices.ContainsFunc(contents, func(c []byte) bool { return bytes.Equal(c, m.content) }) {
			t.Errorf("nobody signed %q", m.content)
		}
	})
}
