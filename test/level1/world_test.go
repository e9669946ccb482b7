package level1

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet/ike"
	"martlet/ike/message"
	"martlet/test/simnet"
)

// world is one run: a client, a gateway, and the network between them.
type world struct {
	t        testing.TB
	sc       scenario
	rng      *rand.Rand // of what is outside the network: commands, answers, forgeries
	net      *simnet.Net
	nat      *simnet.NAT
	a, b     *node
	attacker *simnet.Host
	old      []simnet.Datagram // that the attacker saw
	forged   map[string]bool
	healed   bool
	rekeyed  int // IKE SAs, on either side
	surplus  int // SAs that were one too many
	probed   int // searches for the MTU of a path that came to an end

	diagram   diagram
	faults    []string
	eavesdrop bool // reports are searched for keys, which takes as long as all the rest
	secrets   map[string]bool
	reports   strings.Builder
	reported  map[[32]byte]bool
}

// badLink is what an issue of the project asks for: 30 % loss, 20 % duplication, and
// reordering by up to 50 ms.
var badLink = simnet.Link{
	Latency: 10 * time.Millisecond, Jitter: 5 * time.Millisecond,
	Loss: 0.3, Dup: 0.2, Reorder: 0.3, ReorderBy: 50 * time.Millisecond,
}

var natAddr = netip.MustParseAddr("203.0.113.1")

func newWorld(t testing.TB, seed uint64, sc scenario, rng *rand.Rand) *world {
	w := &world{
		t: t, sc: sc, rng: rng, net: simnet.New(seed, epoch),
		forged: map[string]bool{}, secrets: map[string]bool{psk: true}, reported: map[[32]byte]bool{},
		diagram: diagram{begin: epoch, left: "client", keys: map[message.SPI]ike.KeyLogEntry{}},
	}
	w.net.Trace(func(r simnet.Record) { w.diagram.records = append(w.diagram.records, line{at: r.At, record: r}) })
	client, gateway := "192.0.2.1", "198.51.100.1"
	if sc.sixth {
		client, gateway = "2001:db8:1::1", "2001:db8:2::1"
	}
	line := badLink
	line.MTU = sc.mtu
	ha := w.net.Host("client", line, netip.MustParseAddr(client))
	hb := w.net.Host("gateway", simnet.Link{Latency: 5 * time.Millisecond}, netip.MustParseAddr(gateway))
	w.attacker = w.net.Host("attacker", simnet.Link{})
	if sc.nat != nil {
		w.nat = w.net.NAT(natAddr, *sc.nat)
		ha.Behind(w.nat)
	}
	w.a = newNode(w, "client", ha, clientPortIKE, clientPortNAT, func() *ike.Config { return sc.config(t, false) })
	w.b = newNode(w, "gateway", hb, portIKE, portNAT, func() *ike.Config { return sc.config(t, true) })
	w.net.After(0, w.pulse)
	w.net.After(0, w.settleCrossings)
	return w
}

func (w *world) publicAddr(n *node) netip.Addr {
	if n == w.a && w.nat != nil {
		return natAddr
	}
	return n.host.Addr()
}

func (w *world) note(who, format string, args ...any) {
	text := who + ": " + fmt.Sprintf(format, args...)
	w.diagram.records = append(w.diagram.records, line{at: w.net.Now(), note: text})
}

func (w *world) fault(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.note("FAULT", "%s", text)
	w.faults = append(w.faults, text)
}

func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.rng.Int64N(int64(d))) }

// run plays the whole: bad network and commands, healing, agreement, traffic, close.
func (w *world) run() {
	w.net.After(0, func() { w.a.initiate(w.b) })
	if w.sc.bothStart {
		w.net.After(w.upTo(200*time.Millisecond), func() { w.b.initiate(w.a) })
	}
	for _, c := range w.sc.commands {
		w.net.After(c.at, func() { w.command(c) })
	}
	w.runFor(chaos)

	w.healed = true
	w.note("network", "HEALED")
	w.a.host.SetLink(simnet.Link{Latency: 10 * time.Millisecond, MTU: w.sc.mtu})
	w.a.probe()
	w.b.host.SetLink(simnet.Link{Latency: 5 * time.Millisecond})
	w.settle("after the network healed", 4*time.Minute, w.disagreement)
	if w.sc.bad() {
		w.checkNoneUp()
	} else if len(w.a.established()) == 0 {
		w.net.After(0, func() { w.a.initiate(w.b) })
		w.settle("after a fresh start", 20*time.Second, func() string {
			if len(w.a.established()) == 0 || len(w.a.children) == 0 {
				return "the client has no SA with a child"
			}
			return w.disagreement()
		})
	}
	w.close()
	w.checkSecrets()
}

func (w *world) close() {
	for i, n := range []*node{w.a, w.b} {
		if w.sc.terminateBy == i || w.sc.terminateBy == 2 {
			w.note(n.name, "terminate all")
			w.net.After(0, func() { n.handle(ike.Terminate{Reason: "test"}) })
			// A peer that was about to authenticate again comes once more.
			w.net.After(20*time.Second, func() { n.handle(ike.Terminate{Reason: "test"}) })
		}
	}
	w.settle("after the close", 2*time.Minute, func() string { return w.a.leftovers() + w.b.leftovers() })
}

