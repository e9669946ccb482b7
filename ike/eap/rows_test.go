package eap

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"os"
	"testing"
	"time"

	"martlet/crypto/pki"
)

// The tests of this file are named after the rows of the list of what went wrong before
// (security.md section 1).

// stages are conversations stopped after each of their packets, in each of which one end
// waits. visit gets fresh ones.
func stages(t testing.TB, peer func() *Peer, server func() *Server, visit func(n int, p *Peer, s *Server, next []byte)) {
	t.Helper()
	for n := 0; ; n++ {
		p, s := peer(), server()
		var seen []string
		packet, over := settle(t, s, s.Start(), accounts, &seen), false
		for i := range n {
			if i%2 == 0 {
				packet = settle(t, p, p.Handle(packet.Send), nil, nil)
			} else {
				packet = settle(t, s, s.Handle(packet.Send), accounts, &seen)
			}
			if over = packet.Send == nil; over {
				break
			}
		}
		if over {
			p.Stop()
			s.Stop()
			return
		}
		visit(n, p, s, packet.Send)
		p.Stop()
		s.Stop()
	}
}

// each is a test of one method on fresh ends.
type each func(t *testing.T, k kind, peer func() *Peer, server func() *Server)

// someKinds runs f for those that differ most, all of them where there is time.
func someKinds(t *testing.T, f each) {
	t.Helper()
	if os.Getenv("MARTLET_LONG") != "" {
		allKinds(t, f)
		return
	}
	runKinds(t, f, []kind{
		{method: TypeTLS}, {TypeTTLS, []Type{TypeMSCHAPv2}}, {TypeTTLS, []Type{TypePlainMSCHAPv2}}, {TypePEAP, []Type{TypeMSCHAPv2}},
	})
}

// allKinds runs f for every method, the plain ones included.
func allKinds(t *testing.T, f each) {
	t.Helper()
	runKinds(t, f, kinds())
}

func runKinds(t *testing.T, f each, onTLS []kind) {
	t.Helper()
	a := newAuthority(t)
	for _, m := range []Type{TypeMSCHAPv2, TypeMD5, TypeGTC} {
		t.Run(m.String(), func(t *testing.T) {
			f(t, kind{method: m}, func() *Peer { return alice(m) }, func() *Server { return NewServer(ServerConfig{Methods: []Type{m}}) })
		})
	}
	for _, k := range onTLS {
		for _, version := range versions() {
			t.Run(k.String()+"/"+tls.VersionName(version), func(t *testing.T) {
				f(t, k, func() *Peer { return a.peer(k.method, k.inner, version) }, func() *Server { return a.gateway(k.method, k.inner) })
			})
		}
	}
}

// send gives a packet to whoever waits after n packets.
func send(t testing.TB, n int, p *Peer, s *Server, packet []byte) Step {
	t.Helper()
	var seen []string
	if n%2 == 0 {
		return settle(t, p, p.Handle(packet), nil, nil)
	}
	return settle(t, s, s.Handle(packet), accounts, &seen)
}

func TestRow05ShortAndLyingEAP(t *testing.T) {
	try := func(n int, p *Peer, s *Server, b []byte) {
		st := send(t, n, p, s, b)
		if st.Done && st.Err == nil {
			t.Fatalf("success by %x", b)
		}
	}
	for _, m := range []Type{TypeMSCHAPv2, TypeTTLS} {
		for field := range 10 {
			for octets := range 10 {
				for _, c := range []byte{0, 1, 2, 3, 4, 5, 255} {
					for _, typ := range []byte{0, 1, 2, 3, 4, 6, 13, 21, 25, 26, 33, 254, 255} {
						stage := 0
						for range 3 {
							p, s := alice(m), NewServer(ServerConfig{Methods: []Type{TypeMSCHAPv2}})
							st := s.Start()
							if stage > 0 {
								st = p.Handle(st.Send)
							}
							if stage > 1 {
								st = s.Handle(st.Send)
							}
							b := make([]byte, max(octets, 5))
							b[0], b[1], b[4] = c, st.Send[1], typ
							binary.BigEndian.PutUint16(b[2:], uint16(field))
							try(stage, p, s, b[:octets])
							p.Stop()
							s.Stop()
							stage++
						}
					}
				}
			}
		}
	}
	// An expanded type, of a vendor whose data are empty or missing.
	for n := range 12 {
		p := alice()
		st := p.Handle(newPacket(codeRequest, 1, TypeExpanded, make([]byte, n)))
		if n < 7 {
			is(t, st.Err, CodeProtocol)
		} else if want := newPacket(codeResponse, 1, TypeNak, []byte{byte(TypeMSCHAPv2)}); !bytes.Equal(st.Send, want) {
			t.Errorf("answered %x", st.Send)
		}
	}
}

