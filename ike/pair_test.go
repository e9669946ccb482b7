package ike

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet/crypto/suite"
	"martlet/ike/eap"
	"martlet/ike/message"
)

// world is a network of engines in simulated time.
type world struct {
	noUDP, noTCP bool           // is dropped, or refused
	streams      map[Path]*host // that stand, by their path at whom opened it
	ports        uint16         // of streams
	t            testing.TB
	now          time.Time
	nodes        []*host
	wires        []*flight
	order        int
	trace        []string

	delay time.Duration
	// fate decides about a datagram: how many copies arrive. nil is one.
	fate func(from *host, s Send) int
	// nat rewrites the source address of what a host sends.
	nat map[netip.AddrPort]netip.AddrPort
}

// flight is a datagram, or an answer to an Ask, on its way.
type flight struct {
	at    time.Time
	order int
	to    *host
	ev    Event
}

// host is an engine with a runner that answers its questions.
type host struct {
	w    *world
	name string
	addr netip.Addr
	more []netip.Addr // further addresses
	e    *Engine

	reports   []Happening
	sent      []Send
	installed map[ChildID]*Child
	retired   map[ChildID]*Child // that still take what comes late
	sends     map[string]ChildID // by name, the child that was switched to
	everSPI   map[uint32]bool
	asked     []Question
	admit     func(Admit) Admission
	configure func(Configure) Configured
	usage     func(Usage) UsageReply
	vouch     func(Vouch) Reply // nil: no answer
	staple    []byte
	accounts  map[string]string // name to password
	person    func(Credential) CredentialReply
	relay     func(Relay) Relayed
	withheld  []Ask
	mute      bool // answers to Asks are withheld
	offline   bool // it has no network
	watch     func(Action)
}

var epoch = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func newWorld(t testing.TB) *world {
	w := &world{t: t, now: epoch, delay: 10 * time.Millisecond, nat: map[netip.AddrPort]netip.AddrPort{}}
	t.Cleanup(func() {
		if t.Failed() && len(w.trace) > 0 {
			t.Log("\n" + strings.Join(w.trace[max(0, len(w.trace)-160):], "\n"))
		}
	})
	return w
}

func (w *world) add(name, addr string, cfg *Config) *host {
	h := &host{w: w, name: name, addr: netip.MustParseAddr(addr), e: New(cfg), installed: map[ChildID]*Child{}, retired: map[ChildID]*Child{}, sends: map[string]ChildID{}, everSPI: map[uint32]bool{}}
	w.nodes = append(w.nodes, h)
	return h
}

// path is how h reaches another host on the ports 500, or 4500 with encapsulation.
func (h *host) path(to *host, encap bool) Path {
	port := uint16(500)
	if encap {
		port = 4500
	}
	return Path{Local: netip.AddrPortFrom(h.addr, port), Remote: netip.AddrPortFrom(to.addr, port), Encap: encap}
}

func (h *host) initiate(conn string, to *host) {
	h.handle(Initiate{Connection: conn, Path: h.path(to, false), Encap: h.path(to, true)})
}

// handle gives an event to the engine and does what it wants.
func (h *host) handle(ev Event) {
	for _, a := range slices.Clone(h.e.Handle(h.w.now, ev)) {
		h.do(a)
	}
}

// poke does something to the only SA of h that no event does, and what comes of it.
func (h *host) poke(f func(s *ikeSA)) {
	s := engineOf(h)
	h.e.now, h.e.acts = h.w.now, nil
	h.e.enter("poke", s)
	f(s)
	for _, a := range slices.Clone(h.e.acts) {
		h.do(a)
	}
}

