package interop

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Another network behind each host.
const (
	moreA4, moreB4   = "10.98.3.1", "10.98.4.1"
	moreNetA, moreNB = "10.98.3.0/24", "10.98.4.0/24"
)

// withMore gives each host the address in its other network.
func (p *pair) withMore() {
	p.net.a.ip("addr add " + moreA4 + "/32 dev lo")
	p.net.b.ip("addr add " + moreB4 + "/32 dev lo")
}

// selectors are those of Martlet's children, by name.
func (p *pair) selectors() []string {
	s := p.m.status()
	if s == nil {
		return nil
	}
	var out []string
	for _, sa := range s.SAs {
		for _, c := range sa.Children {
			out = append(out, fmt.Sprintf("%s %s === %s", c.Name, strings.Join(c.Local, " "), strings.Join(c.Remote, " ")))
		}
	}
	slices.Sort(out)
	return out
}

// await waits until Martlet has exactly such children.
func (p *pair) await(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	slices.Sort(want)
	defer func() {
		if t.Failed() {
			t.Logf("children %q, want %q", got, want)
		}
	}()
	until(t, "the children have these selectors", func() bool {
		got = p.selectors()
		return slices.Equal(got, want)
	})
}

// begin opens the tunnel by whoever is to do it.
func (p *pair) begin(t *testing.T, children ...string) {
	t.Helper()
	if p.initiate {
		p.m.up("site")
		return
	}
	p.m.serve()
	for _, c := range children {
		if out, err := p.s.initiate(c); err != nil {
			t.Fatalf("swanctl --initiate: %v\n%s", err, out)
		}
	}
}

// inBothRoles runs a scenario with Martlet as initiator and as responder.
func inBothRoles(t *testing.T, sc scenario, f func(t *testing.T, p *pair)) {
	for _, role := range []string{"initiator", "responder"} {
		t.Run(role, func(t *testing.T) {
			start(t)
			p, leaks := sc.prepare(t, role == "initiator")
			p.withMore()
			f(t, p)
			leaks.clean(t)
			p.m.end()
		})
	}
}

// ports is a scenario with a child of ICMP and one of TCP to a range of ports behind B.
func ports(childA, childB, tcpA, tcpB string) scenario {
	return scenario{
		name: "ports", auth: "psk",
		localA: []string{netA4 + "[icmp]"}, remoteA: []string{netB4 + "[icmp]"},
		localB: []string{netB4 + "[icmp]"}, remoteB: []string{netA4 + "[icmp]"},
		childA: childA,
		alsoA: "[connection.site.child.tcp]\n" + tcpA +
			fmt.Sprintf("local = [%q]\nremote = [%q]\n", netA4+"[tcp]", netB4+"[tcp/5000-6000]"),
		childB: childB + "\n}\n tcp {\n" + tcpB +
			fmt.Sprintf("\nlocal_ts = %s\nremote_ts = %s\nesp_proposals = aes256gcm16", netB4+"[tcp/5000-6000]", netA4+"[tcp]"),
	}
}

const (
	icmpChild = "net " + netA4 + "[icmp] === " + netB4 + "[icmp]"
	tcpChild  = "tcp " + netA4 + "[tcp] === " + netB4 + "[tcp/5000-6000]"
)

// TestProtocolsAndPorts: two children with the same networks, of different protocols, one for a
// range of ports.
func TestProtocolsAndPorts(t *testing.T) {
	inBothRoles(t, ports("", "", "", ""), func(t *testing.T, p *pair) {
		p.begin(t, "net", "tcp")
		p.await(t, icmpChild, tcpChild)
		p.net.a.ping(inA4, inB4)
		p.net.b.ping(inB4, inA4)
		stream(t, p.net.a, inA4, p.net.b, inB4)
		for _, c := range p.m.now().SAs[0].Children {
			if most := map[string]uint64{"net": 200, "tcp": 1 << 20}[c.Name]; c.PacketsIn == 0 || c.PacketsOut == 0 || c.PacketsOut > most {
				t.Errorf("%s carried %d packets in and %d out", c.Name, c.PacketsIn, c.PacketsOut)
			}
		}
	})
}

