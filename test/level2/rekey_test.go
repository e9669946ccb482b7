package level2

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet"
	"martlet/config"
	"martlet/ike"
	"martlet/test/simnet"
)

// shortLived makes the SAs of a connection live for seconds.
func shortLived(c *config.Connection) {
	c.Rekey = config.Duration(20 * time.Second)
	for _, child := range c.Children {
		child.Rekey = config.Duration(5 * time.Second)
	}
}

// neverRekeys leaves it to the peer.
func neverRekeys(c *config.Connection) {
	c.Rekey = config.Never
	for _, child := range c.Children {
		child.Rekey = config.Never
	}
}

// stream sends a packet each way every 10 ms for a while, and checks that every one of them
// arrives, once. In order too, unless the network does not keep it.
func stream(gateway, client *end, seconds int, ordered bool) {
	w := client.w
	w.Helper()
	flows := both(gateway, client)
	total := seconds * 100
	got := make([][]int, len(flows))
	sent := make([]map[string]int, len(flows))
	for i := range flows {
		sent[i] = map[string]int{}
	}
	collect := func() {
		for i, f := range flows {
			for _, p := range f.to.take() {
				n, ok := sent[i][string(p)]
				if !ok {
					w.Fatalf("at %s arrived what was never sent, or arrived before", f.to.host.Name)
				}
				delete(sent[i], string(p))
				got[i] = append(got[i], n)
			}
		}
	}
	for n := range total {
		for i, f := range flows {
			p := packet(f.src, f.dst, n)
			sent[i][string(p)] = n
			if !f.from.tun.Inject(p) {
				w.Fatal("no room in the device")
			}
		}
		pass(10 * time.Millisecond)
		if n%20 == 19 {
			collect()
		}
	}
	pass(time.Second)
	collect()
	for i, f := range flows {
		if len(got[i]) != total {
			w.Errorf("%d of %d packets arrived at %s", len(got[i]), total, f.to.host.Name)
		}
		if ordered && !slices.IsSorted(got[i]) {
			w.Errorf("packets came out of order at %s", f.to.host.Name)
		}
	}
}

// rekeys counts what a node reports: children and IKE SAs.
func rekeys(events []martlet.Event) (children, sas int) {
	for _, ev := range events {
		switch {
		case ev.Kind == martlet.EventRekeyed && ev.Child != "":
			children++
		case ev.Kind == martlet.EventRekeyed:
			sas++
		}
	}
	return children, sas
}

func TestRekeyLosesNoPacket(t *testing.T) {
	for name, c := range map[string]struct {
		gateway, client func(*config.Connection)
		link            simnet.Link
		ordered         bool
	}{
		"by the client":                        {neverRekeys, shortLived, usual, true},
		"by the gateway":                       {shortLived, neverRekeys, usual, true},
		"by both":                              {shortLived, shortLived, usual, true},
		"by both, on a link that mixes things": {shortLived, shortLived, simnet.Link{Latency: 20 * time.Millisecond, Jitter: 15 * time.Millisecond, Reorder: 0.2, ReorderBy: 40 * time.Millisecond}, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 60, func(w *world) {
				g, cc := gatewayConfig(), clientConfig()
				c.gateway(g.Connections["clients"])
				c.client(cc.Connections["office"])
				gateway := w.gateway(g)
				client := w.start(w.net.Host("client", c.link, clientAddr), cc, false)
				client.connect()
				events := client.watch()
				stream(gateway, client, 60, c.ordered)
				children, sas := rekeys(events())
				if children < 10 || sas < 2 {
					w.Errorf("%d children and %d IKE SAs were replaced in a minute", children, sas)
				}
				if n := len(client.sa().Children); n > 2 { // one is perhaps being replaced
					w.Errorf("%d children", n)
				}
				for _, e := range []*end{gateway, client} {
					for _, drop := range []string{"esp-no-sa", "esp-no-policy", "esp-exhausted"} {
						if n := e.Status().Drops[drop]; n > 0 {
							w.Errorf("%s: %s %d", e.host.Name, drop, n)
						}
					}
				}
				closesCleanly(gateway, client)
			})
		})
	}
}

func TestRekeyByVolumeLosesNoPacket(t *testing.T) {
	inBubble(t, 61, func(w *world) {
		g, c := gatewayConfig(), clientConfig()
		c.Connections["office"].Children["net"].RekeyPackets = 200
		g.Connections["clients"].Children["net"].RekeyBytes = 300_000
		gateway, client := w.gateway(g), w.client(c)
		client.connect()
		events := client.watch()
		stream(gateway, client, 30, true)
		if children, _ := rekeys(events()); children < 10 {
			w.Errorf("the child was replaced %d times", children)
		}
	})
}

func TestRekeyByCommand(t *testing.T) {
	inBubble(t, 62, func(w *world) {
		gateway, client := w.pair()
		for _, e := range []*end{client, gateway} {
			name := e.Status().Connections[0]
			before := e.sa()
			for _, child := range []string{"net", ""} {
				if err := e.Rekey(w.Context(), name, child); err != nil {
					w.Fatal(err)
				}
				talk(gateway, client)
			}
			pass(10 * time.Second)
			after := e.sa()
			if after.SPIi == before.SPIi || len(after.Children) != 1 || after.Children[0].SPIIn == before.Children[0].SPIIn || after.Initiator != before.Initiator {
				w.Errorf("%+v after %+v", after, before)
			}
		}
		for _, test := range [][2]string{{"nobody", ""}, {"office", "nothing"}} {
			if err := client.Rekey(w.Context(), test[0], test[1]); !errors.Is(err, &martlet.Error{Code: ike.CodeNoConnection}) {
				w.Errorf("%v: %v", test, err)
			}
		}
		closesCleanly(gateway, client)
		if err := client.Rekey(w.Context(), "office", ""); err == nil {
			w.Error("a Node that was closed has fresh keys")
		}
	})
}

// TestRekeyFindsMismatch: the first child has no key exchange, so that the two sides do
// not notice what they disagree about until it is replaced.
func TestRekeyFindsMismatch(t *testing.T) {
	inBubble(t, 63, func(w *world) {
		g, c := gatewayConfig(), clientConfig()
		g.Connections["clients"].Children["net"].Proposals = []string{"aes256gcm16-x25519"}
		c.Connections["office"].Children["net"].Proposals = []string{"aes256gcm16-ecp521"}
		gateway, client := w.gateway(g), w.client(c)
		client.connect()
		err := client.Rekey(w.Context(), "office", "net")
		known, ok := errors.AsType[*martlet.Error](err)
		if !ok || known.Code != ike.CodeNoChildProposal || !strings.Contains(known.Why, "PFS") || known.Hint == "" {
			w.Fatalf("%#v", err)
		}
		talk(gateway, client)
	})
}

// TestSAsThatNobodyReplacesEnd: a keeper opens them again.
func TestSAsThatNobodyReplacesEnd(t *testing.T) {
	inBubble(t, 64, func(w *world) {
		g, c := gatewayConfig(), clientConfig()
		for _, conn := range []*config.Connection{g.Connections["clients"], c.Connections["office"]} {
			neverRekeys(conn)
		}
		c.Connections["office"].Lifetime = config.Duration(time.Minute)
		gateway, client := w.gateway(g), w.client(c)
		client.connect()
		talk(gateway, client)
		pass(90 * time.Second)
		client.clean()
		gateway.clean()
	})
}
