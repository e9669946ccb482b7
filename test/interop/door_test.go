package interop

import (
	"strings"
	"syscall"
	"testing"
)

// logged fails the test unless strongSwan's log has every one of these.
func (p *pair) logged(t *testing.T, want ...string) {
	t.Helper()
	log := p.s.log()
	for _, w := range want {
		if !strings.Contains(log, w) {
			t.Errorf("strongSwan's log does not have %q", w)
		}
	}
}

// TestCookies: strongSwan comes in where every peer has to return a cookie, and where puzzles
// are asked for too, which it does not know.
func TestCookies(t *testing.T) {
	t.Parallel()
	for name, node := range map[string]string{
		"cookies": "cookies = 0\n",
		"puzzles": "cookies = 0\npuzzles = 0\n",
	} {
		t.Run(name, func(t *testing.T) {
			start(t)
			scenario{
				name: name, auth: "psk", node: node,
				check: func(t *testing.T, p *pair) {
					p.logged(t, "N(COOKIE)")
					p.traffic(t, inA4, inB4)
				},
			}.play(t, false)
		})
	}
}

// TestCookieOfStrongSwan: we return strongSwan's cookie. It asks for one when there is a
// half-open SA, which a first attempt leaves that gets no further than IKE_SA_INIT.
func TestCookieOfStrongSwan(t *testing.T) {
	start(t)
	scenario{
		name: "cookie-of-strongswan", auth: "psk",
		swan: swanSettings{lines: "cookie_threshold = 1\n\tcookie_threshold_ip = 1\n\tdos_protection = yes\n"},
		before: func(t *testing.T, p *pair) {
			p.net.b.run("nft", "add table ip stop")
			p.net.b.run("nft", "add chain ip stop in { type filter hook input priority 0; }")
			p.net.b.run("nft", "add rule ip stop in udp dport 4500 drop")
			p.m.up("site")
			until(t, "strongSwan has a half-open SA", func() bool { return strings.Contains(p.s.sas(), "CONNECTING") })
			p.m.proc.stop(syscall.SIGTERM)
			p.net.b.run("nft", "delete table ip stop")
		},
		check: func(t *testing.T, p *pair) {
			p.logged(t, "N(COOKIE)")
			p.traffic(t, inA4, inB4)
		},
	}.play(t, true)
}

// TestChildless: an IKE SA without a child, and the child by CREATE_CHILD_SA, begun by each.
func TestChildless(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"initiator", "responder"} {
		t.Run(role, func(t *testing.T) {
			start(t)
			scenario{
				name: "childless", auth: "ecdsa",
				initiatorMoreA: "childless = \"force\"\n", initiatorMoreB: "childless = force",
				check: func(t *testing.T, p *pair) {
					p.logged(t, "N(CHDLESS_SUP)", "CREATE_CHILD_SA request")
					p.traffic(t, inA4, inB4)
				},
			}.play(t, role == "initiator")
		})
	}
}

// TestRedirect: strongSwan goes where we send it, by IKE_SA_INIT or later, and we go where it
// sends us. Both have a second address for that. In IKE_AUTH there is nobody to try it with:
// as initiator strongSwan 5.9.8 frees the redirected task twice and dies.
func TestRedirect(t *testing.T) {
	t.Parallel()
	const secondA, secondB = "10.99.1.11", "10.99.1.12"
	arrive := func(t *testing.T, p *pair) {
		second := secondA
		if p.initiate {
			second = secondB
		}
		until(t, "the SA is with the second address", func() bool {
			s := p.m.status()
			if s == nil || len(s.SAs) != 1 || len(s.SAs[0].Children) == 0 {
				return false
			}
			sa := s.SAs[0]
			return sa.LocalAddr.Addr().String() == second || sa.RemoteAddr.Addr().String() == second
		})
		p.traffic(t, inA4, inB4)
		p.status = p.m.status()
	}
	for name, sc := range map[string]struct {
		responder string // of our connection
		initiate  bool
		act       func(t *testing.T, p *pair)
	}{
		"init":  {responder: "redirect = \"" + secondA + "\"\n"},
		"later": {act: func(t *testing.T, p *pair) { p.redirects(t, secondA) }},
		"later, by strongSwan": {initiate: true, act: func(t *testing.T, p *pair) {
			if out, err := p.s.ctl("--redirect", "--ike", "c", "--gateway", secondB); err != nil {
				t.Errorf("swanctl --redirect: %v\n%s", err, out)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			start(t)
			scenario{
				name: "redirect", auth: "psk", responderMoreA: sc.responder,
				before: func(_ *testing.T, p *pair) {
					p.net.a.ip("addr add " + secondA + "/24 dev eth0")
					p.net.b.ip("addr add " + secondB + "/24 dev eth0")
				},
				check: func(t *testing.T, p *pair) {
					if sc.act != nil {
						p.traffic(t, inA4, inB4)
						sc.act(t, p)
					}
					arrive(t, p)
				},
			}.play(t, sc.initiate)
		})
	}
}

// redirects sends the peers of our gateway away.
func (p *pair) redirects(t *testing.T, to string) {
	t.Helper()
	out, err := p.m.martlet("redirect", to, "site", "--control", p.net.a.dir+"/control.sock")
	if err != nil || !strings.HasPrefix(out, "1 told") {
		t.Errorf("martlet redirect: %v\n%s", err, out)
	}
}
