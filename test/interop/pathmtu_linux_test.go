package interop

import "testing"

// TestPathMTU: a router in the middle takes only 1,400 octets. Whether it says so, or its ICMP is
// dropped, TCP that offers long segments gets through.
func TestPathMTU(t *testing.T) {
	for _, c := range []struct{ name, firewall string }{
		{"told", ""},
		{"silent", "table ip silent { chain o { type filter hook output priority 0; icmp type destination-unreachable drop; }\n}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			start(t)
			r := newRoads(t)
			r.enter(homeAddr)
			r.router.ip("route replace 203.0.113.0/24 dev office mtu lock 1400")
			if c.firewall != "" {
				r.router.nft(c.firewall)
			}
			g := r.gatewayNode("", netB4)
			g.config = withChild(g, "keep_mss = true")
			g.serve()
			m := r.warriorNode("")
			m.config = withChild(m, "keep_mss = true")
			m.up("office")
			v4, _ := virtual(m.awaitUp(1))
			if c.firewall != "" {
				m.proc.says("the path is narrow")
			}
			r.warrior.ping(v4, inB4)
			stream(t, r.warrior, v4, r.gateway, inB4)
			if out, err := r.warrior.try("ping", "-n", "-c", "2", "-W", "5", "-M", "do", "-s", "1390", inB4); err == nil {
				t.Errorf("a packet that is too long for the path is answered:\n%s", out)
			}
			if out, err := r.warrior.try("ping", "-n", "-c", "1", "-W", "5", "-M", "dont", "-s", "3000", inB4); err != nil {
				t.Errorf("a packet that may be cut is not answered: %v\n%s", err, out)
			}
			if n := m.now().Drops["esp-socket"]; n != 0 {
				t.Errorf("the socket refused %d packets", n)
			}
			m.end()
			g.end()
		})
	}
}
