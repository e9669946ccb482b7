package ike

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/cryptotest"
	"time"

	"martlet/ike/message"
)

// TestCombinations: reauthentication, reload, redirection, rekeying and moves of both sides in
// any mixture over a bad network. In the end the client has one SA with one of the gateways,
// and nobody has anything besides.
func TestCombinations(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, seed)
			rng := rand.New(rand.NewPCG(seed, 17))
			client, gateway := withExtra(t)
			if seed%4 == 0 {
				client.NoMOBIKE = true
			}
			if seed%5 == 0 {
				gateway.Reauth = 40 * time.Second
			}
			if seed%3 == 0 {
				client.Tickets, gateway.Tickets = time.Hour, time.Hour
			}
			w, a, gws := gateways(t, client, gateway, 2, func(int, *Connection) {})
			a.initiate("home", gws[0])
			w.run(time.Second)
			acquireAt(a)
			w.run(time.Second)
			w.fate = func(*host, Send) int {
				w.delay = time.Duration(5+rng.IntN(60)) * time.Millisecond
				switch n := rng.IntN(100); {
				case n < 15:
					return 0
				case n < 30:
					return 2
				}
				return 1
			}
			hosts := []*host{a, gws[0], gws[1]}
			reload := func(h *host, change func(*Connection), changed bool) {
				next := other(h.e.cfg.Connections[0], change)
				ev := Reload{Connections: []*Connection{next}}
				if changed {
					ev.Changed = []string{next.Name}
				}
				h.handle(ev)
			}
			for range 5 + rng.IntN(20) {
				h := hosts[rng.IntN(3)]
				var sa SAID
				if st := h.established(); len(st) > 0 {
					sa = st[rng.IntN(len(st))].SA
				}
				clear(a.e.redirects) // how many are followed is another test's
				to := rng.IntN(2)
				what := rng.IntN(10)
				w.log("%s: command %d", h.name, what)
				switch what {
				case 0, 1:
					h.handle(Reauth{SA: sa, Within: time.Duration(30+rng.IntN(20)) * time.Second})
				case 2, 3:
					if sa != 0 {
						h.handle(Rekey{SA: sa})
					}
				case 4:
					reload(h, nil, true)
				case 5:
					reload(h, nil, false)
				case 6:
					a.move(fmt.Sprintf("192.0.2.%d", 1+rng.IntN(9)))
				case 7:
					gws[1-to].handle(RedirectPeers{To: gatewayID(to, "address")})
				case 8:
					// Who comes to the one from now on is sent to the other.
					reload(gws[to], func(c *Connection) { c.Redirect = message.GatewayID{} }, false)
					reload(gws[1-to], func(c *Connection) {
						c.Redirect, c.RedirectLate = gatewayID(to, "address"), rng.IntN(2) == 0
					}, false)
				case 9:
					acquireAt(h)
				}
				w.run(time.Duration(rng.IntN(1500)) * time.Millisecond)
			}
			w.fate, w.delay = nil, 10*time.Millisecond
			for _, h := range hosts {
				reload(h, func(c *Connection) { c.Rekey, c.Reauth, c.Children[0].Rekey = -1, 0, -1 }, false)
			}
			w.run(12 * time.Minute)
			// A peer without MOBIKE may not be found in time.
			dead := slices.ContainsFunc(found[Down](a), func(d Down) bool { return d.Err != nil && d.Err.Code == CodePeerDead })
			if len(a.established()) == 0 {
				if !dead || !client.NoMOBIKE {
					t.Fatal("the SA was lost")
				}
				return
			}
			to := slices.IndexFunc(gws, func(h *host) bool { return h.addr == engineOf(a).path.Remote.Addr() })
			children := 2
			if dead {
				children = len(a.installed)
			}
			agree(t, a, gws[to], children)
			empty(t, gws[1-to])
			for _, h := range []*host{a, gws[to]} {
				if len(h.e.sas) != 1 || len(h.e.inbound) != len(h.installed) || len(h.retired) != 0 {
					t.Errorf("%s: %d SAs, %d SPIs for %d children, %d retired", h.name, len(h.e.sas), len(h.e.inbound), len(h.installed), len(h.retired))
				}
				checkIDs(t, h)
			}
			if s := engineOf(a); s.moving {
				t.Error("the client still waits for another SA")
			}
			a.handle(Terminate{})
			w.run(2 * time.Minute)
			empty(t, hosts...)
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
