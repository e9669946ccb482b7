package eap

import (
	"crypto/subtle"
	"slices"
)

// ttlsChallengeLen is a challenge and an identifier (RFC 5281 §11.2.4).
const ttlsChallengeLen = challengeLen + 1

// ttlsPeer is the script of a client of TTLS (RFC 5281 §7).
func (p *Peer) ttlsPeer(m *tlsMethod) error {
	c := m.c
	if err := p.handshakePeer(m); err != nil {
		return err
	}
	if err := c.exportMSK(TypeTTLS); err != nil {
		return err
	}
	// able has seen that one of them is possible.
	i := slices.IndexFunc(p.config.Inner, func(t Type) bool { return p.ableInside(TypeTTLS, t) })
	switch p.config.Inner[i] {
	case TypePAP:
		// RFC 5281 §11.2.5: padded, so that nobody sees the length.
		password := append([]byte(nil), p.config.Password...)
		password = append(password, make([]byte, -len(password)&15)...)
		b := appendAVP(nil, avpUserName, 0, []byte(p.config.Username))
		return c.write(appendAVP(b, avpUserPassword, 0, password))
	case TypePlainMSCHAPv2:
		return p.ttlsMSCHAP(c)
	default:
		return p.ttlsEAP(c)
	}
}

// ttlsMSCHAP is MSCHAPv2 without EAP (RFC 5281 §11.2.4).
func (p *Peer) ttlsMSCHAP(c *channel) error {
	challenge, err := c.export(labelChallenge, nil, ttlsChallengeLen)
	if err != nil {
		return err
	}
	ident := challenge[challengeLen]
	r, failed := newMSCHAPResponse(p.config.Rand, challenge[:challengeLen], p.config.Username, p.config.Password)
	if failed != nil {
		return failed
	}
	value := append([]byte{ident, 0}, r.value()[:responseLen-1]...)
	b := appendAVP(nil, avpUserName, 0, []byte(p.config.Username))
	b = appendAVP(b, avpMSCHAPChallenge, vendorMicrosoft, challenge[:challengeLen])
	if err := c.write(appendAVP(b, avpMSCHAP2Response, vendorMicrosoft, value)); err != nil {
		return err
	}
	avps, err := c.readAVPs()
	if err != nil {
		return err
	}
	if text, ok := findAVP(avps, avpMSCHAPError, vendorMicrosoft); ok && len(text) > 0 {
		return mschapFailure(text[1:])
	}
	text, ok := findAVP(avps, avpMSCHAP2Success, vendorMicrosoft)
	if !ok || len(text) == 0 || text[0] != ident {
		return serverProofError()
	}
	proof, ok := mschapProof(text[1:])
	if !ok || subtle.ConstantTimeCompare(proof, r.proof) != 1 {
		return serverProofError()
	}
	return nil
}

// ttlsEAP is EAP inside (RFC 5281 §11.2.1); the client speaks first.
func (p *Peer) ttlsEAP(c *channel) error {
	inner := p.innerPeer(TypeTTLS)
	defer inner.Stop()
	packet := []byte{byte(codeRequest), 0, 0, headerLen + 1, byte(TypeIdentity)}
	for {
		st, err := c.settle(inner, inner.Handle(packet))
		if err != nil {
			return err
		}
		if st.Done && st.Err != nil {
			return st.Err
		}
		c.reason = inner.why()
		if st.Send != nil {
			if err := c.write(appendAVP(nil, avpEAPMessage, 0, st.Send)); err != nil {
				return err
			}
		}
		for packet = nil; packet == nil; {
			c.complete = inner.complete()
			avps, err := c.readAVPs()
			if err != nil {
				return err
			}
			packet, _ = findAVP(avps, avpEAPMessage, 0)
		}
	}
}

// readAVPs reads the attributes of one message.
func (c *channel) readAVPs() ([]avp, error) {
	b, err := c.read()
	if err != nil {
		return nil, err
	}
	avps, failed := parseAVPs(b)
	if failed == nil {
		failed = understood(avps)
	}
	if failed != nil {
		return nil, failed
	}
	return avps, nil
}
