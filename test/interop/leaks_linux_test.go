package interop

import (
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
)

// otherAddr is another address of the warrior at home.
const otherAddr = "192.0.2.11"

// leakRounds is how often each thing happens to a host that must not leak.
func leakRounds() int {
	if os.Getenv("MARTLET_LONG") != "" {
		return 20
	}
	return 3
}

// siege is a closed host on which canaries of every kind sing while things happen to it.
type siege struct {
	*closedHost
	t              *testing.T
	gate           *node
	own, forwarded *canaries
}

// TestNothingLeaks: whatever happens to martlet, its gateway, the network and the host, not a packet
// of the host's programs is seen outside of the tunnel. What may be seen is what martlet's own
// sockets send, its questions for the gateway's name, and what a link needs.
func TestNothingLeaks(t *testing.T) {
	start(t)
	s := &siege{closedHost: newClosedHost(t), t: t}
	(&nameServer{zone: map[string][]netip.Addr{"www.inside.test": {netip.MustParseAddr(inB4)}}}).serve(s.roads.gateway, inB4)
	s.gate = s.gatewayNode("dns = [\""+inB4+"\"]", "0.0.0.0/0")
	s.gate.serve()

	// From the first round's start on nothing may be seen; before, the host is as any other.
	s.node.up("office")
	until(t, "the host is closed", s.isClosed)
	leaks := s.watch()
	s.own, s.forwarded = sing(s.warrior, canaryTargets()), sing(s.behind, []string{elsewhere + ":9", homeRouter + ":53", officeAddr + ":4500"})
	for round := range leakRounds() {
		if round > 0 {
			s.node.up("office") // what was killed left the host closed
		}
		for _, step := range []struct {
			name string
			do   func()
		}{
			{"beside the tunnel", s.connect},
			{"beside a rekey that nobody answers", s.rekeyInVain},
			{"while martlet stands still", s.standStill},
			{"beside a reload", s.reload},
			{"beside another address", s.readdress},
			{"after the link came back", s.flap},
			{"beside routes and resolvers of others", s.inject},
			{"beside a gateway that was killed", s.killGateway},
			{"when martlet is dead", s.kill},
		} {
			step.do()
			s.own.heard(t, step.name)
			s.forwarded.heard(t, step.name)
			if t.Failed() {
				t.Fatalf("in round %d, %s", round+1, step.name)
			}
		}
		s.closed()
	}
	s.own.silence()
	s.forwarded.silence()
	leaks.clean(t)
	if out, err := s.node.martlet("down", "-c", s.node.config); err != nil {
		t.Errorf("martlet down after a kill: %v\n%s", err, out)
	}
	s.open()
	if out := s.warrior.run("cat", "/etc/resolv.conf"); !strings.Contains(out, "nameserver "+homeRouter) || strings.Contains(out, inB4) {
		t.Errorf("the host's resolvers are not its own again:\n%s", out)
	}
	s.gate.end()
}

// connect waits for the tunnel, and uses it by a name that is known inside.
func (s *siege) connect() {
	s.t.Helper()
	s.inside()
	until(s.t, "names are asked for inside", func() bool {
		out, err := s.warrior.try("getent", "hosts", "www.inside.test")
		return err == nil && strings.Contains(out, inB4)
	})
}

// inside waits until the tunnel carries.
func (s *siege) inside() {
	s.t.Helper()
	v4, _ := virtual(s.node.awaitUp(1))
	until(s.t, "the tunnel carries", func() bool {
		_, err := s.warrior.try("ping", "-n", "-I", v4, "-c", "1", "-W", "1", inB4)
		return err == nil
	})
}

func (s *siege) rekeyInVain() {
	s.t.Helper()
	s.signal(s.gate, syscall.SIGSTOP)
	rekey := s.warrior.spawn("martlet rekey", nil, append([]string{s.node.program}, control(s.node, "rekey", "office", "net")...)...)
	s.own.heard(s.t, "while a rekey waits")
	s.signal(s.gate, syscall.SIGCONT)
	rekey.wait()
	s.inside()
}

func (s *siege) standStill() {
	s.t.Helper()
	s.signal(s.node, syscall.SIGSTOP)
	s.own.heard(s.t, "while martlet stands still")
	s.closed()
	s.signal(s.node, syscall.SIGCONT)
	s.inside()
}

func (s *siege) reload() {
	s.t.Helper()
	if out, err := s.node.martlet(control(s.node, "reload")...); err != nil {
		s.t.Errorf("reload: %v\n%s", err, out)
	}
}

// readdress gives the link another address, and back.
func (s *siege) readdress() {
	s.t.Helper()
	at := homeAddr
	for _, next := range []string{otherAddr, homeAddr} {
		s.warrior.ip("addr del " + at + "/24 dev eth1")
		s.warrior.ip("addr add " + next + "/24 dev eth1")
		// Without a device the kernel looks the router up, and finds it in the tunnel.
		s.warrior.ip("route replace default via " + homeRouter + " dev eth1")
		until(s.t, "the tunnel goes from "+next, func() bool {
			st := s.gate.status()
			return st != nil && len(st.SAs) == 1 && st.SAs[0].RemoteAddr.Addr().String() == next
		})
		at = next
		s.inside()
	}
}

func (s *siege) flap() {
	s.t.Helper()
	s.warrior.ip("link set eth1 down")
	s.own.heard(s.t, "while the link is down")
	s.warrior.ip("link set eth1 up")
	s.warrior.ip("route replace default via " + homeRouter + " dev eth1")
	s.warrior.ip("addr replace " + homeAddr6 + "/64 dev eth1 nodad") // it goes with the link
	s.warrior.ip("route replace default via " + homeRouter6 + " dev eth1")
	s.inside()
}

// inject does what a hostile network can by DHCP: more specific routes (TunnelVision), a local
// network that has the address of another host (LocalNet) or the gateway's (ServerIP), and resolvers.
func (s *siege) inject() {
	s.t.Helper()
	routes := []string{elsewhere + "/32", "0.0.0.0/1", "128.0.0.0/1", inB4 + "/32"}
	for _, r := range routes {
		s.warrior.ip("route add " + r + " via " + homeRouter + " dev eth1")
	}
	s.warrior.ip("addr add 203.0.113.77/27 dev eth1")
	s.warrior.resolvers("nameserver " + homeRouter + "\n")
	s.own.heard(s.t, "beside routes of others")
	_, _ = s.warrior.try("getent", "hosts", "www.outside.test") // whoever is asked is not outside
	s.closed()
	for _, r := range routes {
		s.warrior.ip("route del " + r)
	}
	s.warrior.ip("addr del 203.0.113.77/27 dev eth1")
	s.inside()
}

func (s *siege) killGateway() {
	s.t.Helper()
	s.gate.proc.stop(syscall.SIGKILL)
	s.own.heard(s.t, "when the gateway is dead")
	s.gate.serve()
	s.inside()
}

func (s *siege) kill() {
	s.t.Helper()
	s.node.proc.stop(syscall.SIGKILL)
}

// signal tells the process that speaks to the network.
func (s *siege) signal(m *node, sig syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(m.proc.worker(), sig); err != nil {
		s.t.Fatal(err)
	}
}