// TestRow28EarlySuccess: EAP-Success counts only where the method is complete.
func TestRow28EarlySuccess(t *testing.T) {
	allKinds(t, func(t *testing.T, k kind, peer func() *Peer, server func() *Server) {
		stages(t, peer, server, func(n int, p *Peer, s *Server, next []byte) {
			if n%2 == 1 {
				// A client that says success to the server.
				is(t, send(t, n, p, s, resultPacket(codeSuccess, next[1])).Err, CodeProtocol)
				if s.MSK() != nil || s.Identity() != "" {
					t.Error("a server believed a client's EAP-Success")
				}
				return
			}
			last := code(next[0]) == codeSuccess
			st := send(t, n, p, s, resultPacket(codeSuccess, next[1]))
			switch {
			case last && st.Err != nil:
				t.Errorf("packet %d: %v", n, describe(st.Err))
			case !last && st.Err == nil:
				t.Errorf("packet %d: early success", n)
			}
			if st.Err != nil && p.MSK() != nil {
				t.Error("a key without success")
			}
		})
	})
}

// TestRow29OpcodesInEveryState: each MSCHAPv2 opcode in each state, both roles.
func TestRow29OpcodesInEveryState(t *testing.T) {
	// bodies are what may stand behind the type, for an opcode.
	bodies := func(op opcode, id byte, value []byte) [][]byte {
		return [][]byte{
			{byte(op)},
			appendMSCHAP(op, id, nil, ""),
			appendMSCHAP(op, id, bytes.Repeat([]byte{1}, challengeLen), "x"),
			appendMSCHAP(op, id, bytes.Repeat([]byte{1}, responseLen), "alice"),
			appendMSCHAP(op, id, nil, fmt.Sprintf("S=%X M=ok", make([]byte, 20))),
			appendMSCHAP(op, id, nil, "E=691 R=1 C=00112233445566778899AABBCCDDEEFF V=3 M=again"),
			append([]byte{byte(op)}, value...),
		}
	}
	for op := range opcode(9) {
		for which := range bodies(op, 0, nil) {
			stages(t, func() *Peer { return alice() }, func() *Server { return NewServer(ServerConfig{}) }, func(n int, p *Peer, s *Server, next []byte) {
				if n < 2 || code(next[0]) == codeSuccess {
					return
				}
				c := code(next[0])
				var tail []byte
				if len(next) > 6 {
					tail = next[6:]
				}
				body := bodies(op, next[1], tail)[which]
				packet := newPacket(c, next[1], TypeMSCHAPv2, body)
				if bytes.Equal(packet, next) {
					return
				}
				st := send(t, n, p, s, packet)
				if c == codeResponse && op == opSuccess && s.method.(*mschapServer).finished {
					return // the client has proved itself, and acknowledges with more than one octet
				}
				if st.Done && st.Err == nil {
					t.Fatalf("packet %d: success by opcode %d", n, op)
				}
				if c == codeRequest && !st.Done {
					// A challenge, or a failure: neither ends in success.
					if op != opChallenge && op != opFailure {
						t.Errorf("packet %d: opcode %d was answered with %x", n, op, st.Send)
					}
					if st = send(t, n, p, s, resultPacket(codeSuccess, next[1])); st.Err == nil {
						t.Errorf("packet %d: success after opcode %d", n, op)
					}
				}
				if c == codeResponse && !st.Done && op != opResponse {
					t.Errorf("packet %d: opcode %d was answered with %x", n, op, st.Send)
				}
				if p.MSK() != nil || s.MSK() != nil {
					t.Error("a key without success")
				}
			})
		}
	}
}

