package martlet

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"martlet/ike"
)

// TestGoals: the order in which a peer's addresses are tried, in pairs of both families.
func TestGoals(t *testing.T) {
	for _, c := range []struct{ remotes, want string }{
		{"192.0.2.1", "192.0.2.1"},
		{"192.0.2.1 192.0.2.2", "192.0.2.1, 192.0.2.2"},
		{"2001:db8::1 192.0.2.1", "2001:db8::1 or 192.0.2.1"},
		{"192.0.2.1 192.0.2.2 2001:db8::1 2001:db8::2 192.0.2.3", "192.0.2.1 or 2001:db8::1, 192.0.2.2 or 2001:db8::2, 192.0.2.3"},
	} {
		var got []string
		for remotes := addrs(strings.Fields(c.remotes)...); len(remotes) > 0; {
			var g goal
			g, remotes = nextGoal(remotes)
			text := g.remote.String()
			if g.rival.IsValid() {
				text += " or " + g.rival.String()
			}
			got = append(got, text)
		}
		if diff := cmp.Diff(c.want, strings.Join(got, ", ")); diff != "" {
			t.Error(diff)
		}
	}
}

// TestBothFamiliesAreRaced: a gateway that is silent at the address that is tried first is reached at
// the other one long before the first is given up.
func TestBothFamiliesAreRaced(t *testing.T) {
	if l, err := net.ListenPacket("udp", "[::1]:0"); err != nil {
		t.Skip("no IPv6 here: " + err.Error())
	} else {
		l.Close()
	}
	gateway := startNode(t, true, gatewayText)
	var v4 netip.AddrPort
	for _, at := range gateway.Addresses() {
		if at.Addr().Is4() {
			v4 = at
		}
	}
	// Whoever has this port takes everything and answers nothing.
	silent, err := net.ListenPacket("udp", fmt.Sprintf("[::1]:%d", v4.Port()))
	if err != nil {
		t.Skip("the gateway's port is taken at the other address: " + err.Error())
	}
	defer silent.Close()
	text := strings.Replace(fmt.Sprintf(clientText, "127.0.0.1", v4.Port()), `"127.0.0.1"`, `"::1", "127.0.0.1"`, 1)
	client := startNode(t, false, text)
	if err := client.Connect(testContext(t), ""); err != nil {
		t.Fatal(err)
	}
	if s := client.Status(); len(s.SAs) != 1 || s.SAs[0].RemoteAddr.Addr() != v4.Addr() {
		t.Errorf("SAs %+v", s.SAs)
	}
}

// TestRace: what becomes of an attempt's two SAs.
func TestRace(t *testing.T) {
	const first, second = ike.SAID(1), ike.SAID(2)
	fail := &Error{Code: ike.CodeUnreachable, What: "no answer"}
	for name, c := range map[string]struct {
		happens     func(n *Node, a *attempt)
		sa, rival   ike.SAID
		ended, lost bool
	}{
		"nothing":             {func(*Node, *attempt) {}, first, second, false, false},
		"the first fails":     {func(_ *Node, a *attempt) { a.down(ike.Down{SA: first, Initiator: true, Err: fail}) }, second, 0, false, false},
		"the second fails":    {func(_ *Node, a *attempt) { a.down(ike.Down{SA: second, Initiator: true, Err: fail}) }, first, 0, false, false},
		"another one's fails": {func(_ *Node, a *attempt) { a.down(ike.Down{SA: 3, Initiator: true, Err: fail}) }, first, second, false, false},
		"both fail": {func(_ *Node, a *attempt) {
			a.down(ike.Down{SA: first, Initiator: true, Err: fail})
			a.down(ike.Down{SA: second, Initiator: true, Err: fail})
		}, second, 0, true, true},
		"another is answered": {func(n *Node, a *attempt) { n.decide(a, 3) }, first, second, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			a := &attempt{sa: first, rival: second, begun: true, done: make(chan struct{})}
			c.happens(&Node{}, a)
			if a.sa != c.sa || a.rival != c.rival || a.ended != c.ended || (a.err != nil) != c.lost {
				t.Errorf("%+v", a)
			}
		})
	}
}