func (h *host) do(a Action) {
	w := h.w
	if h.watch != nil {
		h.watch(a)
	}
	switch a := a.(type) {
	case Send:
		h.sent = append(h.sent, a)
		w.log("%s -> %v %s", h.name, a.Path.Remote, describe(a))
		if a.Keepalive {
			return
		}
		copies := 1
		if w.fate != nil {
			copies = w.fate(h, a)
		}
		for range copies {
			w.carry(a)
		}
	case Install:
		if _, twice := h.installed[a.Child.ID]; twice {
			w.t.Errorf("%s: child %d installed twice", h.name, a.Child.ID)
		}
		if h.everSPI[a.Child.SPIIn] {
			w.t.Errorf("%s: SPI %08x used twice", h.name, a.Child.SPIIn)
		}
		h.everSPI[a.Child.SPIIn] = true
		h.installed[a.Child.ID] = a.Child
		w.log("%s installs child %s %x", h.name, a.Child.Name, a.Child.ID)
	case Switch:
		c, ok := h.installed[a.Child]
		if !ok {
			w.t.Fatalf("%s: switched to a child that is not installed", h.name)
		}
		h.sends[c.Name] = c.ID
		w.log("%s switches to child %x", h.name, a.Child)
	case Retire:
		c, ok := h.installed[a.Child]
		if !ok {
			w.t.Errorf("%s: retired a child that is not installed", h.name)
		}
		delete(h.installed, a.Child)
		h.retired[a.Child] = c
		w.log("%s retires child %x", h.name, a.Child)
	case Remove:
		if h.installed[a.Child] == nil && h.retired[a.Child] == nil {
			w.t.Errorf("%s: removed a child that is not installed", h.name)
		}
		delete(h.installed, a.Child)
		delete(h.retired, a.Child)
		w.log("%s removes child %x", h.name, a.Child)
	case Move:
		h.installed[a.Child].Path = a.Path
	case Ask:
		h.asked = append(h.asked, a.Question)
		if h.mute {
			h.withheld = append(h.withheld, a)
			return
		}
		if r := h.reply(a.Question); r != nil {
			w.post(0, h, Answer{ID: a.ID, Value: r})
		}
	case Report:
		h.reports = append(h.reports, a.What)
		w.log("%s reports %T %s", h.name, a.What, reportText(a.What))
	}
}

func (h *host) reply(q Question) Reply {
	switch q := q.(type) {
	case Work:
		return q.Run()
	case Admit:
		if h.admit != nil {
			return h.admit(q)
		}
		return Admission{}
	case Configure:
		if h.configure != nil {
			return h.configure(q)
		}
		return Configured{}
	case Vouch:
		if h.vouch != nil {
			return h.vouch(q)
		}
		return Vouched{}
	case Staple:
		return Stapled{OCSP: h.staple}
	case Reach:
		for _, to := range h.w.nodes {
			if to.addr == q.To.Addr || to.name == q.To.Name {
				if q.Stream {
					p := h.w.openStream(h, OpenStream{Remote: to.addr}).(StreamOpened).Path
					return Reached{Path: p, Encap: p}
				}
				return Reached{Path: h.path(to, false), Encap: h.path(to, true)}
			}
		}
		return Reached{Err: fmt.Errorf("no host is called %v", q.To)}
	case FindPaths:
		return h.findPaths(q)
	case OpenStream:
		return h.w.openStream(h, q)
	case Usage:
		if h.usage != nil {
			return h.usage(q)
		}
		return UsageReply{Heard: -1, Sent: -1}
	case Account:
		if password, ok := h.accounts[q.Name]; ok {
			return AccountReply{Account: &eap.Account{Password: suite.Secret(password)}}
		}
		return AccountReply{}
	case Credential:
		if h.person != nil {
			return h.person(q)
		}
		return CredentialReply{Err: errors.New("nobody is here")}
	case Relay:
		return h.relay(q)
	}
	h.w.t.Fatalf("unknown question %T", q)
	return nil
}

// addresses are all that the host has, the best first.
func (h *host) addresses() []netip.Addr { return append([]netip.Addr{h.addr}, h.more...) }

// findPaths pairs the host's addresses with those of the peer.
func (h *host) findPaths(q FindPaths) PathsFound {
	var found PathsFound
	for _, remote := range q.Remotes {
		for _, local := range h.addresses() {
			if h.offline || local.Is4() != remote.Is4() {
				continue
			}
			found.Paths = append(found.Paths, Path{
				Local: netip.AddrPortFrom(local, 4500), Remote: netip.AddrPortFrom(remote, q.Path.Remote.Port()), Encap: true,
			})
		}
	}
	return found
}

// move gives the host other addresses and tells its engine.
func (h *host) move(addrs ...string) {
	h.more = nil
	for i, s := range addrs {
		if a := netip.MustParseAddr(s); i == 0 {
			h.addr = a
		} else {
			h.more = append(h.more, a)
		}
	}
	h.w.log("%s has now %v", h.name, addrs)
	h.handle(Moved{Addresses: h.addresses()})
}

