package eap

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// wordy replaces the server's method by a script of PEAP that says what says says, each
// as one packet inside the tunnel, and keeps the answers.
func wordy(s *Server, says [][]byte, heard *[][]byte) {
	s.config.SkipIdentity = "alice"
	s.left = nil
	s.started = true
	s.typ = TypePEAP
	m := newTLSMethod(TypePEAP, false, 0, func(m *tlsMethod) error {
		if err := s.handshakeServer(m); err != nil {
			return err
		}
		if err := m.c.exportMSK(TypePEAP); err != nil {
			return err
		}
		if err := m.c.flush(); err != nil {
			return err
		}
		for _, b := range says {
			if err := m.c.write(b); err != nil {
				return err
			}
			answer, err := m.c.read()
			if err != nil {
				return err
			}
			*heard = append(*heard, answer)
		}
		return nil
	})
	s.method = m
}

// run begins with the method at once.
func run(t *testing.T, p *Peer, s *Server) outcome {
	t.Helper()
	t.Cleanup(func() { p.Stop(); s.Stop() })
	var o outcome
	o.server = s.step(s.method.handle(s.nextID, nil))
	for range maxRounds {
		o.peer = settle(t, p, p.Handle(o.server.Send), nil, nil)
		if o.peer.Done || o.server.Done {
			return o
		}
		o.server = settle(t, s, s.Handle(o.peer.Send), accounts, &o.lookups)
		if o.server.Send == nil {
			return o
		}
	}
	t.Fatal("no end")
	return o
}

// TestPEAPHeaders: a first request with its header, as FreeRADIUS sends it, is answered
// without; an unknown method inside and an offer of Windows with a nak.
func TestPEAPHeaders(t *testing.T) {
	a := newAuthority(t)
	p, s := a.peer(TypePEAP, []Type{TypeGTC}, 0), a.gateway(TypePEAP, nil)
	var heard [][]byte
	capabilities := newPacket(codeRequest, 9, TypeExpanded, []byte{0, 1, 0x37, 0, 0, 0, 0x22, 0, 0, 0, 1})
	wordy(s, [][]byte{
		newPacket(codeRequest, 77, TypeIdentity, nil),
		{byte(TypeIdentity)},
		capabilities,
		{byte(TypeMD5), 1, 1},
		append([]byte{byte(TypeGTC)}, "Password: "...),
		resultTLV(codeRequest, 200, resultSuccess),
	}, &heard)
	o := run(t, p, s)
	if o.peer.Err != nil || o.server.Err != nil {
		t.Fatal(describe(o.peer.Err), describe(o.server.Err))
	}
	want := []string{"\x01alice", "\x01alice", "\x03\x06", "\x03\x06", "\x06wonderland", string(resultTLV(codeResponse, 200, resultSuccess))}
	for i := range want {
		if string(heard[i]) != want[i] {
			t.Errorf("answer %d is %q", i, heard[i])
		}
	}
	if !bytes.Equal(p.MSK(), s.MSK()) {
		t.Error("two keys")
	}
}

// TestPEAPResults: what the server says at the end, and what may come instead.
func TestPEAPResults(t *testing.T) {
	a := newAuthority(t)
	gtc := append([]byte{byte(TypeGTC)}, "Password: "...)
	for what, c := range map[string]struct {
		says [][]byte
		code Code
	}{
		"success too early":   {[][]byte{{1}, resultTLV(codeRequest, 1, resultSuccess)}, CodeEarlySuccess},
		"success at once":     {[][]byte{resultTLV(codeRequest, 1, resultSuccess)}, CodeEarlySuccess},
		"failure":             {[][]byte{{1}, gtc, resultTLV(codeRequest, 1, resultFailure)}, CodeRefused},
		"EAP-Success inside":  {[][]byte{{1}, resultPacket(codeSuccess, 1)}, CodeEarlySuccess},
		"EAP-Failure inside":  {[][]byte{{1}, gtc, resultPacket(codeFailure, 1)}, CodeRefused},
		"no result":           {[][]byte{{1}, gtc, newPacket(codeRequest, 1, TypeTLV, nil)}, CodeProtocol},
		"unknown TLV":         {[][]byte{{1}, gtc, newPacket(codeRequest, 1, TypeTLV, []byte{0x80, 77, 0, 0})}, CodeProtocol},
		"another method":      {[][]byte{{1}, gtc, {byte(TypeMSCHAPv2), 1}}, CodeProtocol},
		"a response":          {[][]byte{newPacket(codeResponse, 1, TypeIdentity, nil)}, CodeEarlySuccess}, // it reads as a notification
		"an end without word": {[][]byte{{1}, gtc}, CodeEarlySuccess},
	} {
		t.Run(what, func(t *testing.T) {
			p, s := a.peer(TypePEAP, []Type{TypeGTC}, 0), a.gateway(TypePEAP, nil)
			var heard [][]byte
			wordy(s, c.says, &heard)
			o := run(t, p, s)
			if !o.peer.Done {
				o.peer = p.Handle(o.server.Send)
			}
			is(t, o.peer.Err, c.code)
			if p.MSK() != nil {
				t.Error("a key without success")
			}
		})
	}
}

// TestTooLong: what does not fit into a packet is an end, not a wrong length field.
func TestTooLong(t *testing.T) {
	p := NewPeer(PeerConfig{Username: strings.Repeat("x", 70000), Password: []byte("p")})
	is(t, p.Handle(newPacket(codeRequest, 1, TypeIdentity, nil)).Err, CodeProtocol)
	for _, n := range []int{maxName, maxName + 1} {
		s := NewServer(ServerConfig{})
		st := s.Start()
		st = s.Handle(newPacket(codeResponse, st.Send[1], TypeIdentity, bytes.Repeat([]byte{'x'}, n)))
		if got := fmt.Sprint(st.Err != nil); got != fmt.Sprint(n > maxName) {
			t.Errorf("%d octets: %v", n, st.Err)
		}
	}
}
