package ike

import (
	"testing"
	"time"

	"martlet/ike/message"
)

// authTypes are the payloads inside of the first IKE_AUTH message of a host in one direction.
func authTypes(t testing.TB, from *host, sa *ikeSA, response bool) (out []message.PayloadType) {
	t.Helper()
	raw := sentOf(from, message.IKEAuth, response)[0]
	_, enc, text, err := message.Open(append([]byte(nil), raw...), sa.open)
	if err != nil {
		t.Fatal(err)
	}
	ps, err := message.ParsePayloads(enc.First, text)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		out = append(out, p.Type())
	}
	return out
}

func contains(types []message.PayloadType, want ...message.PayloadType) bool {
	for _, w := range want {
		for _, x := range types {
			if x == w {
				return true
			}
		}
	}
	return false
}

// TestChildless: the IKE SA is opened without a child, and then the children by
// CREATE_CHILD_SA (RFC 6023 §3), whatever gets lost; or as usual, where one side does not
// want it.
func TestChildless(t *testing.T) {
	for name, c := range map[string]struct {
		ours, theirs Childless
		childless    bool
		code         Code
	}{
		"prefer":                 {ChildlessPrefer, ChildlessAllow, true, ""},
		"force":                  {ChildlessForce, ChildlessPrefer, true, ""},
		"allow":                  {ChildlessAllow, ChildlessAllow, false, ""},
		"prefer, peer never":     {ChildlessPrefer, ChildlessNever, false, ""},
		"force, peer never":      {ChildlessForce, ChildlessNever, false, CodeRefused},
		"never, peer would like": {ChildlessNever, ChildlessPrefer, false, ""},
	} {
		for loss, copies := range map[string][]int{"": {1}, " with loss": {1, 0, 0, 1, 0, 1, 1}, " repeated": {2}} {
			t.Run(name+loss, func(t *testing.T) {
				client, gateway := withDMZ(t)
				virtualPair(client, gateway)
				client.Children[1].OnRequest = false
				client.Childless, gateway.Childless = c.ours, c.theirs
				w, a, b := pair(t, client, gateway)
				b.admit = func(Admit) Admission { return Admission{Lease: testLease} }
				n := 0
				w.fate = func(*host, Send) int { n++; return copies[n%len(copies)] }
				a.initiate("home", b)
				w.run(30 * time.Second)
				if c.code != "" {
					if code := a.downCode(); code != c.code {
						t.Errorf("code %s", code)
					}
					return
				}
				agree(t, a, b, 2)
				if a.established()[0].Lease.Addresses[0] != testLease.Addresses[0] {
					t.Error("no virtual address")
				}
				request, answer := authTypes(t, a, engineOf(b), false), authTypes(t, b, engineOf(a), true)
				child := []message.PayloadType{message.TypeSA, message.TypeTSi, message.TypeTSr}
				if contains(request, child...) == c.childless || contains(answer, child...) == c.childless || !contains(answer, message.TypeCP) {
					t.Errorf("request %v, answer %v", request, answer)
				}
			})
		}
	}
}

// TestChildlessNotAllowed: a peer that leaves the child out where it may not.
func TestChildlessNotAllowed(t *testing.T) {
	client, gateway := pskPair(t)
	gateway.Childless = ChildlessNever
	_, a, b, _ := halfOpen(t, client, gateway)
	s := engineOf(a)
	s.active.(*authTask).offer = nil
	b.deliver(a, craft(t, s, message.IKEAuth, 1, 0, authPayloads(t, a)...))
	if len(b.established()) != 0 {
		t.Error("an SA without child")
	}
}

// TestChildlessRefused: without the address that it asked for, a client has no use for
// the SA.
func TestChildlessRefused(t *testing.T) {
	client, gateway := pskPair(t)
	virtualPair(client, gateway)
	client.Childless = ChildlessPrefer
	w, a, b := pair(t, client, gateway)
	a.initiate("home", b)
	w.run(time.Minute)
	if len(a.established()) != 0 || len(b.established()) != 0 {
		t.Error("an SA of no use")
	}
	empty(t, a, b)
}
