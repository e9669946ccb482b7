package eap

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
)

// accounts are the users of the tests.
func accounts(name string) *Account {
	switch BareName(name) {
	case "alice":
		return &Account{Password: suite.Secret("wonderland")}
	case "hash":
		return &Account{NTHash: ntHash(suite.Secret("wonderland"))}
	case "jürgen":
		return &Account{Password: suite.Secret("größe 𝄞")}
	case "empty":
		return &Account{}
	}
	return nil
}

// vouch finds a certificate revoked whose name says so.
func vouch(v *Vouch) error {
	if v.Chain[0].Subject.CommonName == "revoked" {
		return &pki.CertError{Code: pki.CodeRevoked, What: "revoked"}
	}
	return nil
}

// outcome is the end of a conversation as both sides saw it.
type outcome struct {
	peer, server Step
	lookups      []string
	rounds       int
	packets      [][]byte // in order, the server's first
}

// end is a Peer or a Server.
type end interface {
	Handle([]byte) Step
	Resume() Step
	Vouched(error) Step
}

// settle does the work that a step wants and answers lookups.
func settle(t testing.TB, e end, st Step, lookup func(string) *Account, seen *[]string) Step {
	t.Helper()
	for range 100 {
		wants := 0
		for _, w := range []bool{st.Work != nil, st.Vouch != nil, st.Lookup != "", st.Done, st.Send != nil && !st.Done} {
			if w {
				wants++
			}
		}
		if wants != 1 {
			t.Fatalf("a step wants %d things: %+v", wants, st)
		}
		if st.Err != nil {
			if _, ok := errors.AsType[*Error](st.Err); !ok || !st.Done {
				t.Fatalf("error %T %v", st.Err, st.Err)
			}
		}
		switch {
		case st.Work != nil:
			st.Work()
			st = e.Resume()
		case st.Vouch != nil:
			st = e.Vouched(vouch(st.Vouch))
		case st.Lookup != "":
			*seen = append(*seen, st.Lookup)
			st = e.(*Server).Account(lookup(st.Lookup))
		default:
			return st
		}
	}
	t.Fatal("work without end")
	return st
}

// converse runs a conversation to its end; change, where it is not nil, may replace a
// packet on its way.
func converse(t testing.TB, p *Peer, s *Server, change func(n int, packet []byte) []byte) outcome {
	t.Helper()
	t.Cleanup(func() { p.Stop(); s.Stop() })
	var o outcome
	through := func(b []byte) []byte {
		if change != nil {
			b = change(len(o.packets), b)
		}
		o.packets = append(o.packets, b)
		return b
	}
	o.server = settle(t, s, s.Start(), accounts, &o.lookups)
	for o.rounds = range 2 * maxRounds {
		if o.server.Send != nil {
			o.peer = settle(t, p, p.Handle(through(o.server.Send)), nil, nil)
		}
		if o.server.Done || o.peer.Done {
			return o
		}
		o.server = settle(t, s, s.Handle(through(o.peer.Send)), accounts, &o.lookups)
	}
	t.Fatal("the conversation does not end")
	return o
}

// agree demands success with one key on both sides.
func agree(t testing.TB, p *Peer, s *Server, o outcome) {
	t.Helper()
	if !o.peer.Done || o.peer.Err != nil || !o.server.Done || o.server.Err != nil {
		t.Fatalf("peer %v, server %v", describe(o.peer.Err), describe(o.server.Err))
	}
	if !bytes.Equal(p.MSK(), s.MSK()) {
		t.Error("two keys")
	}
	if p.Method() != s.Method() || p.Mutual() != s.Mutual() {
		t.Error("the sides disagree about the method")
	}
}

func describe(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return fmt.Sprintf("%s (%s) %s [%v]", e.Code, e.What, e.Why, e.Err)
	}
	return fmt.Sprint(err)
}

// is demands that err has the code.
func is(t testing.TB, err error, c Code) {
	t.Helper()
	if !errors.Is(err, &Error{Code: c}) {
		t.Errorf("got %v, want %s", describe(err), c)
	}
}

func alice(methods ...Type) *Peer {
	return NewPeer(PeerConfig{Username: "alice", Password: suite.Secret("wonderland"), Methods: methods})
}

func TestPlainMethods(t *testing.T) {
	for _, m := range []Type{TypeMSCHAPv2, TypeMD5, TypeGTC} {
		for user, password := range map[string]string{
			"alice": "wonderland", `CORP\alice`: "wonderland", "jürgen": "größe 𝄞", "hash": "wonderland",
		} {
			t.Run(m.String()+"/"+user, func(t *testing.T) {
				p := NewPeer(PeerConfig{Username: user, Password: suite.Secret(password), Methods: []Type{m}})
				s := NewServer(ServerConfig{Methods: []Type{m}})
				o := converse(t, p, s, nil)
				if user == "hash" && m == TypeMD5 {
					is(t, o.server.Err, CodeAccount)
					return
				}
				agree(t, p, s, o)
				if s.Identity() != user || s.Claimed() != user || p.Mutual() {
					t.Errorf("identity %q, claimed %q", s.Identity(), s.Claimed())
				}
				want := 0
				if m == TypeMSCHAPv2 {
					want = 64
				}
				if len(p.MSK()) != want {
					t.Errorf("a key of %d octets", len(p.MSK()))
				}
				if len(o.lookups) != 1 || o.lookups[0] != user {
					t.Errorf("looked up %q", o.lookups)
				}
			})
		}
	}
}

