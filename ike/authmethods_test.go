package ike

import (
	"slices"
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/ike/message"
)

// TestAuthMethods: both sides announce what they can verify where they want a signature
// (RFC 9593 §3.1), the initiator only to a responder that did.
func TestAuthMethods(t *testing.T) {
	client, gateway := certPair(t, pki.Ed25519, pki.Ed25519)
	w, a, b, _ := halfOpen(t, client, gateway)
	answer, err := message.Parse(sentOf(b, message.IKESAInit, true)[0])
	if err != nil {
		t.Fatal(err)
	}
	n := answer.Notify(message.SupportedAuthMethods)
	if n == nil {
		t.Fatal("the gateway announces nothing")
	}
	list, ok := message.ParseAuthMethods(n.Data)
	if !ok || !slices.ContainsFunc(list, func(x message.AuthAnnouncement) bool {
		return x.Method == message.AuthSignature && slices.Equal(x.Algorithm, []byte{0x30, 5, 6, 3, 0x2b, 0x65, 0x70})
	}) {
		t.Errorf("no Ed25519 in %+v", list)
	}
	w.fate = nil
	w.run(2 * time.Second)
	agree(t, a, b, 1)
	if !slices.ContainsFunc(list, func(x message.AuthAnnouncement) bool { return x.Method == message.AuthECDSA256 }) {
		t.Errorf("no ECDSA in %+v", list)
	}

	client, gateway = pskPair(t)
	_, _, b, _ = halfOpen(t, client, gateway)
	if answer, err = message.Parse(sentOf(b, message.IKESAInit, true)[0]); err != nil || answer.Notify(message.SupportedAuthMethods) != nil {
		t.Errorf("announced where nobody signs: %v", err)
	}
}

// TestAnnouncedMethodsChoose: of several credentials and ways to sign, what the peer can
// verify is taken.
func TestAnnouncedMethodsChoose(t *testing.T) {
	p := keys()
	client, _ := certPair(t, pki.RSA2048, pki.RSA2048)
	client.Local.Credentials = []*pki.Credential{p.client[pki.RSA2048], p.client[pki.ECDSAP256], p.client[pki.Ed25519]}
	hashes := pki.Hashes()
	for _, der := range pki.Identifiers() {
		want, err := pki.ParseScheme(der)
		if err != nil {
			t.Fatal(err)
		}
		s := &ikeSA{conn: client, lineage: lineage{exts: extSignatureHashes, peerHashes: hashes}}
		s.readMethods(notifyData(message.SupportedAuthMethods, message.AppendAuthMethods(nil, []message.AuthAnnouncement{{Method: message.AuthSignature, Algorithm: der}})))
		cred, scheme, failed := s.chooseCredential(client, &client.Local)
		if failed != nil || scheme != want || cred.Key == nil {
			t.Errorf("%v: chosen %v, %v", want, scheme, failed)
		}
	}
	for _, data := range [][]byte{nil, {}, {0}, {3, 1}, {3, 200, 0}} {
		s := &ikeSA{conn: client, lineage: lineage{exts: extSignatureHashes, peerHashes: hashes}}
		s.readMethods(notifyData(message.SupportedAuthMethods, data))
		if _, scheme, failed := s.chooseCredential(client, &client.Local); failed != nil || scheme.Key != pki.KeyRSA {
			t.Errorf("%x: chosen %v, %v", data, scheme, failed)
		}
	}
}
