package interop

import (
	"strings"
	"syscall"
	"testing"
)

// blackHole has host B neither send nor receive.
func (n *network) blackHole() {
	n.b.t.Helper()
	n.b.nft("table inet hole {\n chain in { type filter hook input priority 0; iifname \"eth0\" drop; }\n" +
		" chain out { type filter hook output priority 0; oifname \"eth0\" drop; }\n}\n")
}

func (n *network) heal() {
	n.b.t.Helper()
	n.b.run("nft", "delete", "table", "inet", "hole")
}

// TestStartAction: a tunnel opens with the start of the program, whoever of the two is to open
// it.
func TestStartAction(t *testing.T) {
	t.Parallel()
	for name, byUs := range map[string]bool{"martlet": true, "strongSwan": false} {
		t.Run(name, func(t *testing.T) {
			start(t)
			sc := scenario{name: "start", auth: "ecdsa"}
			if !byUs {
				sc.childB = "start_action = start"
			}
			p, leaks := sc.prepare(t, byUs)
			p.m.serve() // to keep it up, where it knows the other
			p.status = p.m.awaitUp(1)
			p.traffic(t, inA4, inB4)
			p.suite(t)
			p.oneEach(t)
			if byUs { // else its first message finds nobody, which the host says
				leaks.clean(t)
			}
			p.m.end()
		})
	}
}

// TestBothStart: both open the same tunnel at the same moment. In the end there is one, which
// both know.
func TestBothStart(t *testing.T) {
	t.Parallel()
	for name, unique := range map[string]string{"unique=no": "no", "unique=replace": "replace"} {
		t.Run(name, func(t *testing.T) {
			start(t)
			p, leaks := scenario{name: "both", auth: "psk", known: true, moreB: "unique = " + unique}.prepare(t, true)
			p.net.blackHole()
			p.m.serve()
			theirs := make(chan error, 1)
			go func() {
				_, err := p.s.initiate("net")
				theirs <- err
			}()
			until(t, "both have begun", func() bool {
				s := p.m.status()
				return s != nil && len(s.SAs) == 1 && strings.Contains(p.s.log(), "sending packet")
			})
			p.net.heal()
			if err := <-theirs; err != nil {
				t.Logf("swanctl --initiate: %v", err) // its own may have lost
			}
			p.m.awaitUp(1)
			p.oneEach(t)
			p.traffic(t, inA4, inB4)
			p.oneEach(t)
			leaks.clean(t)
			p.m.end()
		})
	}
}

// TestPeerVanishes: the peer is behind a black hole and comes back.
func TestPeerVanishes(t *testing.T) {
	t.Parallel()
	const theirs = "dpd_delay = 1s"
	gone := func(p *pair) bool {
		s := p.m.status()
		if s == nil {
			return false
		}
		for _, sa := range s.SAs {
			if sa.State == "established" {
				return false
			}
		}
		return true
	}
	for _, c := range []struct {
		name         string
		initiate     bool
		ours, theirs string // of the connection
		action       string // of strongSwan's child
		returns      bool
	}{
		{"we open it again", true, "", theirs, "dpd_action = clear", true},
		{"strongSwan opens it again", false, "", theirs, "dpd_action = start", true},
		{"nobody opens it again", true, "keep = \"manual\"\n", theirs, "dpd_action = clear", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			start(t)
			p, leaks := scenario{
				name: "vanish", auth: "psk", moreA: "liveness = \"1s\"\n" + c.ours, moreB: c.theirs, childB: c.action,
			}.prepare(t, c.initiate)
			if c.initiate {
				p.m.up("site")
			} else {
				p.m.serve()
				if out, err := p.s.initiate("net"); err != nil {
					t.Fatalf("swanctl --initiate: %v\n%s", err, out)
				}
			}
			first := p.m.awaitUp(1).SAs[0]
			p.traffic(t, inA4, inB4)
			p.net.blackHole()
			if !c.returns {
				if status := p.m.proc.wait(); status == 0 || !strings.Contains(p.m.proc.out.String(), "code: ") {
					t.Errorf("martlet up ended with status %d:\n%s", status, tail(p.m.proc.out.String(), 10))
				}
				p.m.undone()
				until(t, "strongSwan has no SA left", func() bool { return strings.TrimSpace(p.s.sas()) == "" })
				return
			}
			until(t, "Martlet has seen it", func() bool { return gone(p) })
			until(t, "strongSwan has seen it", func() bool { return !strings.Contains(p.s.sas(), "ESTABLISHED") })
			p.net.heal()
			again := p.m.awaitUp(1).SAs[0]
			if again.SPIi == first.SPIi {
				t.Error("it is the same SA: the test does not test it")
			}
			p.traffic(t, inA4, inB4)
			p.oneEach(t)
			leaks.clean(t)
			p.m.end()
		})
	}
}

// TestShortOutage: nothing is lost by a silence that is shorter than the patience of both.
func TestShortOutage(t *testing.T) {
	start(t)
	p, leaks := scenario{name: "outage", auth: "psk", moreA: "liveness = \"1s\"\n", moreB: "dpd_delay = 1s"}.prepare(t, true)
	p.m.up("site")
	before := p.m.awaitUp(1).SAs[0]
	p.net.blackHole()
	// Both ask whether the other is there, and again.
	asked := strings.Count(p.s.log(), "retransmit 2 of request")
	until(t, "strongSwan asks in vain", func() bool { return strings.Count(p.s.log(), "retransmit 2 of request") > asked })
	p.net.heal()
	p.traffic(t, inA4, inB4)
	p.oneEach(t)
	if after := p.onlySA(t); after.SPIi != before.SPIi || after.Children[0].SPIIn != before.Children[0].SPIIn {
		t.Error("the SA is another one")
	}
	leaks.clean(t)
	p.m.end()
}

// TestInactivity: strongSwan closes a child that nobody uses, and the tunnel that is to be up
// comes back.
func TestInactivity(t *testing.T) {
	start(t)
	p, leaks := scenario{name: "inactive", auth: "psk", childB: "inactivity = 1s", moreA: "liveness = \"0s\"\n"}.prepare(t, true)
	p.m.up("site")
	first := p.m.awaitUp(1).SAs[0]
	// It is gone again as soon: whoever asks for the status may never see it.
	until(t, "there is another child", func() bool { return strings.Count(p.m.proc.out.String(), "child up conn=site") > 1 })
	if s := p.m.status(); s == nil || len(s.SAs) != 1 || s.SAs[0].SPIi != first.SPIi {
		t.Errorf("the SA is another one, too: %+v", s)
	}
	leaks.clean(t)
	p.m.end()
}

// TestPeerRestarts: strongSwan dies, comes back knowing nothing, and opens the tunnel again. The
// old SA goes at once.
func TestPeerRestarts(t *testing.T) {
	start(t)
	p, leaks := scenario{name: "restart", auth: "psk"}.prepare(t, false)
	p.m.serve()
	for range 2 {
		if out, err := p.s.initiate("net"); err != nil {
			t.Fatalf("swanctl --initiate: %v\n%s", err, out)
		}
		p.traffic(t, inA4, inB4)
		p.oneEach(t)
		p.s.proc.stop(syscall.SIGKILL)
		p.net.b.run("rm", p.net.b.dir+"/vici.sock")
		p.s = startSwan(p.net.b, swanSettings{}, "", p.swanctl())
	}
	leaks.clean(t)
	p.m.end()
}
