package level1

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"martlet/crypto/suite"
	"martlet/ike"
	"martlet/ike/eap"
	"martlet/ike/message"
	"martlet/test/simnet"
)

// The client has an ephemeral port for each port of the gateway, as real ones do.
const (
	portIKE, portNAT             = 500, 4500
	clientPortIKE, clientPortNAT = 40500, 44500
	marker                       = "\x00\x00\x00\x00"
)

// node is an engine and all that a runner would do for it.
type node struct {
	w      *world
	name   string
	host   *simnet.Host
	ports  [2]uint16 // without and with encapsulation
	config func() *ike.Config
	lose   func(message.Header) bool // messages that a script takes away; nil: none
	life   int                       // counted up by a crash: what was pending is void

	engine   *ike.Engine
	pending  map[ike.AskID]bool
	children map[ike.ChildID]*ike.Child
	retired  map[ike.ChildID]bool // that still take what comes late
	esp      map[ike.ChildID]*sequence
	up       map[ike.SAID]bool // reported Established and not yet Down
	wake     time.Time         // when the next Tick is due; zero: none

	// What invariants compare, over all lives.
	contents map[string]string // message -> its bytes
	spis     map[uint32]bool
	sas      map[ike.SAID]bool
	heard    map[string]bool // kinds of messages that were delivered
	downs    []ike.Down
	lease    int
	moves    int // of the children of an SA
	crossing crossings
}

func newNode(w *world, name string, host *simnet.Host, plain, encap uint16, config func() *ike.Config) *node {
	n := &node{
		w: w, name: name, host: host, ports: [2]uint16{plain, encap}, config: config,
		contents: map[string]string{}, spis: map[uint32]bool{}, sas: map[ike.SAID]bool{}, heard: map[string]bool{},
	}
	n.start()
	host.OnReceive(n.receive)
	return n
}

// start makes a fresh engine, with no memory of the one before.
func (n *node) start() {
	n.life++
	n.pending = map[ike.AskID]bool{}
	n.children = map[ike.ChildID]*ike.Child{}
	n.esp = map[ike.ChildID]*sequence{}
	n.retired = map[ike.ChildID]bool{}
	n.up = map[ike.SAID]bool{}
	n.wake = time.Time{}
	n.crossing = crossings{}
	c := n.config()
	c.KeyLog = n.w.learn
	n.engine = ike.New(c)
}

func (n *node) crash() {
	n.w.note(n.name, "CRASH")
	n.start()
}

// later calls f, unless the node crashed meanwhile.
func (n *node) later(d time.Duration, f func()) {
	life := n.life
	n.w.net.After(d, func() {
		if n.life == life {
			f()
		}
	})
}

func (n *node) receive(d simnet.Datagram) {
	encap := d.To.Port() == n.ports[1]
	data := d.Data
	if encap {
		var isIKE bool
		if data, isIKE = unmark(data); !isIKE {
			n.receiveESP(d)
			return
		}
	}
	if h, err := message.ParseHeader(data); err == nil && !n.w.forged[string(d.Data)] {
		n.heard[kind(h)] = true
	}
	n.w.overhear(n, d)
	n.handle(ike.Datagram{Path: ike.Path{Local: d.To, Remote: d.From, Encap: encap}, Data: data})
}

// unmark takes the non-ESP marker off.
func unmark(data []byte) ([]byte, bool) {
	if rest, ok := strings.CutPrefix(string(data), marker); ok {
		return []byte(rest), true
	}
	return data, false
}

// kind names the part that a message plays in an SA.
func kind(h message.Header) string {
	return fmt.Sprintf("%v %v response=%v", h.SPIi, h.Exchange, h.IsResponse())
}

// handle gives the engine an event and does what it wants.
func (n *node) handle(ev ike.Event) {
	actions := slices.Clone(n.engine.Handle(n.w.net.Now(), ev))
	for _, a := range actions {
		n.do(a)
	}
	n.arm()
}

// arm sees that a Tick comes at the time of Next.
func (n *node) arm() {
	next := n.engine.Next()
	if next.IsZero() || next.Equal(n.wake) {
		return
	}
	n.wake = next
	n.later(next.Sub(n.w.net.Now()), func() {
		if n.wake.Equal(next) { // not overtaken by another deadline
			n.wake = time.Time{}
			n.handle(ike.Tick{})
		}
	})
}

