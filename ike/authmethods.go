package ike

import (
	"crypto"

	"martlet/crypto/pki"
	"martlet/ike/message"
)

// announceMethods is SUPPORTED_AUTH_METHODS: how the peer may sign so that we can verify it
// (RFC 9593 §3.1). Where nobody is to sign there is nothing to choose, and it is left out.
func announceMethods(conns []*Connection) []message.Payload {
	signs, shared := false, false
	for _, c := range conns {
		for r := &c.Remote; r != nil; r = r.Next {
			signs = signs || r.Method == AuthCert
			shared = shared || r.Method == AuthPSK
		}
	}
	if !signs {
		return nil
	}
	var list []message.AuthAnnouncement
	if shared {
		list = append(list, message.AuthAnnouncement{Method: message.AuthPSK})
	}
	for _, m := range []message.AuthMethod{message.AuthECDSA256, message.AuthECDSA384, message.AuthECDSA521} {
		list = append(list, message.AuthAnnouncement{Method: m})
	}
	for _, der := range pki.Identifiers() {
		list = append(list, message.AuthAnnouncement{Method: message.AuthSignature, Algorithm: der})
	}
	return []message.Payload{notifyData(message.SupportedAuthMethods, message.AppendAuthMethods(nil, list))}
}

// readMethods notes what the peer can verify.
func (s *ikeSA) readMethods(n *message.Notify) {
	if list, ok := message.ParseAuthMethods(n.Data); ok {
		s.saidMethods, s.peerMethods = true, list
	}
}

// takes tells whether the peer can verify a scheme, as far as it says so.
func (s *ikeSA) takes(scheme pki.Scheme) bool {
	if len(s.peerMethods) == 0 {
		return true
	}
	for _, a := range s.peerMethods {
		if uint8(a.Method) != scheme.Method {
			continue
		}
		if a.Method != message.AuthSignature {
			return true
		}
		if got, err := pki.ParseScheme(a.Algorithm); err == nil && got == scheme {
			return true
		}
	}
	return false
}

// schemeFor is the way to sign with a key that the peer's hashes allow, and of these the
// first that it announced to take. Without an announcement that fits it is the first.
func (s *ikeSA) schemeFor(key crypto.PublicKey, prefs pki.Prefs) (pki.Scheme, bool, error) {
	first, err := pki.ChooseScheme(key, s.peerHashes, prefs)
	if err != nil || s.takes(first) {
		return first, err == nil, err
	}
	for _, pss := range []bool{prefs.PSS, !prefs.PSS} {
		for _, h := range s.peerHashes {
			scheme, err := pki.ChooseScheme(key, []pki.HashID{h}, pki.Prefs{PSS: pss, Strict: prefs.Strict})
			if err == nil && s.takes(scheme) {
				return scheme, true, nil
			}
		}
	}
	return first, false, nil
}