func TestRefused(t *testing.T) {
	for _, m := range []Type{TypeMSCHAPv2, TypeMD5, TypeGTC} {
		for _, user := range []string{"alice", "nobody", "empty", ""} {
			t.Run(m.String()+"/"+user, func(t *testing.T) {
				p := NewPeer(PeerConfig{Username: user, Password: suite.Secret("wrong"), Methods: []Type{m}})
				s := NewServer(ServerConfig{Methods: []Type{m}})
				o := converse(t, p, s, nil)
				is(t, o.server.Err, CodePassword)
				want := CodeRefused
				if m == TypeMSCHAPv2 {
					want = CodePassword
				}
				is(t, o.peer.Err, want)
				if p.MSK() != nil || s.MSK() != nil || s.Identity() != "" || s.Certificate() != nil || p.Mutual() || s.Mutual() {
					t.Error("something was given out")
				}
			})
		}
	}
}

// TestNamesCannotBeTold: what a peer sees is the same for a wrong password and for a name
// that does not exist.
func TestNamesCannotBeTold(t *testing.T) {
	for _, m := range []Type{TypeMSCHAPv2, TypeMD5, TypeGTC} {
		shapes := map[string]bool{}
		for _, user := range []string{"alice", "alicf", "empty"} {
			p := NewPeer(PeerConfig{Username: user, Password: suite.Secret("wrong"), Methods: []Type{m}})
			s := NewServer(ServerConfig{Methods: []Type{m}, Rand: bytes.NewReader(make([]byte, 1000))})
			o := converse(t, p, s, nil)
			shape := ""
			for i, b := range o.packets {
				if i%2 == 0 {
					shape += fmt.Sprintf("%x ", b)
				}
			}
			shapes[shape] = true
		}
		if len(shapes) != 1 {
			t.Errorf("%s: %d kinds of refusal: %v", m, len(shapes), shapes)
		}
	}
}

func TestNak(t *testing.T) {
	for _, c := range []struct {
		peer, server []Type
		want         Type
	}{
		{[]Type{TypeMSCHAPv2}, []Type{TypeMD5, TypeGTC, TypeMSCHAPv2}, TypeMSCHAPv2},
		{[]Type{TypeGTC, TypeMSCHAPv2}, []Type{TypeMD5, TypeMSCHAPv2, TypeGTC}, TypeGTC},
		{[]Type{TypeGTC, TypeMSCHAPv2}, []Type{TypeMSCHAPv2, TypeGTC}, TypeMSCHAPv2},
		{nil, []Type{TypeGTC, TypeMSCHAPv2}, TypeMSCHAPv2},
		{[]Type{TypeTLS, TypeMSCHAPv2}, nil, TypeMSCHAPv2},
		{[]Type{TypeMD5}, []Type{TypeGTC, TypeMSCHAPv2}, 0},
		{[]Type{TypeTLS}, nil, 0},
	} {
		p, s := alice(c.peer...), NewServer(ServerConfig{Methods: c.server})
		o := converse(t, p, s, nil)
		if c.want == 0 {
			is(t, o.peer.Err, CodeNoMethod)
			is(t, o.server.Err, CodeNoMethod)
			continue
		}
		agree(t, p, s, o)
		if s.Method() != c.want {
			t.Errorf("%v and %v: %s", c.peer, c.server, s.Method())
		}
	}
	// A method that is not there at all.
	s := NewServer(ServerConfig{Methods: []Type{TypeTLS}})
	o := converse(t, alice(), s, nil)
	is(t, o.server.Err, CodeNoMethod)
}

func TestSkipIdentity(t *testing.T) {
	p, s := alice(TypeGTC), NewServer(ServerConfig{Methods: []Type{TypeGTC}, SkipIdentity: "alice"})
	o := converse(t, p, s, nil)
	agree(t, p, s, o)
	if o.rounds != 1 || s.Identity() != "alice" {
		t.Errorf("%d rounds, identity %q", o.rounds, s.Identity())
	}
}

func TestOuterIdentity(t *testing.T) {
	p := NewPeer(PeerConfig{Identity: "anonymous", Username: "alice", Password: suite.Secret("wonderland")})
	s := NewServer(ServerConfig{})
	agree(t, p, s, converse(t, p, s, nil))
	if s.Claimed() != "anonymous" || s.Identity() != "alice" {
		t.Errorf("claimed %q, identity %q", s.Claimed(), s.Identity())
	}
}

func TestNotification(t *testing.T) {
	p := alice()
	st := p.Handle(newPacket(codeRequest, 7, TypeNotification, []byte("closed on\x07Sundays")))
	if want := newPacket(codeResponse, 7, TypeNotification, nil); !bytes.Equal(st.Send, want) {
		t.Errorf("answered %x", st.Send)
	}
	st = p.Handle(resultPacket(codeFailure, 7))
	if e, ok := errors.AsType[*Error](st.Err); !ok || e.Why != "closed on?Sundays" || !e.Remote {
		t.Errorf("said %v", st.Err)
	}
}

func TestTypeWords(t *testing.T) {
	for typ, word := range words() {
		got, err := ParseType(word)
		if err != nil || got != typ || typ.String() != word {
			t.Errorf("%q: %d, %v", word, got, err)
		}
	}
	if got, err := ParseType("EAP-MSCHAPv2"); err != nil || got != TypeMSCHAPv2 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := ParseType("leap"); err == nil {
		t.Error("leap is known")
	}
}