// TestRow29AfterTheEnd: nothing wakes a conversation that is over.
func TestRow29AfterTheEnd(t *testing.T) {
	allKinds(t, func(t *testing.T, _ kind, peer func() *Peer, server func() *Server) {
		p, s := peer(), server()
		o := converse(t, p, s, nil)
		key := bytes.Clone(p.MSK())
		for _, b := range o.packets {
			for _, st := range []Step{p.Handle(b), s.Handle(b), p.Resume(), s.Resume(), s.Account(nil), s.Start()} {
				if !st.Done || st.Err != nil {
					t.Fatalf("%+v after the end", st)
				}
			}
		}
		if !bytes.Equal(p.MSK(), key) || !bytes.Equal(s.MSK(), key) {
			t.Error("the key changed")
		}
	})
}

// TestRow30MSCHAPLengths: every combination of the lengths in MSCHAPv2, both roles.
func TestRow30MSCHAPLengths(t *testing.T) {
	texts := []string{"", "E", "E=691", "E=691 R=1 C= V=3 M=", "E=691 R=1 C=00112233445566778899AABBCCDDEEFF V=3 M=again", "C=", "M=M=M=", "=", "E=648 R=1 C=0 V=3"}
	for _, text := range texts {
		whole := appendMSCHAP(opFailure, 1, nil, text)
		for n := range len(whole) + 1 {
			for length := range len(whole) + 3 {
				body := bytes.Clone(whole[:n])
				if len(body) >= 4 {
					binary.BigEndian.PutUint16(body[2:], uint16(length))
				}
				p, s := alice(), NewServer(ServerConfig{})
				st := s.Handle(p.Handle(s.Start().Send).Send)
				p.Handle(st.Send)
				st = p.Handle(newPacket(codeRequest, 77, TypeMSCHAPv2, body))
				well := n == len(whole) && length == n || n == 1
				if well && (text != "" || n == 1) {
					if want := newPacket(codeResponse, 77, TypeMSCHAPv2, []byte{byte(opFailure)}); !bytes.Equal(st.Send, want) {
						t.Fatalf("%q: %+v", body, st)
					}
					// The way out is shut: no second try, whatever the server offers.
					st = p.Handle(newPacket(codeRequest, 78, TypeMSCHAPv2, appendMSCHAP(opChallenge, 2, make([]byte, 16), "x")))
					is(t, st.Err, CodeProtocol)
				} else if st.Err == nil && st.Send == nil {
					t.Fatalf("%q: %+v", body, st)
				}
				p.Stop()
				s.Stop()
			}
		}
	}
	// Challenge and response: value size, length and what is there.
	for _, op := range []opcode{opChallenge, opResponse} {
		for size := range 52 {
			for there := range 54 {
				for _, off := range []int{-1, 0, 1} {
					body := append([]byte{byte(op), 1, 0, 0, byte(size)}, make([]byte, there)...)
					binary.BigEndian.PutUint16(body[2:], uint16(len(body)+off))
					m, err := parseMSCHAP(body)
					want := map[opcode]int{opChallenge: challengeLen, opResponse: responseLen}[op]
					if good := off == 0 && size == want && there >= want; good != (err == nil) || good && len(m.value) != want {
						t.Fatalf("%x: %v", body, err)
					}
				}
			}
		}
	}
}

// TestRow30FailureIsExplained: what the server says reaches the person.
func TestRow30FailureIsExplained(t *testing.T) {
	for text, want := range map[string]Code{
		"E=691 R=0 C=00 V=3 M=no": CodePassword, "E=646 R=0": CodeAccount, "E=647": CodeAccount, "E=648 R=1 C=00 V=3 M=expired": CodeAccount,
		"E=649": CodeAccount, "E=709": CodeAccount, "rubbish": CodePassword, "M=\x1b[2J": CodePassword,
	} {
		p, s := alice(), NewServer(ServerConfig{})
		p.Handle(s.Handle(p.Handle(s.Start().Send).Send).Send)
		p.Handle(newPacket(codeRequest, 9, TypeMSCHAPv2, appendMSCHAP(opFailure, 9, nil, text)))
		st := p.Handle(resultPacket(codeFailure, 9))
		is(t, st.Err, want)
		if e, ok := st.Err.(*Error); !ok || !e.Remote || bytes.ContainsRune([]byte(e.Error()), 0x1b) {
			t.Errorf("%q: %v", text, st.Err)
		}
	}
}

