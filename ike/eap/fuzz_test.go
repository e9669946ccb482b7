package eap

import (
	"bytes"
	"testing"
)

func FuzzPacket(f *testing.F) {
	f.Add(newPacket(codeRequest, 1, TypeIdentity, nil))
	f.Add(newPacket(codeResponse, 1, TypeNak, []byte{26}))
	f.Add(newPacket(codeRequest, 1, TypeExpanded, make([]byte, 7)))
	f.Add(resultPacket(codeSuccess, 9))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePacket(b)
		if err == nil {
			again := resultPacket(p.code, p.id)
			if p.code == codeRequest || p.code == codeResponse {
				again = newPacket(p.code, p.id, p.typ, p.data)
			}
			if !bytes.Equal(again, b) {
				t.Fatalf("%x parses and is written as %x", b, again)
			}
		}
		// Both ends take it, at their beginning and after the identity.
		for _, m := range []Type{TypeMSCHAPv2, TypeMD5, TypeGTC} {
			c, s := alice(m), NewServer(ServerConfig{Methods: []Type{m}})
			st := s.Start()
			for _, st := range []Step{c.Handle(b), s.Handle(b)} {
				if st.Done && st.Err == nil {
					t.Fatalf("success by %x", b)
				}
			}
			c, s = alice(m), NewServer(ServerConfig{Methods: []Type{m}})
			st = s.Start()
			s.Handle(c.Handle(st.Send).Send)
			if st := s.Handle(b); st.Done && st.Err == nil {
				t.Fatalf("success by %x", b)
			}
		}
	})
}

func FuzzMSCHAPv2(f *testing.F) {
	f.Add(appendMSCHAP(opChallenge, 1, make([]byte, challengeLen), "name"))
	f.Add(appendMSCHAP(opResponse, 1, make([]byte, responseLen), "alice"))
	f.Add(appendMSCHAP(opSuccess, 1, nil, "S=407A5589115FD0D6209F510FE9C04566932CDA56 M=hello"))
	f.Add(appendMSCHAP(opFailure, 1, nil, "E=691 R=1 C=00112233445566778899AABBCCDDEEFF V=3 M=no"))
	f.Add([]byte{3})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseMSCHAP(b)
		if err == nil && len(b) > 1 {
			if again := appendMSCHAP(p.op, p.id, p.value, string(p.rest)); !bytes.Equal(again, b) {
				t.Fatalf("%x parses and is written as %x", b, again)
			}
		}
		mschapFailure(b)
		mschapProof(b)
		for n := range 3 {
			c, s := alice(), NewServer(ServerConfig{})
			st := s.Handle(c.Handle(s.Start().Send).Send)
			if n > 0 {
				st = c.Handle(st.Send)
			}
			if n > 1 {
				s.Handle(st.Send)
				s.Account(accounts("alice"))
				st = s.Handle(newPacket(codeResponse, s.id, TypeMSCHAPv2, b))
				// It has proved itself already.
				if good := err == nil && p.op == opSuccess; good != (st.Err == nil) {
					t.Fatalf("%x: %v", b, st.Err)
				}
				continue
			}
			c.Handle(newPacket(codeRequest, 200, TypeMSCHAPv2, b))
			if st := c.Handle(resultPacket(codeSuccess, 200)); st.Err == nil {
				t.Fatalf("success by %x", b)
			}
			st = s.Handle(newPacket(codeResponse, s.id, TypeMSCHAPv2, b))
			if st.Lookup != "" {
				st = s.Account(accounts("alice"))
			}
			if st.Done && st.Err == nil {
				t.Fatalf("success by %x", b)
			}
		}
	})
}

