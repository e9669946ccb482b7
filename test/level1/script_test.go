package level1

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"martlet/ike"
	"martlet/ike/message"
	"martlet/test/simnet"
)

// TestScripts plays what chance brings seldom, each on a network that does nothing but what
// the script says.
func TestScripts(t *testing.T) {
	scripts := []struct {
		name string
		play func(*world)
	}{
		{"child deleted by its responder while the initiator still creates it", func(w *world) {
			w.loseOnce(w.b, message.CreateChildSA, 2)
			w.a.handle(ike.Acquire{Connection: connection, Child: childExtra})
			w.runFor(200 * time.Millisecond)
			w.closeNewest(w.b)
		}},
		{"the same with the original responder as initiator", func(w *world) {
			w.loseOnce(w.a, message.CreateChildSA, 2)
			w.b.handle(ike.Acquire{Connection: connection, Child: childExtra})
			w.runFor(200 * time.Millisecond)
			w.closeNewest(w.a)
		}},
		{"both create the same child at once", func(w *world) {
			w.a.handle(ike.Acquire{Connection: connection, Child: childExtra})
			w.b.handle(ike.Acquire{Connection: connection, Child: childExtra})
		}},
		{"both delete the same child at once", func(w *world) {
			w.closeNewest(w.a)
			w.closeNewest(w.b)
			w.runFor(30 * time.Second)
			w.wantChildren(0)
		}},
		{"both end the SA at once", func(w *world) {
			w.a.handle(ike.Terminate{Reason: "test"})
			w.b.handle(ike.Terminate{Reason: "test"})
			w.runFor(time.Second)
			w.wantNothing()
		}},
		{"the SA ends while a child is created", func(w *world) {
			w.loseOnce(w.b, message.CreateChildSA, 1)
			w.a.handle(ike.Acquire{Connection: connection, Child: childExtra})
			w.runFor(20 * time.Millisecond)
			w.b.handle(ike.Terminate{Reason: "test"})
			w.runFor(30 * time.Second)
			w.wantNothing()
		}},
		{"the client starts anew and the gateway forgets the old SA at once", func(w *world) {
			w.a.crash()
			w.a.initiate(w.b)
			w.runFor(2 * time.Second)
			w.wantChildren(1)
		}},
		{"the response to a delete is lost again and again", func(w *world) {
			w.loseOnce(w.b, message.Informational, 5)
			w.a.handle(ike.Terminate{Reason: "test"})
			w.runFor(time.Minute)
			w.wantNothing()
		}},
		{"the client goes dark and the gateway notices", func(w *world) {
			w.a.host.Blackout(true)
			w.runFor(2 * time.Minute)
			w.wantNothing()
			if n := len(w.b.downs); n != 1 || w.b.downs[0].Err == nil || w.b.downs[0].Err.Code != ike.CodePeerDead {
				w.fault("the gateway reports %+v, want the code %s", w.b.downs, ike.CodePeerDead)
			}
			w.a.host.Blackout(false)
		}},
		{"the client moves while the gateway creates a child", func(w *world) {
			w.loseOnce(w.b, message.CreateChildSA, 2)
			w.b.handle(ike.Acquire{Connection: connection, Child: childExtra})
			w.runFor(200 * time.Millisecond)
			w.a.move()
			w.runFor(10 * time.Second)
			w.wantChildren(2)
		}},
		{"both move at once, and the gateway deletes a child", func(w *world) {
			w.a.move()
			w.closeNewest(w.b)
			w.b.move()
			w.runFor(time.Minute)
			w.wantChildren(0)
		}},
		{"the client moves again before the cookie came back", func(w *world) {
			w.a.move()
			w.runFor(15 * time.Millisecond)
			w.a.move()
			w.runFor(10 * time.Second)
			w.wantChildren(1)
		}},
		{"the cookie is lost again and again", func(w *world) {
			w.a.move()
			w.loseOnce(w.b, message.Informational, 8)
			w.runFor(time.Minute)
			w.wantChildren(1)
		}},
		{"the echo of the cookie is lost again and again", func(w *world) {
			w.a.move()
			w.loseOnce(w.a, message.Informational, 8)
			w.runFor(time.Minute)
			w.wantChildren(1)
		}},
	}
	for i, s := range scripts {
		t.Run(s.name, func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, uint64(i))
			sc := scenario{
				ikeClient: "aes128gcm16-prfsha256-x25519", ikeGateway: "aes128gcm16-prfsha256-x25519", esp: "aes128gcm16",
				liveness: 20 * time.Second, terminateBy: 2,
			}
			w := newWorld(t, uint64(i), sc, rand.New(rand.NewPCG(uint64(i), 1)))
			w.healed, w.eavesdrop = true, true
			w.a.host.SetLink(simnet.Link{Latency: 5 * time.Millisecond})
			w.a.initiate(w.b)
			w.runFor(time.Second)
			w.wantChildren(1)
			s.play(w)
			w.settle("after the script", 2*time.Minute, w.disagreement)
			w.close()
			w.checkSecrets()
			if len(w.faults) > 0 {
				t.Errorf("%s\n%s", strings.Join(w.faults, "\n"), &w.diagram)
			}
		})
	}
}

// loseOnce loses the next messages of an exchange that a node sends.
func (w *world) loseOnce(n *node, exchange message.ExchangeType, count int) {
	n.lose = func(h message.Header) bool {
		if h.Exchange != exchange || count == 0 {
			return false
		}
		count--
		return true
	}
}

// closeNewest closes the child that a node installed last.
func (w *world) closeNewest(n *node) {
	ids := n.installed()
	if len(ids) == 0 {
		w.fault("%s has no child to close", n.name)
		return
	}
	w.note(n.name, "close child %d", slices.Max(ids))
	n.handle(ike.CloseChild{Child: slices.Max(ids)})
}

// wantChildren faults if not exactly so many children stand on each side.
func (w *world) wantChildren(want int) {
	for _, n := range []*node{w.a, w.b} {
		if len(n.children) != want {
			w.fault("%s has %d children, want %d", n.name, len(n.children), want)
		}
	}
}

// wantNothing faults if anything is left.
func (w *world) wantNothing() {
	if left := w.a.leftovers() + w.b.leftovers(); left != "" {
		w.fault("%s", left)
	}
}