// TestRow31Certificates: the result of the verification counts, and nothing of ours goes
// to a server that did not pass.
func TestRow31Certificates(t *testing.T) {
	a, foreign := newAuthority(t), newAuthority(t)
	name := []string{"aaa.example.com"}
	server := map[string]*pki.Credential{
		"unknown CA":    foreign.server,
		"wrong name":    a.issue(t, pki.Request{DNSNames: []string{"bbb.example.com"}, Purpose: pki.ServerAuth}),
		"only CN":       a.issue(t, pki.Request{CommonName: "aaa.example.com", DNSNames: []string{"c.example.com"}, Purpose: pki.ServerAuth}),
		"expired":       a.issue(t, pki.Request{DNSNames: name, Purpose: pki.ServerAuth, Now: when().Add(-50 * time.Minute), Validity: time.Minute}),
		"not yet valid": a.issue(t, pki.Request{DNSNames: name, Purpose: pki.ServerAuth, Now: when().Add(48 * time.Hour)}),
		"client's EKU":  a.issue(t, pki.Request{DNSNames: name, Purpose: pki.ClientAuth}),
		"no EKU":        withoutUsage(t, a, name),
		"the CA itself": {Cert: a.Cert, Key: a.Key},
	}
	for why, cred := range server {
		for _, k := range []kind{{method: TypeTLS}, {TypeTTLS, []Type{TypePAP}}, {TypePEAP, []Type{TypeMSCHAPv2}}} {
			for _, version := range versions() {
				t.Run(why+"/"+k.String()+"/"+tls.VersionName(version), func(t *testing.T) {
					p := a.peer(k.method, k.inner, version)
					s := a.gateway(k.method, k.inner, func(c *ServerConfig) { c.Credentials = []*pki.Credential{cred} })
					o := converse(t, p, s, nil)
					is(t, o.peer.Err, CodeCertificate)
					is(t, o.server.Err, CodeCertificate)
					if e, ok := o.server.Err.(*Error); !ok || !e.Remote {
						t.Error("the server does not know who refused")
					}
					if len(o.lookups) > 0 || p.MSK() != nil || s.MSK() != nil || p.Certificate() != nil {
						t.Error("it went on")
					}
					for _, b := range o.packets {
						if bytes.Contains(b, a.client.Cert.Raw[:64]) || bytes.Contains(b, []byte("alice")) {
							t.Error("the client was shown")
						}
					}
				})
			}
		}
	}
	client := map[string]*pki.Credential{
		"unknown CA":   foreign.client,
		"expired":      a.issue(t, pki.Request{CommonName: "alice", Purpose: pki.ClientAuth, Now: when().Add(-50 * time.Minute), Validity: time.Minute}),
		"server's EKU": a.server,
	}
	for why, cred := range client {
		for _, version := range versions() {
			t.Run("client/"+why+"/"+tls.VersionName(version), func(t *testing.T) {
				p := a.peer(TypeTLS, nil, version, func(c *PeerConfig) { c.Credential = cred })
				s := a.gateway(TypeTLS, nil)
				o := converse(t, p, s, nil)
				is(t, o.peer.Err, CodeCertificate)
				is(t, o.server.Err, CodeCertificate)
				if s.MSK() != nil || s.Certificate() != nil || s.Identity() != "" || p.MSK() != nil {
					t.Error("let in")
				}
			})
		}
	}
	for _, version := range versions() {
		t.Run("client/none/"+tls.VersionName(version), func(t *testing.T) {
			p, s := a.peer(TypeTLS, nil, version), a.gateway(TypeTLS, nil)
			p.typ = TypeTLS
			p.method = newTLSMethod(TypeTLS, true, 0, func(m *tlsMethod) error {
				m.c.conn = tls.Client(m.c, &tls.Config{InsecureSkipVerify: true, MaxVersion: version}) //nolint:gosec // a client that lies
				if err := m.c.conn.Handshake(); err != nil {
					return err
				}
				_, err := m.c.read()
				return err
			})
			s.config.SkipIdentity = "alice"
			o := converse(t, p, s, nil)
			if o.server.Err == nil || o.peer.Err == nil || s.MSK() != nil || s.Identity() != "" {
				t.Error("let in without a certificate")
			}
		})
	}
	// Without a name any server of the CA will do.
	p := a.peer(TypeTTLS, nil, 0, func(c *PeerConfig) { c.ServerName = pki.Identity{} })
	s := a.gateway(TypeTTLS, nil, func(c *ServerConfig) { c.Credentials = []*pki.Credential{server["wrong name"]} })
	agree(t, p, s, converse(t, p, s, nil))
	// Without roots nobody will.
	p = a.peer(TypeTTLS, nil, 0, func(c *PeerConfig) { c.Verifier = pki.Verifier{Now: when()} })
	is(t, converse(t, p, a.gateway(TypeTTLS, nil), nil).peer.Err, CodeCertificate)
	p = a.peer(TypeTTLS, nil, 0, func(c *PeerConfig) { c.Verifier.Now = time.Time{} })
	is(t, converse(t, p, a.gateway(TypeTTLS, nil), nil).peer.Err, CodeCertificate)
}