// FuzzFragments takes a sequence of packets, each with its length before it.
func FuzzFragments(f *testing.F) {
	f.Add([]byte{8, flagLength | flagMore, 0, 0, 0, 5, 1, 2, 3, 3, 0, 4, 5})
	f.Add([]byte{1, 0, 1, flagStart, 2, flagMore, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var in fragments
		sum := 0
		for len(b) > 0 {
			n := min(int(b[0]), len(b)-1)
			fr, err := parseFragment(b[1 : 1+n])
			b = b[1+n:]
			if err != nil {
				continue
			}
			sum += len(fr.data)
			message, whole, err := in.receive(fr)
			if err != nil {
				return
			}
			if whole {
				if len(message) != sum {
					t.Fatalf("a message of %d octets from %d", len(message), sum)
				}
				sum = 0
				// Cut again and put together, it is the same.
				out, back := fragments{size: minFragment}, fragments{}
				out.load(message)
				for {
					fr, err := parseFragment(out.next())
					if err != nil {
						t.Fatal(err)
					}
					again, whole, err := back.receive(fr)
					if err != nil {
						t.Fatal(err)
					}
					if whole {
						if !bytes.Equal(again, message) {
							t.Fatal("another message")
						}
						break
					}
				}
			}
		}
	})
}

// FuzzTLSPeer gives a client that has begun what a server of TLS might say.
func FuzzTLSPeer(f *testing.F) {
	f.Add([]byte{0, 22, 3, 3, 0, 4, 2, 0, 0, 0})
	f.Add([]byte{flagLength, 0, 0, 0, 7, 21, 3, 3, 0, 2, 2, 40})
	a := newAuthority(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range []Type{TypeTLS, TypeTTLS, TypePEAP} {
			p, s := a.peer(m, nil, 0), a.gateway(m, nil)
			p.Handle(newPacket(codeRequest, 1, m, []byte{flagStart}))
			p.Handle(newPacket(codeRequest, 2, m, b))
			if st := p.Handle(resultPacket(codeSuccess, 2)); st.Err == nil {
				t.Fatalf("success by %x", b)
			}
			s.Start()
			s.Handle(newPacket(codeResponse, s.id, TypeIdentity, nil))
			if st := s.Handle(newPacket(codeResponse, s.id, m, b)); st.Done && st.Err == nil {
				t.Fatalf("success by %x", b)
			}
			p.Stop()
			s.Stop()
		}
	})
}

func FuzzAVPs(f *testing.F) {
	f.Add(appendAVP(appendAVP(nil, avpUserName, 0, []byte("alice")), avpMSCHAP2Response, vendorMicrosoft, make([]byte, 50)))
	f.Add([]byte{0, 0, 0, 79, 0xc0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		avps, err := parseAVPs(b)
		if err != nil {
			return
		}
		if len(avps) > len(b)/avpHeader {
			t.Fatalf("%d AVPs in %d octets", len(avps), len(b))
		}
		understood(avps)
		var again []byte
		for _, a := range avps {
			again = appendAVP(again, a.code, a.vendor, a.data)
		}
		same, err := parseAVPs(again)
		if err != nil || len(same) != len(avps) {
			t.Fatalf("%x is written as %x, %v", b, again, err)
		}
		for i := range same {
			if same[i].code != avps[i].code || same[i].vendor != avps[i].vendor || !bytes.Equal(same[i].data, avps[i].data) {
				t.Fatalf("%x is written as %x", b, again)
			}
		}
	})
}

func FuzzPEAP(f *testing.F) {
	f.Add(resultTLV(codeRequest, 1, resultSuccess))
	f.Add([]byte{1})
	f.Add([]byte{26, 1, 1, 0, 5, 16})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 60000 {
			return
		}
		for _, c := range []code{codeRequest, codeResponse} {
			packet := unpackPEAP(b, c, 7)
			if !bytes.Equal(packet, b) && !bytes.Equal(packPEAP(packet), b) {
				t.Fatalf("%x becomes %x", b, packet)
			}
			if p, err := parsePacket(packet); err == nil {
				parseTLVs(p.data)
			}
		}
		if result, err := parseTLVs(b); err == nil && result > resultFailure {
			t.Fatalf("%x is the result %d", b, result)
		}
	})
}
