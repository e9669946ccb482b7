package interop

import (
	"fmt"
	"strings"
	"testing"
)

// neighbour is another road warrior behind the same NAT, where roads.enter(hotelAddr) was.
func (r *roads) neighbour(t *testing.T, id string) *roads {
	t.Helper()
	other := *r
	other.warrior, other.id = newNamespace(t, "w"), id
	join(other.warrior, "eth0 192.168.7.130/25", r.router, "road0 192.168.7.129/25")
	other.warrior.ip("route add default via 192.168.7.129")
	return &other
}

// TestOneNAT: two clients behind one NAT, Martlet and strongSwan, with the gateway either.
func TestOneNAT(t *testing.T) {
	t.Parallel()
	for _, gateway := range []string{"martlet", "strongSwan"} {
		t.Run(gateway, func(t *testing.T) {
			start(t)
			r := newRoads(t)
			r.enter(hotelAddr)
			r2 := r.neighbour(t, "second.test")
			var g *node
			if gateway == "martlet" {
				g = r.gatewayNode("", netB4)
				g.serve()
			} else {
				r.swanGateway("")
			}
			leaks := tap(r.router, "office", outside)
			m := r.warriorNode("")
			m.up("office")
			v4, _ := virtual(m.awaitUp(1))
			s := r2.swanWarrior(t, "")
			second := virtualOfSwan(t, s)
			if v4 == second {
				t.Errorf("both have %s", v4)
			}
			for range 2 {
				r.warrior.ping(v4, inB4)
				r2.warrior.ping(second, inB4)
				r.gateway.ping(inB4, v4)
				r.gateway.ping(inB4, second)
			}
			stream(t, r.warrior, v4, r.gateway, inB4)
			stream(t, r2.warrior, second, r.gateway, inB4)
			leaks.clean(t)
			m.end()
			if g != nil {
				if sas := g.now().SAs; len(sas) != 1 || sas[0].RemoteID != "second.test" {
					t.Errorf("after one has gone the gateway lists %+v", sas)
				}
				g.end()
			}
		})
	}
}

// virtualOfSwan is the address that strongSwan was given.
func virtualOfSwan(t *testing.T, s *swan) string {
	t.Helper()
	_, rest, found := strings.Cut(s.log(), "installing new virtual IP ")
	if !found {
		t.Fatalf("strongSwan has no virtual address:\n%s", s.sas())
	}
	addr, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(addr)
}

// TestReauthentication: both prove again who they are, by another SA with the same virtual
// address, before the old one goes, while pings are on their way.
func TestReauthentication(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name             string
		swanGateway      bool
		warrior, gateway string
	}{
		{"the gateway of strongSwan wants it", true, "", "reauth_time = 5s\n over_time = 5s\n rand_time = 0s"},
		// It does so a while before its time is over.
		{"the gateway of Martlet wants it", false, "over_time = 2s\n rand_time = 0s", "reauth = \"7s\"\n"},
		{"the client of Martlet wants it", true, "reauth = \"5s\"\n", ""},
		{"the client of strongSwan wants it", false, "reauth_time = 5s\n over_time = 5s\n rand_time = 0s", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			start(t)
			r := newRoads(t)
			r.enter(homeAddr)
			var v4 string
			var seen func() string // names the SA that there is, if there is one
			var g, m *node
			one := func(n *node) string {
				if s := n.status(); s != nil && len(s.SAs) == 1 && len(s.SAs[0].Children) == 1 {
					return s.SAs[0].SPIi
				}
				return ""
			}
			if c.swanGateway {
				s := r.swanGateway(c.gateway)
				m = r.warriorNode(c.warrior)
				m.up("office")
				v4, _ = virtual(m.awaitUp(1))
				seen = func() string {
					if strings.Count(s.sas(), "ESTABLISHED") != 1 {
						return ""
					}
					return one(m)
				}
			} else {
				g = r.gatewayNode(c.gateway, netB4)
				g.serve()
				r.swanWarrior(t, c.warrior)
				v4 = g.peerAddress(t)
				seen = func() string { return one(g) }
			}
			r.warrior.ping(v4, inB4)
			// A peer on a busy machine may lose one packet, but not one in each of three runs.
			var lost string
			for range 3 {
				pings := r.warrior.spawn("ping", nil, "ping", "-n", "-I", v4, "-i", "0.05", "-W", "5", inB4)
				var first string
				until(t, "there is one SA", func() bool { first = seen(); return first != "" })
				until(t, "there is another SA alone", func() bool { now := seen(); return now != "" && now != first })
				pings.stop(2)
				if lost = unanswered(pings.out.String()); lost == "" {
					break
				}
			}
			if lost != "" {
				t.Errorf("pings were lost each time: %s", lost)
			}
			if m != nil {
				if now, _ := virtual(m.status()); now != v4 {
					t.Errorf("the virtual address was %s and is %s", v4, now)
				}
				m.end()
			} else {
				if now := g.peerAddress(t); now != v4 {
					t.Errorf("the virtual address was %s and is %s", v4, now)
				}
				g.end()
			}
		})
	}
}

