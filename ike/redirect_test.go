package ike

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/ike/message"
)

// gateways is a client and so many gateways with the same configuration, each of which
// tweak may change before it starts.
func gateways(t testing.TB, client, gateway *Connection, n int, tweak func(i int, c *Connection)) (w *world, a *host, gws []*host) {
	w = newWorld(t)
	a = w.add("client", "192.0.2.1", &Config{Connections: []*Connection{client}})
	for i := range n {
		conn := *gateway
		tweak(i, &conn)
		gws = append(gws, w.add(fmt.Sprintf("gw%d", i), fmt.Sprintf("198.51.100.%d", i+1), &Config{Connections: []*Connection{&conn}}))
	}
	return w, a, gws
}

// gatewayID names the gateway i in one of the three ways.
func gatewayID(i int, form string) message.GatewayID {
	if form == "FQDN" {
		return message.GatewayID{Name: fmt.Sprintf("gw%d", i)}
	}
	return message.GatewayID{Addr: netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)})}
}

// TestRow42Redirect: followed in IKE_SA_INIT, in IKE_AUTH and later, whatever gets lost or
// comes twice on the way.
func TestRow42Redirect(t *testing.T) {
	for _, when := range []string{"init", "auth", "later"} {
		for _, form := range []string{"address", "FQDN"} {
			for name, fate := range map[string]func(n int) int{
				"quiet":    func(int) int { return 1 },
				"loss":     func(n int) int { return []int{1, 0, 0, 1, 0, 1, 1}[n%7] },
				"repeated": func(int) int { return 2 },
			} {
				t.Run(when+" "+form+" "+name, func(t *testing.T) {
					client, gateway := certPair(t, pki.ECDSAP256, pki.ECDSAP256)
					w, a, gws := gateways(t, client, gateway, 2, func(i int, c *Connection) {
						if i == 0 && when != "later" {
							c.Redirect, c.RedirectLate = gatewayID(1, form), when == "auth"
						}
					})
					n := 0
					w.fate = func(*host, Send) int { n++; return fate(n) }
					a.initiate("home", gws[0])
					w.run(20 * time.Second)
					if when == "later" {
						agree(t, a, gws[0], 1)
						gws[0].handle(RedirectPeers{To: gatewayID(1, form)})
						w.run(20 * time.Second)
					}
					w.fate = nil
					w.run(time.Minute)
					agree(t, a, gws[1], 1)
					empty(t, gws[0])
					if told := found[Redirected](a); len(told) != 1 || told[0].To != gatewayID(1, form).String() || told[0].New != a.established()[0].SA {
						t.Errorf("told %+v", told)
					}
					m := lastInit(t, a)
					from := m.Notify(message.RedirectedFrom)
					if from == nil || !bytes.Equal(from.Data, gatewayID(0, "address").Append(nil)) || m.Notify(message.RedirectSupported) != nil {
						t.Errorf("the new gateway is not told from where: %+v", from)
					}
				})
			}
		}
	}
}

// TestRow42NewGatewayMustFit: the gateway to which we are sent has to prove the same name.
// Where the old SA stands it goes on standing.
func TestRow42NewGatewayMustFit(t *testing.T) {
	for _, when := range []string{"init", "auth", "later"} {
		client, gateway := pskPair(t)
		w, a, gws := gateways(t, client, gateway, 2, func(i int, c *Connection) {
			switch {
			case i == 1:
				c.Local.ID = identity(t, "other.example.org")
			case when != "later":
				c.Redirect, c.RedirectLate = gatewayID(1, "address"), when == "auth"
			}
		})
		a.initiate("home", gws[0])
		w.run(time.Second)
		if when == "later" {
			gws[0].handle(RedirectPeers{To: gatewayID(1, "address")})
		}
		w.run(time.Minute)
		if len(gws[1].established()) != 0 || len(gws[1].installed) != 0 {
			t.Errorf("%s: an SA with the wrong gateway", when)
		}
		if when == "later" {
			agree(t, a, gws[0], 1)
			// Another try, with the right one, is followed.
			gws[1].e.cfg.Connections[0].Local.ID = gateway.Local.ID
			gws[0].handle(RedirectPeers{Connection: "rw", To: gatewayID(1, "address")})
			w.run(time.Minute)
			agree(t, a, gws[1], 1)
			continue
		}
		empty(t, a)
		downs := found[Down](a)
		if last := downs[len(downs)-1]; last.Err == nil || last.Err.Code != CodeIdentity {
			t.Errorf("%s: ended with %+v", when, last)
		}
	}
}

