package ike

import (
	"slices"
	"testing"
	"time"
)

// other is a copy of a connection for a reload.
func other(c *Connection, change func(*Connection)) *Connection {
	next := *c
	next.Children = nil
	for _, x := range c.Children {
		copied := *x
		next.Children = append(next.Children, &copied)
	}
	if change != nil {
		change(&next)
	}
	return &next
}

func TestReloadUnchanged(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := up(t, client, gateway)
	before := a.established()[0].SA
	late := func(c *Connection) { c.Rekey = 10 * time.Minute }
	a.handle(Reload{Connections: []*Connection{other(client, late)}})
	b.handle(Reload{Connections: []*Connection{other(gateway, nil)}})
	w.run(time.Second)
	if a.established()[0].SA != before {
		t.Error("the SA was replaced")
	}
	a.handle(Acquire{Connection: "home", Child: client.Children[0].Name})
	w.run(time.Second)
	agree(t, a, b, 1) // it has this child already
	a.handle(Rekey{Child: a.onlyChild().ID})
	w.run(time.Minute)
	agree(t, a, b, 1)
}

func TestReloadGone(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := up(t, client, gateway)
	b.handle(Reload{})
	w.run(time.Minute)
	empty(t, a, b)
}

// A reload in every moment of a handshake: with the connection as it was, gone, or changed on
// either side, the peers agree in the end.
func TestReloadWhileConnecting(t *testing.T) {
	for _, what := range []string{"same", "changed", "gone"} {
		for moment := range 12 {
			for _, atClient := range []bool{true, false} {
				client, gateway := pskPair(t)
				w, a, b := pair(t, client, gateway)
				a.initiate("home", b)
				w.run(time.Duration(moment) * 5 * time.Millisecond)
				h, conn := a, client
				if !atClient {
					h, conn = b, gateway
				}
				ev := Reload{Connections: []*Connection{other(conn, nil)}}
				switch what {
				case "changed":
					ev.Changed = []string{conn.Name}
				case "gone":
					ev.Connections = nil
				}
				h.handle(ev)
				w.run(3 * time.Minute)
				if what == "same" {
					agree(t, a, b, 1)
					continue
				}
				if x, y := len(a.established()), len(b.established()); x != y || what == "gone" && x != 0 {
					t.Errorf("%s after %d ms, at the client %t: %d and %d SAs", what, moment*5, atClient, x, y)
				}
			}
		}
	}
}

func TestReloadChangedByTheGateway(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := up(t, client, gateway)
	before := a.established()[0].SA
	next := other(gateway, func(c *Connection) {
		c.Children[0].Local = append(slices.Clone(c.Children[0].Local), selectors("10.77.0.0/16")...)
	})
	b.handle(Reload{Connections: []*Connection{next}, Changed: []string{gateway.Name}})
	w.run(time.Minute)
	agree(t, a, b, 1)
	if a.established()[0].SA == before {
		t.Error("the SA is the one of before")
	}
}

// What a reload has replaced is not ended by the same reload.
func TestReloadOfSeveral(t *testing.T) {
	client, gateway := pskPair(t)
	second := *client
	second.Name = "second"
	w := newWorld(t)
	a := w.add("client", homeAddr, &Config{Connections: []*Connection{client, &second}})
	b := w.add("gateway", gatewayAddr, &Config{Connections: []*Connection{gateway}})
	a.initiate(client.Name, b)
	w.run(time.Second)
	a.initiate(second.Name, b)
	w.run(time.Second)
	a.handle(Reload{Connections: []*Connection{client, &second}, Changed: []string{client.Name, second.Name}})
	w.run(time.Second)
	downs := found[Down](a)
	if len(downs) != 2 {
		t.Errorf("%d SAs ended", len(downs))
	}
	for _, d := range downs {
		if !d.Replaced || !d.Established {
			t.Errorf("%+v", d)
		}
	}
}