// checkNoneUp: where one side must not trust the other, no SA may have stayed, and a
// reason was told.
func (w *world) checkNoneUp() {
	if w.sc.wrongPSK {
		for _, n := range []*node{w.a, w.b} {
			if len(n.sas) != 0 {
				w.fault("%s: established with the wrong pre-shared key", n.name)
			}
		}
	}
	if n := len(w.a.engine.Statuses()); n != 0 {
		w.fault("client: lists %d SAs with a peer that does not authenticate", n)
	}
	if !slices.ContainsFunc(w.a.downs, func(d ike.Down) bool { return d.Err != nil }) {
		w.fault("client: gave no reason for the failure")
	}
}

// settle runs until disagree has returned "" for 5 seconds, and faults if that takes longer
// than limit.
func (w *world) settle(when string, limit time.Duration, disagree func() string) {
	const quiet = 5
	deadline, calm := w.net.Now().Add(limit), 0
	for calm < quiet {
		w.runFor(time.Second)
		d := disagree()
		switch {
		case d == "":
			calm++
		case w.net.Now().After(deadline):
			w.fault("%s: %s", when, d)
			return
		default:
			calm = 0
		}
	}
}

// maxSteps bounds a run: more events are a storm.
const maxSteps = 200000

func (w *world) runFor(d time.Duration) {
	end := w.net.Now().Add(d)
	for steps := 0; ; steps++ {
		next, ok := w.net.Next()
		if !ok || next.After(end) {
			break
		}
		if steps > maxSteps {
			w.t.Fatalf("more than %d events in %v:\n%s", maxSteps, d, w.lastLines(60))
		}
		w.net.Step()
	}
	w.net.RunUntil(end)
}

func (w *world) command(c command) {
	n, other := w.a, w.b
	if c.node == 1 {
		n, other = w.b, w.a
	}
	switch c.what {
	case "acquire":
		w.note(n.name, "acquire")
		n.handle(ike.Acquire{Connection: connection, Child: childExtra})
	case "close child":
		ids := n.installed()
		if len(ids) > 0 {
			id := ids[w.rng.IntN(len(ids))]
			w.note(n.name, "close child %d", id)
			n.handle(ike.CloseChild{Child: id})
		}
	case "rekey":
		n.rekey()
	case "both rekey":
		n.rekey()
		other.rekey()
	case "rekey child":
		n.rekeyChild()
	case "both rekey child":
		n.rekeyChild()
		other.rekeyChild()
	case "aged":
		if ids := n.installed(); len(ids) > 0 {
			id, hard := ids[w.rng.IntN(len(ids))], w.rng.IntN(4) == 0
			w.note(n.name, "child %d aged, hard %v", id, hard)
			n.handle(ike.ChildAged{Child: id, Hard: hard})
		}
	case "reauth":
		w.note(n.name, "reauth")
		n.handle(ike.Reauth{Within: w.upTo(20 * time.Second)})
	case "reload", "replace":
		w.note(n.name, "%s", c.what)
		ev := ike.Reload{Connections: n.config().Connections}
		if c.what == "replace" {
			ev.Changed = []string{connection}
		}
		n.handle(ev)
	case "probe":
		n.probe()
	case "unknown SPI":
		n.handle(ike.UnknownSPI{Path: ike.Path{Local: netip.AddrPortFrom(n.host.Addr(), n.ports[1]), Remote: netip.AddrPortFrom(w.publicAddr(other), other.ports[1]), Encap: true}, SPI: w.rng.Uint32()})
	case "terminate":
		w.note(n.name, "terminate")
		n.handle(ike.Terminate{Connection: connection, Reason: "command"})
	case "initiate":
		if len(w.a.engine.Statuses()) == 0 {
			w.a.initiate(w.b)
		}
	case "crash":
		n.crash()
	case "blackout":
		w.note(n.name, "BLACKOUT")
		n.host.Blackout(true)
		w.net.After(time.Second+w.upTo(14*time.Second), func() { n.host.Blackout(false) })
	case "move":
		n.move()
	case "rebind":
		if w.nat != nil {
			w.note("network", "REBIND")
			w.nat.Rebind()
		}
	}
}

// overhear lets the attacker see a datagram that arrived, and send it once more: late,
// or damaged.
func (w *world) overhear(n *node, d simnet.Datagram) {
	if w.healed || w.sc.forge == 0 || n == w.a && w.nat != nil {
		return
	}
	d.Data = slices.Clone(d.Data)
	w.old = append(w.old, d)
	if w.rng.Float64() >= w.sc.forge {
		return
	}
	d = w.old[w.rng.IntN(len(w.old))]
	if w.rng.IntN(2) == 0 {
		d.Data = slices.Clone(d.Data)
		for range 1 + w.rng.IntN(3) {
			d.Data[w.rng.IntN(len(d.Data))] ^= 1 << w.rng.IntN(8)
		}
		w.forged[string(d.Data)] = true
	}
	w.net.After(w.upTo(3*time.Second), func() { w.attacker.Send(d) })
}

func (w *world) lastLines(n int) string {
	all := strings.Split(w.diagram.String(), "\n")
	return strings.Join(all[max(0, len(all)-n):], "\n")
}
