package eap

import "encoding/binary"

// PEAP version 0 (draft-kamath-pppext-peapv0 §1.1): EAP inside TLS, without code,
// identifier and length, of which the packet outside has the first two already. Some
// servers, FreeRADIUS among them, send the header in their first request nevertheless, but
// take no answer that has one.

// unpackPEAP gives a whole packet; id is that of the packet outside.
func unpackPEAP(b []byte, c code, id byte) []byte {
	if len(b) >= headerLen && int(binary.BigEndian.Uint16(b[2:])) == len(b) {
		got := code(b[0])
		if got == c || c == codeRequest && (got == codeSuccess || got == codeFailure) {
			return b
		}
	}
	out := binary.BigEndian.AppendUint16([]byte{byte(c), id}, uint16(min(headerLen+len(b), 0xffff)))
	return append(out, b...)
}

// packPEAP takes the header off.
func packPEAP(packet []byte) []byte { return packet[headerLen:] }

// peapPeer is the script of a client of PEAP.
func (p *Peer) peapPeer(m *tlsMethod) error {
	c := m.c
	if err := p.handshakePeer(m); err != nil {
		return err
	}
	if err := c.exportMSK(TypePEAP); err != nil {
		return err
	}
	inner := p.innerPeer(TypePEAP)
	defer inner.Stop()
	for {
		b, err := c.read()
		if err != nil {
			return err
		}
		packet := unpackPEAP(b, codeRequest, c.id)
		if in, failed := parsePacket(packet); failed == nil && in.code == codeRequest && in.typ == TypeTLV {
			return p.peapResult(c, inner, in)
		}
		st, err := c.settle(inner, inner.Handle(packet))
		switch {
		case err != nil:
			return err
		case st.Done && st.Err != nil:
			return st.Err
		case st.Send != nil:
			if err := c.write(packPEAP(st.Send)); err != nil {
				return err
			}
		}
		c.reason = inner.why()
	}
}

// peapResult acknowledges the server's word on how it went, which is good for success only
// where the method inside was complete.
func (p *Peer) peapResult(c *channel, inner *Peer, in packet) error {
	result, failed := parseTLVs(in.data)
	if failed == nil && result == 0 {
		failed = protocolError("PEAP ends without a result")
	}
	if failed == nil && result == resultSuccess && !inner.complete() {
		failed = &Error{Code: CodeEarlySuccess, What: "the gateway ended PEAP with success before the method inside was complete"}
	}
	if failed == nil && result == resultFailure {
		if failed = inner.why(); failed == nil {
			failed = &Error{Code: CodeRefused, Remote: true, What: "the gateway refused the login", Hint: "check user name and password, and that the gateway knows the user"}
		}
	}
	result = resultSuccess
	if failed != nil {
		result = resultFailure
	}
	if err := c.write(resultTLV(codeResponse, in.id, result)); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	return nil
}

// peapServer is the script of a server of PEAP.
func (s *Server) peapServer(m *tlsMethod) error {
	c := m.c
	if err := s.handshakeServer(m); err != nil {
		return err
	}
	if err := c.exportMSK(TypePEAP); err != nil {
		return err
	}
	// In TLS 1.2 the server has the last word of the handshake, and the client answers it
	// before the inside begins.
	if err := c.flush(); err != nil {
		return err
	}
	// The number of the packet outside is all that the client sees.
	inner := s.innerServer("")
	defer inner.Stop()
	inner.nextID = c.id
	st := inner.Start()
	for {
		var err error
		if st, err = c.settle(inner, st); err != nil {
			return err
		}
		if st.Done {
			break
		}
		if err := c.write(packPEAP(st.Send)); err != nil {
			return err
		}
		b, err := c.read()
		if err != nil {
			return err
		}
		packet := unpackPEAP(b, codeResponse, inner.id)
		inner.nextID = c.id
		st = inner.Handle(packet)
	}
	result := uint16(resultSuccess)
	if st.Err != nil {
		result = resultFailure
	}
	if err := c.write(resultTLV(codeRequest, c.id, result)); err != nil {
		return err
	}
	b, err := c.read()
	if err != nil {
		return err
	}
	in, failed := parsePacket(unpackPEAP(b, codeResponse, c.id))
	if failed != nil {
		return failed
	}
	said, failed := parseTLVs(in.data)
	switch {
	case st.Err != nil:
		return st.Err
	case failed != nil:
		return failed
	case in.code != codeResponse || in.typ != TypeTLV || said != resultSuccess:
		return &Error{Code: CodeRefused, Remote: true, What: "the client does not take the end of PEAP"}
	}
	c.who = inner.Identity()
	return nil
}
