package interop

import (
	"fmt"
	"strings"
	"testing"

	"martlet/crypto/pki"
)

// familyScenarios are the pairs of families, inside and outside, that are not in scenarios.
var familyScenarios = []scenario{
	{
		name: "ipv6-in-ipv6", auth: "ecdsa", six: true,
		localA: []string{netA6}, remoteA: []string{netB6}, localB: []string{netB6}, remoteB: []string{netA6},
		check: func(t *testing.T, p *pair) { p.traffic(t, inA6, inB6) },
	},
	{
		name: "ipv6-in-ipv4", auth: "ecdsa",
		localA: []string{netA6}, remoteA: []string{netB6}, localB: []string{netB6}, remoteB: []string{netA6},
		check: func(t *testing.T, p *pair) { p.traffic(t, inA6, inB6) },
	},
	hostToHost("host-to-host", false),
	hostToHost("host-to-host-ipv6", true),
	smallPath("fragments-ipv4", false),
	smallPath("fragments-ipv6", true),
}

// hostToHost protects what the hosts themselves say to each other. strongSwan's own packets
// need a mark then, so as not to come back into its tunnel.
func hostToHost(name string, six bool) scenario {
	dynamic := []string{"dynamic"}
	return scenario{
		name: name, auth: "psk", six: six, localA: dynamic, remoteA: dynamic, localB: dynamic, remoteB: dynamic,
		swan:  swanSettings{conf: "socket-default { fwmark = 0x42 }\n\t\tkernel-netlink { fwmark = !0x42 }"},
		check: func(t *testing.T, p *pair) { p.traffic(t, p.net.addrA, p.net.addrB) },
	}
}

// smallPath has certificates of which only a part fits a packet of the path. Nobody makes
// fragments of IP of them.
func smallPath(name string, six bool) scenario {
	var cut *wiretap
	return scenario{
		name: name, six: six,
		proofs: func(t *testing.T) *proofs { return silent(newBureau(t, pki.RSA2048)) },
		before: func(_ *testing.T, p *pair) {
			for _, ns := range []*namespace{p.net.a, p.net.b} {
				ns.ip("link set eth0 mtu 1280")
			}
			cut = tap(p.net.wire, p.net.wireName, "not ((ip and ip[6:2] & 0x3fff != 0) or (ip6 and ip6[6] == 44))")
		},
		check: func(t *testing.T, p *pair) {
			cut.clean(t)
			p.logged(t, "splitting IKE message", "received fragment #2")
			// Longer packets would be cut by the kernel, for strongSwan sends what does not fit.
			p.net.a.run("ping", "-n", "-q", "-I", inA4, "-c", "120", "-i", "0.01", "-W", "5", inB4)
		},
	}
}

func TestFamilies(t *testing.T) {
	t.Parallel()
	for _, sc := range familyScenarios {
		for _, role := range []string{"initiator", "responder"} {
			t.Run(sc.name+"/"+role, func(t *testing.T) {
				start(t)
				run := sc
				if strings.HasPrefix(sc.name, "fragments") { // which has what each run sees
					run = smallPath(sc.name, sc.six)
				}
				run.play(t, role == "initiator")
			})
		}
	}
}

// TestHub: two sites that each have a tunnel to a third reach each other through it.
func TestHub(t *testing.T) {
	start(t)
	n := direct(t, false)
	hub := n.a
	spoke := newNamespace(t, "c")
	const hubAddr, spokeAddr, spokeIn, spokeNet = "10.99.3.1", "10.99.3.2", "10.98.3.1", "10.98.3.0/24"
	join(hub, "eth1 "+hubAddr+"/24", spoke, "eth0 "+spokeAddr+"/24")
	spoke.ip("addr add " + spokeIn + "/32 dev lo")
	leaks := []*wiretap{tap(n.b, "eth0", outside), tap(spoke, "eth0", outside)}
	const all = "10.98.0.0/16"
	site := func(name, own, peer, remote, near, far string) string {
		return fmt.Sprintf(`
[connection.%[1]s]
%[2]s
peer_to_peer = true
[connection.%[1]s.local]
auth = "psk"
id = %[3]q
secret = %[4]q
[connection.%[1]s.peer]
auth = "psk"
id = %[5]q
[connection.%[1]s.child.net]
local = [%[6]q]
remote = [%[7]q]
`, name, remote, own, secret, peer, near, far)
	}
	g := newNode(hub, "", site("north", swanID, "north.test", "", all, netB4)+site("south", swanID, "south.test", "", all, spokeNet))
	g.serve()
	s := startSwan(n.b, swanSettings{}, "", fmt.Sprintf(`
connections { c { version = 2
	remote_addrs = %s
	proposals = aes256gcm16-prfsha256-x25519
	local { auth = psk
		id = north.test }
	remote { auth = psk
		id = %s }
	children { net { local_ts = %s
		remote_ts = %s
		esp_proposals = aes256gcm16 } } } }
secrets { ike-1 { secret = %q } }
`, n.addrA, swanID, netB4, all, secret))
	if out, err := s.initiate("net"); err != nil {
		t.Fatalf("swanctl --initiate: %v\n%s", err, out)
	}
	m := newNode(spoke, "", site("hub", "south.test", swanID, "remote = [\""+hubAddr+"\"]", spokeNet, all))
	m.up("hub")
	m.awaitUp(1)
	g.awaitUp(2)
	n.b.ping(inB4, spokeIn)
	spoke.ping(spokeIn, inB4)
	stream(t, spoke, spokeIn, n.b, inB4)
	for _, tap := range leaks {
		tap.clean(t)
	}
	m.end()
	g.end()
}