// TestRow42Loops: at most five redirects in 300 s.
func TestRow42Loops(t *testing.T) {
	for _, late := range []bool{false, true} {
		client, gateway := pskPair(t)
		w, a, gws := gateways(t, client, gateway, 3, func(i int, c *Connection) {
			c.Redirect, c.RedirectLate = gatewayID((i+1)%3, "address"), late
		})
		tries := func() int {
			a.reports = nil
			a.initiate("home", gws[0])
			w.run(time.Minute)
			downs := found[Down](a)
			if last := downs[len(downs)-1]; last.Err == nil || last.Err.Code != CodeNegotiationLoop {
				t.Errorf("late %v: ended with %+v", late, last)
			}
			empty(t, a)
			return len(found[Redirected](a))
		}
		if n := tries(); n != maxRedirects {
			t.Errorf("late %v: %d redirects followed, want %d", late, n, maxRedirects)
		}
		if n := tries(); n != 0 {
			t.Errorf("late %v: %d redirects followed a minute later", late, n)
		}
		w.run(redirectWindow)
		if n := tries(); n != maxRedirects {
			t.Errorf("late %v: %d redirects followed after 300 s", late, n)
		}
	}
}

// TestRow42Forged: a redirect in IKE_SA_INIT without our nonce, from a configuration that
// stays where it is, or malformed, changes nothing.
func TestRow42Forged(t *testing.T) {
	for name, c := range map[string]struct {
		ignore bool
		data   func(ni []byte) []byte
	}{
		"no nonce":      {false, func([]byte) []byte { return gatewayID(1, "address").Append(nil) }},
		"another nonce": {false, func([]byte) []byte { return append(gatewayID(1, "address").Append(nil), make([]byte, 32)...) }},
		"part of it":    {false, func(ni []byte) []byte { return append(gatewayID(1, "address").Append(nil), ni[:31]...) }},
		"malformed":     {false, func(ni []byte) []byte { return append([]byte{1, 3, 1, 2, 3}, ni...) }},
		"not wanted":    {true, func(ni []byte) []byte { return append(gatewayID(1, "address").Append(nil), ni...) }},
	} {
		client, gateway := pskPair(t)
		client.IgnoreRedirects = c.ignore
		w, a, gws := gateways(t, client, gateway, 2, func(int, *Connection) {})
		a.initiate("home", gws[0])
		(&script{t, w, a, gws[0]}).answerInit(0, notifyData(message.Redirect, c.data(engineOf(a).ni)))
		w.run(time.Second)
		agree(t, a, gws[0], 1)
		if len(found[Redirected](a)) != 0 || len(gws[1].sent) != 0 {
			t.Errorf("%s: followed", name)
		}
		if (lastInit(t, a).Notify(message.RedirectSupported) == nil) != c.ignore {
			t.Errorf("%s: announced wrongly", name)
		}
		// Later, by the authentic gateway.
		if c.ignore {
			gws[0].handle(RedirectPeers{To: gatewayID(1, "address")})
			w.run(time.Second)
			agree(t, a, gws[0], 1)
		}
	}
}

// TestRedirectOfferings: who cannot be redirected is served, and so is who comes from the
// gateway to which he would be sent.
func TestRedirectOfferings(t *testing.T) {
	for _, late := range []bool{false, true} {
		client, gateway := pskPair(t)
		client.IgnoreRedirects = true
		w, a, gws := gateways(t, client, gateway, 1, func(_ int, c *Connection) {
			c.Redirect, c.RedirectLate = gatewayID(1, "address"), late
		})
		a.initiate("home", gws[0])
		w.run(time.Second)
		agree(t, a, gws[0], 1)

		client, gateway = pskPair(t)
		w, a, gws = gateways(t, client, gateway, 2, func(i int, c *Connection) {
			c.Redirect, c.RedirectLate = gatewayID(1-i, "address"), late
		})
		a.initiate("home", gws[0])
		w.run(time.Second)
		agree(t, a, gws[1], 1)
	}
}