// withoutUsage issues a certificate without extended key usage, as package pki never does.
func withoutUsage(t testing.TB, a *authority, names []string) *pki.Credential {
	t.Helper()
	like := a.issue(t, pki.Request{DNSNames: names, Purpose: pki.ServerAuth})
	template := *like.Cert
	template.ExtKeyUsage, template.UnknownExtKeyUsage, template.Extensions = nil, nil, nil
	der, err := x509.CreateCertificate(nil, &template, a.Cert, like.Key.Public(), a.Key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &pki.Credential{Cert: cert, Key: like.Key}
}

// TestRow54ZeroLengthElements: walkers of AVPs and TLVs end, whatever lengths they read.
func TestRow54ZeroLengthElements(t *testing.T) {
	for flags := range 256 {
		for length := range 24 {
			for there := range 24 {
				b := append([]byte{0, 0, 0, 79, byte(flags), 0, 0, byte(length)}, make([]byte, there)...)
				avps, err := parseAVPs(b)
				header := 8
				if flags&flagVendor != 0 {
					header = 12
				}
				if err == nil && (length < header || len(b) < length || len(avps[0].data) != length-header) {
					t.Fatalf("%x is %+v", b, avps)
				}
				if len(avps) > len(b)/8 {
					t.Fatalf("%d AVPs in %d octets", len(avps), len(b))
				}
			}
		}
	}
	for _, c := range []struct {
		b    []byte
		want uint16
		good bool
	}{
		{nil, 0, true},
		{[]byte{0x80, 3, 0, 2, 0, 1}, 1, true},
		{[]byte{0, 3, 0, 2, 0, 2}, 2, true},
		{[]byte{0, 12, 0, 0, 0x80, 3, 0, 2, 0, 1}, 1, true},
		{[]byte{0, 99, 0, 0, 0x80, 3, 0, 2, 0, 1}, 1, true},
		{[]byte{0x80, 99, 0, 0}, 0, false},
		{[]byte{0x80, 3, 0, 0}, 0, false},
		{[]byte{0x80, 3, 0, 3, 0, 1, 0}, 0, false},
		{[]byte{0x80, 3, 0, 2, 0, 3}, 0, false},
		{[]byte{0x80, 3, 0, 2, 0, 1, 0x80, 3, 0, 2, 0, 2}, 0, false},
		{bytes.Repeat([]byte{0}, 4000), 0, true},
	} {
		got, err := parseTLVs(c.b)
		if (err == nil) != c.good || c.good && got != c.want {
			t.Errorf("%x: %d, %v", c.b[:min(len(c.b), 20)], got, err)
		}
	}
	whole := resultTLV(codeRequest, 1, resultSuccess)[5:]
	for n := 1; n < len(whole); n++ {
		if got, err := parseTLVs(whole[:n]); err == nil {
			t.Errorf("%x: %d", whole[:n], got)
		}
	}
}
