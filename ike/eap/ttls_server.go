package eap

import (
	"bytes"
	"crypto/subtle"
	"slices"
)

// ttlsServer is the script of a server of TTLS (RFC 5281 §7): the client chooses what
// goes on inside.
func (s *Server) ttlsServer(m *tlsMethod) error {
	c := m.c
	if err := s.handshakeServer(m); err != nil {
		return err
	}
	if err := c.exportMSK(TypeTTLS); err != nil {
		return err
	}
	avps, err := c.readAVPs()
	if err != nil {
		return err
	}
	if packet, ok := findAVP(avps, avpEAPMessage, 0); ok {
		return s.ttlsEAP(c, packet)
	}
	name, ok := findAVP(avps, avpUserName, 0)
	if !ok || len(name) > maxName {
		return protocolError("TTLS without a user name, or with one that is too long")
	}
	c.who = string(name)
	if password, ok := findAVP(avps, avpUserPassword, 0); ok {
		return s.ttlsPAP(c, bytes.TrimRight(password, "\x00"))
	}
	if response, ok := findAVP(avps, avpMSCHAP2Response, vendorMicrosoft); ok {
		challenge, _ := findAVP(avps, avpMSCHAPChallenge, vendorMicrosoft)
		return s.ttlsMSCHAP(c, challenge, response)
	}
	return s.innerRefused("no password, MSCHAPv2 or EAP")
}

func (s *Server) innerRefused(what string) *Error {
	return &Error{
		Code: CodeNoMethod, What: "the client wants inside the tunnel what is not allowed there", Why: "it sent " + what,
		Hint: "allow it in the list of inner methods, or have the client use another",
	}
}

func (s *Server) ttlsPAP(c *channel, password []byte) error {
	if !slices.Contains(s.config.Inner, TypePAP) {
		return s.innerRefused("a password (PAP)")
	}
	a, err := c.account(c.who)
	if err != nil {
		return err
	}
	ok, failed := a.check(s.config.Rand, password)
	if failed != nil {
		return failed
	}
	if !ok {
		return a.refusal(c.who)
	}
	return nil
}

// ttlsMSCHAP checks MSCHAPv2 without EAP (RFC 5281 §11.2.4): the challenge is of this
// tunnel and no other.
func (s *Server) ttlsMSCHAP(c *channel, challenge, response []byte) error {
	if !slices.Contains(s.config.Inner, TypePlainMSCHAPv2) {
		return s.innerRefused("MSCHAPv2 without EAP")
	}
	own, err := c.export(labelChallenge, nil, ttlsChallengeLen)
	if err != nil {
		return err
	}
	ident := own[challengeLen]
	if len(response) != responseLen+1 || response[0] != ident || subtle.ConstantTimeCompare(challenge, own[:challengeLen]) != 1 {
		return protocolError("the challenge of MSCHAPv2 inside TTLS is not that of the tunnel")
	}
	a, err := c.account(c.who)
	if err != nil {
		return err
	}
	// Behind the identifier stand the flags, which EAP has at the end.
	v, failed := verifyMSCHAP(s.config.Rand, a, own[:challengeLen], append(response[2:], response[1]), c.who)
	if failed != nil {
		return failed
	}
	return c.write(appendAVP(nil, avpMSCHAP2Success, vendorMicrosoft, append([]byte{ident}, v.message...)))
}

// ttlsEAP is EAP inside (RFC 5281 §11.2.1), from the client's identity on. The end is told
// by EAP outside.
func (s *Server) ttlsEAP(c *channel, packet []byte) error {
	in, failed := parsePacket(packet)
	if failed != nil {
		return failed
	}
	if in.code != codeResponse || in.typ != TypeIdentity || len(in.data) > maxName {
		return protocolError("EAP inside TTLS does not begin with an identity")
	}
	inner := s.innerServer(string(in.data))
	defer inner.Stop()
	st := inner.Start()
	for {
		var err error
		if st, err = c.settle(inner, st); err != nil {
			return err
		}
		if st.Done {
			c.who = inner.Identity()
			return st.Err
		}
		if err := c.write(appendAVP(nil, avpEAPMessage, 0, st.Send)); err != nil {
			return err
		}
		avps, err := c.readAVPs()
		if err != nil {
			return err
		}
		packet, ok := findAVP(avps, avpEAPMessage, 0)
		if !ok {
			return protocolError("TTLS goes on without EAP")
		}
		st = inner.Handle(packet)
	}
}