func (n *node) do(a ike.Action) {
	switch a := a.(type) {
	case ike.Send:
		n.send(a)
	case ike.Install:
		n.install(a.Child)
	case ike.Switch:
		if n.children[a.Child] == nil {
			n.w.fault("%s: switches to child %d, which is not there", n.name, a.Child)
		}
		n.w.note(n.name, "switch to child %d", a.Child)
	case ike.Retire:
		if n.children[a.Child] == nil {
			n.w.fault("%s: retires child %d, which is not there", n.name, a.Child)
		}
		delete(n.children, a.Child)
		n.retired[a.Child] = true
		n.w.note(n.name, "retire child %d", a.Child)
	case ike.Remove:
		if n.children[a.Child] == nil && !n.retired[a.Child] {
			n.w.fault("%s: removes child %d, which is not there", n.name, a.Child)
		}
		delete(n.children, a.Child)
		delete(n.esp, a.Child)
		delete(n.retired, a.Child)
		n.w.note(n.name, "remove child %d", a.Child)
	case ike.Move:
		if n.children[a.Child] == nil {
			n.w.fault("%s: moves child %d, which is not there", n.name, a.Child)
			return
		}
		n.children[a.Child].Path = a.Path
		n.w.note(n.name, "move child %d to %v", a.Child, a.Path.Remote)
	case ike.Ask:
		n.ask(a)
	case ike.Report:
		n.report(a.What)
	default:
		n.w.fault("%s: unknown action %T", n.name, a)
	}
}

func (n *node) send(s ike.Send) {
	if s.Path.Local.Port() != n.ports[0] && s.Path.Local.Port() != n.ports[1] {
		n.w.fault("%s: sends from %v, which it has no socket for", n.name, s.Path.Local)
	}
	if s.Path.Encap != (s.Path.Local.Port() == n.ports[1]) {
		n.w.fault("%s: Encap is %v on a path from %v", n.name, s.Path.Encap, s.Path.Local)
	}
	data := s.Data
	if s.Keepalive {
		data = []byte{0xff}
	} else {
		n.checkContent(s)
		if h, err := message.ParseHeader(s.Data); err == nil && n.lose != nil && n.lose(h) {
			n.w.note(n.name, "the script takes away: %s", n.w.diagram.describe(s.Data))
			return
		}
		if s.Path.Encap {
			data = append([]byte(marker), data...)
		}
	}
	n.host.Send(simnet.Datagram{From: s.Path.Local, To: s.Path.Remote, Data: data})
}

func (n *node) install(c *ike.Child) {
	n.w.note(n.name, "install child %d %s, SPIs in %08x out %08x", c.ID, c.Name, c.SPIIn, c.SPIOut)
	if n.children[c.ID] != nil {
		n.w.fault("%s: installs child %d twice", n.name, c.ID)
	}
	if n.spis[c.SPIIn] {
		n.w.fault("%s: uses ESP SPI %08x twice", n.name, c.SPIIn)
	}
	if c.SPIIn < 256 {
		n.w.fault("%s: uses the reserved ESP SPI %d", n.name, c.SPIIn)
	}
	n.spis[c.SPIIn] = true
	own := *c
	n.children[c.ID] = &own
	n.esp[c.ID] = &sequence{heard: n.w.net.Now()} // the first packet takes its time
	n.w.secret(c.In.Encr, c.In.Integ, c.Out.Encr, c.Out.Integ)
}

// ask answers after a while, as the world outside does.
func (n *node) ask(a ike.Ask) {
	if n.pending[a.ID] {
		n.w.fault("%s: asks twice under one ID", n.name)
	}
	n.pending[a.ID] = true
	answer := func(r ike.Reply) {
		delete(n.pending, a.ID)
		n.handle(ike.Answer{ID: a.ID, Value: r})
	}
	wait := n.w.upTo(30 * time.Millisecond)
	if _, isVouch := a.Question.(ike.Vouch); isVouch {
		wait = n.w.upTo(2 * time.Second) // a server elsewhere is asked
	}
	n.later(wait, func() {
		switch q := a.Question.(type) {
		case ike.Work:
			answer(q.Run())
		case ike.Usage:
			answer(ike.UsageReply{Heard: -1, Sent: -1})
		case ike.FindPaths:
			answer(n.findPaths(q))
		case ike.Configure:
			answer(ike.Configured{})
		case ike.Account:
			answer(ike.AccountReply{Account: &eap.Account{Password: suite.Secret(psk)}})
		case ike.Vouch:
			answer(ike.Vouched{})
		case ike.Staple:
			answer(ike.Stapled{})
		case ike.Admit:
			n.admit(q, answer)
		default:
			n.w.fault("%s: asks %T", n.name, q)
		}
	})
}

// findPaths is the one way from the host's address to each of the peer's.
func (n *node) findPaths(q ike.FindPaths) ike.PathsFound {
	var found ike.PathsFound
	for _, remote := range q.Remotes {
		found.Paths = append(found.Paths, ike.Path{
			Local: netip.AddrPortFrom(n.host.Addr(), n.ports[1]), Remote: netip.AddrPortFrom(remote, q.Path.Remote.Port()), Encap: true,
		})
	}
	return found
}