// TestRedirectUnderLoad: a redirect is not sent before the cookie came back, and is not
// longer than the request.
func TestRedirectUnderLoad(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, gws := gateways(t, client, gateway, 2, func(i int, c *Connection) {
		if i == 0 {
			c.Redirect = gatewayID(1, "address")
		}
	})
	gws[0].e.gate.cfg = HalfOpen{CookieTotal: -1}
	a.initiate("home", gws[0])
	w.run(time.Second)
	agree(t, a, gws[1], 1)
	answers := sentOf(gws[0], message.IKESAInit, true)
	if len(answers) != 2 || gws[0].count(DropCookieRequired) != 1 || gws[0].count(DropRedirected) != 1 {
		t.Fatalf("%d answers", len(answers))
	}
	if len(answers[1]) > len(sentOf(a, message.IKESAInit, false)[1]) {
		t.Error("longer than the request")
	}
	m, err := message.Parse(answers[1])
	if err != nil || m.SPIr != 0 || len(m.Payloads) != 1 {
		t.Errorf("the redirect is %+v, want HDR(A,0), N(REDIRECT)", m)
	}
}

// TestRedirectToNowhere: a gateway that cannot be found.
func TestRedirectToNowhere(t *testing.T) {
	for _, when := range []string{"init", "auth", "later"} {
		client, gateway := pskPair(t)
		to := message.GatewayID{Name: "nowhere.example"}
		w, a, gws := gateways(t, client, gateway, 1, func(_ int, c *Connection) {
			if when != "later" {
				c.Redirect, c.RedirectLate = to, when == "auth"
			}
		})
		a.initiate("home", gws[0])
		w.run(time.Second)
		if when == "later" {
			gws[0].handle(RedirectPeers{SA: gws[0].established()[0].SA, To: to})
			w.run(time.Minute)
			agree(t, a, gws[0], 1)
			if len(found[Warned](a)) != 1 {
				t.Error("nobody is told")
			}
			continue
		}
		w.run(time.Minute)
		if c := a.downCode(); c != CodeUnreachable {
			t.Errorf("%s: code %s", when, c)
		}
		empty(t, a, gws[0])
	}
}

// TestRedirectCombined: the SA is rekeyed while we look for the other gateway; another proof is
// wanted of us and leads elsewhere; the gateway to which we go sends us on before all is there.
func TestRedirectCombined(t *testing.T) {
	start := func(t *testing.T) (w *world, a *host, gws []*host) {
		client, gateway := withExtra(t)
		w, a, gws = gateways(t, client, gateway, 3, func(int, *Connection) {})
		a.initiate("home", gws[0])
		w.run(time.Second)
		acquireAt(a)
		w.run(time.Second)
		agree(t, a, gws[0], 2)
		return w, a, gws
	}
	t.Run("rekeyed while the way is looked for", func(t *testing.T) {
		w, a, gws := start(t)
		a.mute = true
		gws[0].handle(RedirectPeers{To: gatewayID(1, "address")})
		w.run(time.Second)
		a.mute = false
		gws[0].handle(Rekey{SA: gws[0].established()[0].SA})
		w.run(time.Minute)
		agree(t, a, gws[1], 2)
		empty(t, gws[0])
	})
	t.Run("another proof leads elsewhere", func(t *testing.T) {
		w, a, gws := start(t)
		c := gws[0].e.cfg.Connections[0]
		c.Redirect, c.RedirectLate = gatewayID(1, "address"), true
		a.handle(Reauth{})
		w.run(time.Minute)
		agree(t, a, gws[1], 2)
		empty(t, gws[0])
	})
	t.Run("sent on", func(t *testing.T) {
		for moment := range 30 {
			w, a, gws := start(t)
			gws[0].handle(RedirectPeers{To: gatewayID(1, "address")})
			w.run(time.Duration(moment) * 5 * time.Millisecond)
			gws[1].handle(RedirectPeers{To: gatewayID(2, "address")})
			w.run(time.Minute)
			last := gws[1]
			if len(gws[2].established()) > 0 {
				last = gws[2]
			}
			agree(t, a, last, 2)
			empty(t, gws[0])
		}
	})
}