// TestPools: an address stays with its identity, and each connection has its own pools.
func TestPools(t *testing.T) {
	start(t)
	r := newRoads(t)
	r.enter(hotelAddr)
	r2 := r.neighbour(t, "carol@sales.test")
	connection := func(name, ids string) string {
		return fmt.Sprintf(`
[connection.%[1]s]
pool = [%[1]q]
[connection.%[1]s.local]
auth = "psk"
id = %[2]q
secret = %[3]q
[connection.%[1]s.peer]
auth = "psk"
id = %[4]q
[connection.%[1]s.child.net]
local = [%[5]q]
`, name, swanID, secret, ids, netB4)
	}
	g := newNode(r.gateway, "", "[pool.research]\naddresses = [\"10.97.1.0/24\"]\n[pool.sales]\naddresses = [\"10.97.2.0/24\"]\n"+
		connection("research", "*.test")+connection("sales", "*@sales.test"))
	g.serve()
	s1, s2 := r.swanWarrior(t, "mobike = no"), r2.swanWarrior(t, "")
	first, second := virtualOfSwan(t, s1), virtualOfSwan(t, s2)
	if !strings.HasPrefix(first, "10.97.1.") || !strings.HasPrefix(second, "10.97.2.") {
		t.Errorf("the addresses are %s and %s", first, second)
	}
	r.warrior.ping(first, inB4)
	r2.warrior.ping(second, inB4)
	// Who has an address is in the status.
	for _, sa := range g.awaitUp(2).SAs {
		want := map[string]string{martletID: first, "carol@sales.test": second}[sa.RemoteID]
		if got := sa.Children[0].Remote[0]; got != want+"/32" {
			t.Errorf("%s has %s, want %s", sa.RemoteID, got, want)
		}
	}
	// Both go, and come in the other order.
	for _, s := range []*swan{s1, s2} {
		if out, err := s.ctl("--terminate", "--ike", "c"); err != nil {
			t.Errorf("swanctl --terminate: %v\n%s", err, out)
		}
	}
	g.awaitDown()
	for _, s := range []*swan{s2, s1} {
		if out, err := s.initiate("net"); err != nil {
			t.Errorf("swanctl --initiate: %v\n%s", err, out)
		}
	}
	r.warrior.ping(first, inB4)
	r2.warrior.ping(second, inB4)
	g.end()
}

// TestDynamicInitiator: the same identity comes from another address, while it is still
// thought to be at the first.
func TestDynamicInitiator(t *testing.T) {
	start(t)
	r := newRoads(t)
	r.enter(hotelAddr)
	r2 := r.neighbour(t, r.id)
	g := r.gatewayNode("unique = \"replace\"\n", netB4)
	g.serve()
	r.swanWarrior(t, "")
	first := g.awaitUp(1).SAs[0]
	v4 := g.peerAddress(t)
	r.warrior.ping(v4, inB4)
	s := r2.swanWarrior(t, "")
	var now string
	until(t, "the second has replaced the first", func() bool {
		st := g.status()
		if len(st.SAs) != 1 || st.SAs[0].SPIi == first.SPIi {
			return false
		}
		now = st.SAs[0].RemoteAddr.String()
		return true
	})
	if now == first.RemoteAddr.String() {
		t.Error("both come from the same port: the test does not test it")
	}
	r2.warrior.ping(virtualOfSwan(t, s), inB4)
	g.end()
}

// TestInitiatorOnly: nobody can call a Martlet that only connects.
func TestInitiatorOnly(t *testing.T) {
	start(t)
	r := newRoads(t)
	r.enter(homeAddr)
	s := r.swanGateway("remote_addrs = " + homeAddr)
	m := r.warriorNode("")
	m.up("office")
	before := m.awaitUp(1)
	v4, _ := virtual(before)
	if out, err := s.ctl("--initiate", "--ike", "c", "--timeout", "3"); err == nil {
		t.Errorf("strongSwan got through:\n%s", out)
	}
	r.warrior.ping(v4, inB4)
	if after := m.status(); len(after.SAs) != 1 || !sameSA(before, after) {
		t.Errorf("the SA is another one: %+v", after.SAs)
	}
	m.end()
}