// TestFirstPacketOpens: a packet opens the tunnel, and one of another protocol the other child.
func TestFirstPacketOpens(t *testing.T) {
	start(t)
	const wait = "keep = \"on-demand\"\n"
	sc := ports(wait, "start_action = trap", wait, "start_action = trap")
	sc.initiatorMoreA = wait
	p, leaks := sc.prepare(t, true)
	p.m.serve()
	p.net.a.ping(inA4, inB4)
	p.await(t, icmpChild)
	stream(t, p.net.a, inA4, p.net.b, inB4)
	p.await(t, icmpChild, tcpChild)
	p.net.b.ping(inB4, inA4)
	leaks.clean(t)
	p.m.end()
}

// TestPacketLeadsStrongSwansRequest: the form of a request that a trap of strongSwan makes, with the
// packet's selectors first. Its kernel-libipsec drops such packets and tells nobody, so that a
// trap never opens anything here.
func TestPacketLeadsStrongSwansRequest(t *testing.T) {
	start(t)
	sc := ports("", "", "", "")
	sc.localB, sc.remoteB = []string{inB4 + "/32[icmp]", netB4}, []string{inA4 + "/32[icmp]", netA4}
	p, leaks := sc.prepare(t, false)
	p.begin(t, "net")
	p.await(t, icmpChild)
	p.net.b.ping(inB4, inA4)
	leaks.clean(t)
	p.m.end()
}

// TestSeveralSAsOfOneChild: strongSwan has a child for each network, we one for all of them.
func TestSeveralSAsOfOneChild(t *testing.T) {
	sc := scenario{
		name: "several", auth: "psk", remoteA: []string{netB4, moreNB},
		childB: fmt.Sprintf("}\n more { local_ts = %s\n remote_ts = %s\n esp_proposals = aes256gcm16", moreNB, netA4),
	}
	inBothRoles(t, sc, func(t *testing.T, p *pair) {
		p.begin(t, "net", "more")
		all := []string{"net " + netA4 + " === " + netB4, "net " + netA4 + " === " + moreNB}
		p.await(t, all...)
		works := func() {
			t.Helper()
			for _, to := range []string{inB4, moreB4} {
				p.net.a.ping(inA4, to)
				p.net.b.ping(to, inA4)
			}
		}
		works()
		if out, err := p.m.martlet("rekey", "-c", p.m.config, "site", "net"); err != nil {
			t.Errorf("martlet rekey: %v\n%s", err, out)
		}
		p.await(t, all...)
		works()
		if out, err := p.s.ctl("--rekey", "--child", "more"); err != nil {
			t.Errorf("swanctl --rekey: %v\n%s", err, out)
		}
		p.await(t, all...)
		works()
		if !p.initiate {
			return
		}
		// What the peer closes of it comes back.
		if out, err := p.s.ctl("--terminate", "--child", "more"); err != nil {
			t.Errorf("swanctl --terminate: %v\n%s", err, out)
		}
		p.await(t, all...)
		works()
	})
}

// TestManySelectorsWithStrongSwan: all of it is one child, where the peer has one for it too.
func TestManySelectorsWithStrongSwan(t *testing.T) {
	sc := scenario{
		name: "many", auth: "psk", localA: []string{netA4, moreNetA}, remoteA: []string{netB4, moreNB},
		localB: []string{netB4, moreNB}, remoteB: []string{netA4, moreNetA},
	}
	inBothRoles(t, sc, func(t *testing.T, p *pair) {
		p.begin(t, "net")
		p.await(t, "net "+netA4+" "+moreNetA+" === "+netB4+" "+moreNB)
		for _, to := range []string{inB4, moreB4} {
			for _, from := range []string{inA4, moreA4} {
				p.net.a.ping(from, to)
				p.net.b.ping(to, from)
			}
		}
	})
}

// TestNarrowedOnDemand: a packet opens a child that strongSwan narrows; one for what it holds back
// opens no other.
func TestNarrowedOnDemand(t *testing.T) {
	start(t)
	sc := scenario{name: "narrowed", auth: "psk", remoteA: []string{"10.98.0.0/16"}, initiatorMoreA: "keep = \"on-demand\"\n"}
	p, leaks := sc.prepare(t, true)
	p.m.serve()
	p.net.a.ping(inA4, inB4)
	p.await(t, "net "+netA4+" === "+netB4)
	p.net.a.silent(inA4, moreB4)
	p.net.a.ping(inA4, inB4)
	p.await(t, "net "+netA4+" === "+netB4)
	if out := p.m.proc.out.String(); !strings.Contains(out, "takes no more") && !strings.Contains(out, "refuses") && !strings.Contains(out, "accepts none") {
		t.Errorf("nothing tells that the peer does not take it:\n%s", tail(out, 20))
	}
	leaks.clean(t)
	p.m.end()
}