func (n *node) admit(q ike.Admit, answer func(ike.Reply)) {
	if q.InitialContact {
		for _, s := range n.engine.Statuses() {
			if s.SA != q.SA && s.State == "established" && s.Remote == q.Identity {
				n.handle(ike.Terminate{SA: s.SA, Reason: "the peer started anew", Replaced: true})
			}
		}
	}
	var l ike.Lease
	if q.WantIPv4 {
		n.lease++
		l.Addresses = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, 0, byte(n.lease)}), 32)}
		l.DNS = []netip.Addr{netip.MustParseAddr("10.9.0.254")}
	}
	answer(ike.Admission{Lease: l})
}

func (n *node) report(what ike.Happening) {
	n.w.published(what)
	switch r := what.(type) {
	case ike.Established:
		n.w.note(n.name, "ESTABLISHED %v", r.Status.SPIi)
		n.checkEstablished(r.Status)
		n.up[r.Status.SA] = true
	case ike.Rekeyed:
		n.w.note(n.name, "REKEYED %x by %x", r.Old, r.New)
		if !n.up[r.Old] {
			n.w.fault("%s: SA %x is rekeyed, which was not up", n.name, r.Old)
		}
		if n.sas[r.New] {
			n.w.fault("%s: the SPI %x is used again", n.name, r.New)
		}
		delete(n.up, r.Old)
		n.up[r.New], n.sas[r.New] = true, true
		n.w.rekeyed++
	case ike.RekeyFailed:
		n.w.note(n.name, "rekey of %q failed: %v", r.Name, errText(r.Err))
	case ike.Down:
		n.w.note(n.name, "DOWN %s %v", r.Reason, errText(r.Err))
		if n.up[r.SA] != r.Established {
			n.w.fault("%s: Down says established %v, reported was %v", n.name, r.Established, n.up[r.SA])
		}
		delete(n.up, r.SA)
		n.downs = append(n.downs, r)
	case ike.PathChanged:
		n.moves++
	case ike.ChildFailed:
		n.w.note(n.name, "child %s failed: %v", r.Name, errText(r.Err))
	case ike.Warned:
		n.w.note(n.name, "warning: %s", r.Text)
	case ike.Refused:
		n.w.note(n.name, "refused %v %v", r.Reason, r.Err)
	case ike.Alive:
		if n.crossing.alive != nil {
			n.crossing.alive[r.SA] = true
		}
	case ike.PathMTU:
		n.w.note(n.name, "packets of %d octets pass: %v", r.Size, r.Passed)
		n.w.probed++
		if r.Passed && n.w.sc.mtu > 0 && r.Size > n.w.sc.mtu {
			n.w.fault("%s: says that %d octets pass where %d do", n.name, r.Size, n.w.sc.mtu)
		}
	case ike.StageDone, ike.ChildUp, ike.ChildDown, ike.ChildStands:
	default:
		n.w.fault("%s: reports %T", n.name, r)
	}
}

func errText(e *ike.Error) string {
	if e == nil {
		return ""
	}
	return e.Error()
}

// initiate opens the connection to the other side.
func (n *node) initiate(to *node) {
	n.w.note(n.name, "initiate")
	path := func(i int) ike.Path {
		return ike.Path{
			Local:  netip.AddrPortFrom(n.host.Addr(), n.ports[i]),
			Remote: netip.AddrPortFrom(to.w.publicAddr(to), to.ports[i]),
			Encap:  i == 1,
		}
	}
	n.handle(ike.Initiate{Connection: connection, Path: path(0), Encap: path(1)})
}

// probe looks for the MTU of the newest IKE SA's path.
func (n *node) probe() {
	if up := n.established(); len(up) > 0 {
		n.w.note(n.name, "probe the MTU")
		n.handle(ike.ProbeMTU{SA: up[len(up)-1].SA, Low: 1280, High: 1500})
	}
}

// rekey replaces the newest IKE SA by command.
func (n *node) rekey() {
	if up := n.established(); len(up) > 0 {
		sa := up[len(up)-1].SA
		n.w.note(n.name, "rekey %x", sa)
		n.handle(ike.Rekey{SA: sa})
	}
}

// rekeyChild replaces the newest child by command.
func (n *node) rekeyChild() {
	if ids := n.installed(); len(ids) > 0 {
		id := slices.Max(ids)
		n.w.note(n.name, "rekey child %d", id)
		n.handle(ike.Rekey{Child: id})
	}
}

func (n *node) established() []ike.Status {
	return slices.DeleteFunc(slices.Clone(n.engine.Statuses()), func(s ike.Status) bool { return s.State != "established" })
}