// carry brings a datagram to the host that has its destination address, if it comes from
// one that its sender has.
func (w *world) carry(a Send) {
	if a.Path.Stream {
		w.stream(a)
		return
	}
	if w.noUDP {
		return
	}
	from := a.Path.Local
	if !slices.ContainsFunc(w.nodes, func(h *host) bool { return !h.offline && slices.Contains(h.addresses(), from.Addr()) }) {
		w.log("%v is no address any more", from)
		return
	}
	if mapped, ok := w.nat[from]; ok {
		from = mapped
	}
	to := a.Path.Remote
	for inside, outside := range w.nat {
		if outside == to {
			to = inside
		}
	}
	for _, h := range w.nodes {
		if !h.offline && slices.Contains(h.addresses(), to.Addr()) {
			w.post(w.delay, h, Datagram{Path: Path{Local: to, Remote: from, Encap: a.Path.Encap}, Data: slices.Clone(a.Data)})
			return
		}
	}
}

func (w *world) post(after time.Duration, to *host, ev Event) {
	w.order++
	w.wires = append(w.wires, &flight{at: w.now.Add(after), order: w.order, to: to, ev: ev})
}

// step handles the next event and reports whether there was one before the limit.
func (w *world) step(limit time.Time) bool {
	var next *flight
	for _, f := range w.wires {
		if next == nil || f.at.Before(next.at) || f.at.Equal(next.at) && f.order < next.order {
			next = f
		}
	}
	var due *host
	var at time.Time
	for _, h := range w.nodes {
		if n := h.e.Next(); !n.IsZero() && (due == nil || n.Before(at)) {
			due, at = h, n
		}
	}
	switch {
	case next != nil && (due == nil || !at.Before(next.at)):
		if next.at.After(limit) {
			return false
		}
		w.now = maxTime(w.now, next.at)
		w.wires = slices.DeleteFunc(w.wires, func(f *flight) bool { return f == next })
		next.to.handle(next.ev)
	case due != nil:
		if at.After(limit) {
			return false
		}
		w.now = maxTime(w.now, at)
		due.handle(Tick{})
	default:
		return false
	}
	return true
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// run lets d pass.
func (w *world) run(d time.Duration) {
	w.t.Helper()
	limit := w.now.Add(d)
	for range 1_000_000 {
		if !w.step(limit) {
			w.now = limit
			return
		}
	}
	w.t.Fatal("the world does not come to rest")
}

func (w *world) log(format string, args ...any) {
	if len(w.trace) < 5000 {
		w.trace = append(w.trace, fmt.Sprintf("%8.3fs ", w.now.Sub(epoch).Seconds())+fmt.Sprintf(format, args...))
	}
}

func describe(a Send) string {
	if a.Keepalive {
		return "keepalive"
	}
	h, err := message.ParseHeader(a.Data)
	if err != nil {
		return err.Error()
	}
	kind := "request"
	if h.IsResponse() {
		kind = "response"
	}
	return fmt.Sprintf("%v %s %d, %d octets", h.Exchange, kind, h.MessageID, len(a.Data))
}

func reportText(r Happening) string {
	switch r := r.(type) {
	case Down:
		if r.Err != nil {
			return r.Reason + ": " + string(r.Err.Code) + ": " + r.Err.Why
		}
		return r.Reason
	case ChildFailed:
		return r.Err.Error() + ": " + r.Err.Why
	case Refused:
		return r.Reason.String()
	case Warned:
		return r.Text
	case Redirected:
		return r.To
	case RekeyFailed:
		return r.Name + " " + r.Err.Error() + ": " + r.Err.Why
	case Rekeyed:
		return fmt.Sprintf("%x by %x", r.Old, r.New)
	case ChildUp:
		return fmt.Sprintf("%x in place of %x", r.Child.ID, r.Replaces)
	case ChildDown:
		return fmt.Sprintf("%x: %s", r.Child, r.Reason)
	}
	return ""
}

// found returns the reports of type T.
func found[T Happening](h *host) []T {
	var out []T
	for _, r := range h.reports {
		if x, ok := r.(T); ok {
			out = append(out, x)
		}
	}
	return out
}

// downCode is the code with which the only SA ended; "" where it ended in order.
func (h *host) downCode() Code {
	h.w.t.Helper()
	downs := found[Down](h)
	if len(downs) != 1 {
		h.w.t.Fatalf("%s: %d reports of an end, want 1", h.name, len(downs))
	}
	if downs[0].Err == nil {
		return ""
	}
	return downs[0].Err.Code
}

func (h *host) count(d Drop) uint64 { return h.e.drops[d] }

// established returns the statuses of established SAs.
func (h *host) established() []Status {
	return slices.DeleteFunc(h.e.Statuses(), func(s Status) bool { return s.State != "established" })
}

func (h *host) onlyChild() *Child {
	h.w.t.Helper()
	if len(h.installed) != 1 {
		h.w.t.Fatalf("%s has %d children, want 1", h.name, len(h.installed))
	}
	for _, c := range h.installed {
		return c
	}
	return nil
}

// agree checks that both hosts have one SA and the same children with each other's
// keys.
func agree(t testing.TB, a, b *host, children int) {
	t.Helper()
	sa, sb := a.established(), b.established()
	if len(sa) != 1 || len(sb) != 1 {
		t.Fatalf("%s has %d SAs and %s %d, want one each", a.name, len(sa), b.name, len(sb))
	}
	if sa[0].SPIi != sb[0].SPIi || sa[0].SPIr != sb[0].SPIr {
		t.Fatal("the SAs are not the same")
	}
	if len(a.installed) != children || len(b.installed) != children || len(sa[0].Children) != children || len(sb[0].Children) != children {
		t.Fatalf("children: installed %d and %d, in status %d and %d, want %d", len(a.installed), len(b.installed), len(sa[0].Children), len(sb[0].Children), children)
	}
	for _, x := range a.installed {
		matched := false
		for _, y := range b.installed {
			if x.SPIIn != y.SPIOut || x.SPIOut != y.SPIIn {
				continue
			}
			matched = true
			if !sameKeys(x.In, y.Out) || !sameKeys(x.Out, y.In) || x.Suite != y.Suite {
				t.Error("keys or suites of a child differ")
			}
			if !slices.Equal(x.Local, y.Remote) || !slices.Equal(x.Remote, y.Local) {
				t.Errorf("selectors differ: %v %v, %v %v", x.Local, x.Remote, y.Local, y.Remote)
			}
		}
		if !matched {
			t.Errorf("child %s of %s has no counterpart", x.Name, a.name)
		}
	}
}

func sameKeys(a, b ChildKeys) bool {
	return string(a.Encr) == string(b.Encr) && string(a.Integ) == string(b.Integ) && len(a.Encr) > 0
}

// empty checks that nothing is left in an engine.
func empty(t testing.TB, hosts ...*host) {
	t.Helper()
	for _, h := range hosts {
		e := h.e
		if len(e.sas) != 0 || e.first != nil || e.last != nil || len(e.inits) != 0 || len(e.inbound) != 0 ||
			len(e.children) != 0 || len(e.asks) != 0 || len(e.timers) != 0 || e.seats != 0 || e.gate.total != 0 {
			t.Errorf("%s is not empty: %d SAs, %d inits, %d SPIs, %d children, %d asks, %d timers, %d half-open", h.name,
				len(e.sas), len(e.inits), len(e.inbound), len(e.children), len(e.asks), len(e.timers), e.gate.total)
		}
		if len(h.installed)+len(h.retired) != 0 {
			t.Errorf("%s: %d children still installed, %d retired", h.name, len(h.installed), len(h.retired))
		}
	}
}

func ikeProposals(t testing.TB, list ...string) []suite.Proposal {
	return parseProposals(t, suite.ProtocolIKE, list)
}

func espProposals(t testing.TB, list ...string) []suite.Proposal {
	return parseProposals(t, suite.ProtocolESP, list)
}

func parseProposals(t testing.TB, p suite.Protocol, list []string) []suite.Proposal {
	t.Helper()
	var out []suite.Proposal
	for _, s := range list {
		x, err := suite.ParseProposal(p, s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, x)
	}
	return out
}

func selectors(list ...string) []message.Selector {
	var out []message.Selector
	for _, s := range list {
		out = append(out, message.SelectorOf(netip.MustParsePrefix(s)))
	}
	return out
}
