package interop

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// noUDP has the router drop UDP on the ports of IKE.
const noUDP = `
table ip block {
	chain f { type filter hook forward priority 0; udp dport { 500, 4500 } drop; udp sport { 500, 4500 } drop; }
}
`

// resetStreams has the router reset the warrior's stream, and waits until it has another. The
// gateway, which sends nothing meanwhile, does not know that its end is dead.
func (r *roads) resetStreams(t *testing.T, m *node) {
	t.Helper()
	port := m.now().SAs[0].LocalAddr.Port()
	r.router.nft(`
table ip cut {
	chain f { type filter hook forward priority 0; tcp dport 4500 tcp flags & (syn|ack) != syn reject with tcp reset; }
	chain g { type filter hook forward priority 0; tcp sport 4500 tcp flags & (syn|ack) != (syn|ack) reject with tcp reset; }
}
`)
	until(t, "the stream is broken", func() bool {
		_, _ = r.warrior.try("ping", "-n", "-c", "1", "-W", "1", inB4) // it takes something to send
		return !strings.Contains(r.warrior.run("ss", "-Htn", "state", "established"), fmt.Sprintf(":%d", port))
	})
	r.router.run("nft", "delete", "table", "ip", "cut")
	until(t, "the stream is another one", func() bool {
		s := m.status()
		return s != nil && len(s.SAs) == 1 && s.SAs[0].LocalAddr.Port() != port
	})
}

func (m *node) transport() string {
	s := m.status()
	if s == nil || len(s.SAs) != 1 {
		return ""
	}
	return s.SAs[0].Transport
}

// TestTCP: UDP is blocked, so that the tunnel goes over TCP. It lives through resets and
// rekeying, and returns to UDP when that passes again.
func TestTCP(t *testing.T) {
	start(t)
	r := newRoads(t)
	r.enter(homeAddr)
	r.router.nft(noUDP)
	g := r.gatewayNode("", netB4)
	g.config = withNode(g, "tcp_port = 4500")
	g.serve()
	leaks := tap(r.router, "any", outside)
	keys := filepath.Join(r.warrior.dir, "keys")
	file := filepath.Join(r.warrior.dir, "outer.pcap")
	recorder := record(r.router, "office", file)
	m := r.warriorNode("rekey = \"1h\"\n")
	m.config = withNode(m, "key_log = "+strconv.Quote(keys))
	m.up("office")
	before := m.awaitUp(1)
	v4, _ := virtual(before)
	if m.transport() != "tcp" || g.transport() != "tcp" {
		t.Fatalf("the transport is %q, and at the gateway %q", m.transport(), g.transport())
	}
	r.warrior.ping(v4, inB4)
	stream(t, r.warrior, v4, r.gateway, inB4)
	recorder.stop(syscall.SIGINT)
	(&shark{t: t, config: keys, file: file}).readsTCP()

	// The stream breaks, and another takes its place.
	lost := r.warrior.outage(v4, func() { r.resetStreams(t, m) })
	t.Logf("there was no answer for %d ms", lost)
	if after := m.now(); !sameSA(before, after) || after.SAs[0].Transport != "tcp" {
		t.Errorf("the SA is not the one that was: %+v", after.SAs)
	}

	// Fresh keys, of the child and of the IKE SA.
	for _, args := range [][]string{{"rekey", "office", "net"}, {"rekey", "office"}} {
		if out, err := m.martlet(append(args, "--control", filepath.Join(r.warrior.dir, "control.sock"))...); err != nil {
			t.Fatalf("martlet %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		r.warrior.ping(v4, inB4)
	}

	// UDP passes again: another network has the warrior look at once.
	r.router.run("nft", "delete", "table", "ip", "block")
	before = m.now()
	r.warrior.ip("addr add 192.0.2.11/24 dev eth1")
	until(t, "both ends are on UDP", func() bool { return m.transport() == "udp" && g.transport() == "udp" })
	r.warrior.ping(v4, inB4)
	if after := m.now(); !sameSA(before, after) {
		t.Errorf("the SA is not the one that was: %+v", after.SAs)
	}

	// And blocked anew, under an SA that stands.
	lost = r.warrior.outage(v4, func() { r.router.nft(noUDP) })
	t.Logf("blocked: there was no answer for %d ms", lost)
	if m.transport() != "tcp" {
		t.Errorf("the transport is %q", m.transport())
	}
	leaks.clean(t)
	m.end()
	g.awaitDown()
	g.end()
}

// readsTCP: the stream begins as RFC 9329 §4 says, the other side of it does not, and tshark,
// which knows no IKE in TCP (4.0), has nothing against the TCP.
func (s *shark) readsTCP() {
	s.t.Helper()
	const prefix = "494b45544350" // IKETCP
	sent := s.fields("tcp.dstport == 4500 && tcp.len > 0", "tcp.payload")
	answers := s.fields("tcp.srcport == 4500 && tcp.len > 0", "tcp.payload")
	bad := s.fields("_ws.malformed", "frame.number")
	if len(sent) < 4 || len(answers) < 4 || len(bad) > 0 {
		s.t.Fatalf("tshark finds %d segments and %d answers, %d malformed", len(sent), len(answers), len(bad))
	}
	// Behind the lengths, which differ, comes the non-ESP marker.
	if !strings.HasPrefix(sent[0], prefix) || len(sent[0]) > len(prefix) && sent[0][len(prefix)+4:][:8] != "00000000" {
		s.t.Errorf("the stream begins with %.40s", sent[0])
	}
	if answers[0][4:12] != "00000000" {
		s.t.Errorf("the answer begins with %.40s", answers[0])
	}
}

// TestTCPWarrior: TCP from the start, where the gateway asks for another group, for a cookie, or
// sends the warrior elsewhere first; and TCP never.
func TestTCPWarrior(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ node, gateway, warrior string }{
		"always, with another group and a cookie": {
			node: "cookies = 0", gateway: "proposals = [\"aes256gcm16-prfsha256-ecp384\"]\n",
			warrior: "tcp = \"always\"\nproposals = [\"aes256gcm16-prfsha256-x25519-ecp384\"]\n",
		},
		"fallback, on another port": {
			node: "", gateway: "", warrior: "tcp_port = 4500\nno_mobike = true\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			start(t)
			r := newRoads(t)
			r.enter(hotelAddr)
			r.router.nft(noUDP)
			g := r.gatewayNode(c.gateway, netB4)
			g.config = withNode(g, "tcp_port = 4500\n"+c.node)
			g.serve()
			m := r.warriorNode(c.warrior)
			m.up("office")
			before := m.awaitUp(1)
			v4, _ := virtual(before)
			r.warrior.ping(v4, inB4)
			r.resetStreams(t, m)
			r.warrior.ping(v4, inB4)
			if after := m.now(); !sameSA(before, after) {
				t.Errorf("the SA is not the one that was: %+v", after.SAs)
			}
			m.end()
			g.awaitDown()
			g.end()
		})
	}
}

// withNode rewrites a node's configuration with more in [node].
func withNode(m *node, more string) string {
	m.ns.t.Helper()
	text := readFile(m.ns.t, m.config)
	return m.ns.write("martlet.toml", strings.Replace(text, "[node]\n", "[node]\n"+more+"\n", 1))
}

// withChild writes the configuration once more, with more in its child.
func withChild(m *node, more string) string {
	m.ns.t.Helper()
	text := readFile(m.ns.t, m.config)
	return m.ns.write("martlet.toml", strings.Replace(text, ".child.net]\n", ".child.net]\n"+more+"\n", 1))
}
