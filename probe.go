package martlet

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"martlet/crypto/suite"
	"martlet/ike"
	"martlet/ike/probe"
)

// Prober asks a gateway what it takes and by which ways it can be reached, by IKE_SA_INIT alone: no
// credentials, no configuration and no privilege are needed (see package ike/probe). It sends some 30
// short requests, one after the other but for the first of each way, and leaves the gateway one
// half-open SA as a rule.
type Prober struct {
	// Host is the gateway's name or address.
	Host string
	// Port is the gateway's UDP port; 0 is both 500 and 4500.
	Port uint16
	// TCPPort is its TCP port (RFC 9329); 0 is 4500.
	TCPPort uint16
	// Control prepares each socket before it is connected, as that of net.Dialer does, to keep it out
	// of a tunnel for example; nil is none.
	Control func(network, address string, c syscall.RawConn) error
	// Proposals are what is offered as our own; nil is our default.
	Proposals []suite.Proposal
	// Patience is how long an answer is waited for, repetitions within; 0 is 4 s.
	Patience time.Duration
	// Pause is between two questions; 0 is 50 ms, less is none.
	Pause time.Duration
}

// maxProbed is how many addresses of a name are asked.
const maxProbed = 4

// aliveRounds is how many round trips are taken of each way.
const aliveRounds = 3

// ProbeReport is what a Prober found.
type ProbeReport struct {
	Host      string       `json:"host"`
	Addresses []netip.Addr `json:"addresses"`
	Ways      []ProbeWay   `json:"ways"`
	// Gateway is what answers by the first way that works; nil where none does.
	Gateway *ProbeGateway `json:"gateway,omitempty"`
	// Notes are what a person should know of the ways, a sentence each.
	Notes []string `json:"notes,omitempty"`
}

// ProbeWay is one way to one address.
type ProbeWay struct {
	Transport string         `json:"transport"` // "udp" or "tcp"
	Remote    netip.AddrPort `json:"remote"`
	Answered  bool           `json:"answered"`
	RoundTrip time.Duration  `json:"round_trip_ns,omitempty"` // the median of what was measured
	Cookie    bool           `json:"cookie_asked"`
	Why       string         `json:"why,omitempty"` // it does not answer
}

// String is the transport and the port.
func (w ProbeWay) String() string {
	return fmt.Sprintf("%s %d", strings.ToUpper(w.Transport), w.Remote.Port())
}

// Probe asks. Where no way is answered the error is an *Error of the class network, and the report is
// there all the same; it is nil where the name has no address or ctx ended.
func (p *Prober) Probe(ctx context.Context) (*ProbeReport, error) {
	addrs, err := p.resolve(ctx)
	if err != nil {
		return nil, err
	}
	report := &ProbeReport{Host: p.Host, Addresses: addrs}
	lines := p.lines(addrs)
	defer func() {
		for _, l := range lines {
			l.close()
		}
	}()
	var asking sync.WaitGroup
	for _, l := range lines {
		asking.Go(func() { l.alive(ctx) })
	}
	asking.Wait()
	for _, l := range lines {
		report.Ways = append(report.Ways, l.way)
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	first := slices.IndexFunc(report.Ways, func(w ProbeWay) bool { return w.Answered })
	if first < 0 {
		return report, errNothingAnswers(report)
	}
	best := lines[first]
	report.Notes = notesOf(report.Ways)
	survey := probe.Take(p.proposals(), func(q probe.Question) (*probe.Answer, error) { return best.ask(ctx, q) })
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	best.measure()
	report.Ways[first] = best.way
	report.Gateway = newProbeGateway(best.way, survey)
	return report, nil
}

func (p *Prober) proposals() []suite.Proposal {
	if p.Proposals != nil {
		return p.Proposals
	}
	return suite.DefaultIKE(suite.RolePeer, suite.PostQuantumPrefer)
}

// resolve finds the addresses.
func (p *Prober) resolve(ctx context.Context) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(p.Host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", p.Host)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, &Error{
			Code: ike.CodeResolve,
			What: "the gateway's name has no address: " + p.Host,
			Why:  err.Error(),
			Hint: "check the name and that this host's DNS works, or name an address",
		}
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	return found[:min(len(found), maxProbed)], nil
}

// lines are the ways to all addresses, those by UDP first for each.
func (p *Prober) lines(addrs []netip.Addr) []*probeLine {
	udp := []uint16{ikePort, natPort}
	if p.Port != 0 {
		udp = []uint16{p.Port}
	}
	var out []*probeLine
	add := func(transport string, a netip.Addr, port uint16) {
		out = append(out, &probeLine{prober: p, way: ProbeWay{Transport: transport, Remote: netip.AddrPortFrom(a, port)}})
	}
	for _, a := range addrs {
		for _, port := range udp {
			add("udp", a, port)
		}
		add("tcp", a, cmp.Or(p.TCPPort, natPort))
	}
	return out
}

// answering are the ways that answer, or those that do not, each once.
func answering(ways []ProbeWay, yes bool) []string {
	var out []string
	for _, w := range ways {
		if w.Answered == yes && !slices.Contains(out, w.String()) {
			out = append(out, w.String())
		}
	}
	return out
}

// notesOf is what follows from which ways are answered and which not.
func notesOf(ways []ProbeWay) []string {
	yes, no := answering(ways, true), answering(ways, false)
	answers := func(w string) bool { return slices.Contains(yes, w) }
	var notes []string
	switch {
	case answers("UDP 500") && slices.Contains(no, "UDP 4500") && !answers("UDP 4500"):
		notes = append(notes, "UDP 500 is answered and UDP 4500 is not: something on the way blocks it, and a tunnel goes through it, or through TCP")
	case !slices.ContainsFunc(yes, func(w string) bool { return strings.HasPrefix(w, "UDP") }):
		notes = append(notes, "only TCP is answered: something on the way blocks UDP")
	}
	for _, v4 := range []bool{true, false} {
		of := slices.DeleteFunc(slices.Clone(ways), func(w ProbeWay) bool { return w.Remote.Addr().Is4() != v4 })
		if len(of) > 0 && len(answering(of, true)) == 0 {
			notes = append(notes, "nothing is answered by "+familyName(v4)+": a client that tries these addresses first is late")
		}
	}
	return notes
}

func familyName(v4 bool) string {
	if v4 {
		return "IPv4"
	}
	return "IPv6"
}

// errNothingAnswers tells which ways are blocked, as far as can be told from here.
func errNothingAnswers(r *ProbeReport) *Error {
	e := &Error{
		Code: ike.CodeUnreachable,
		What: fmt.Sprintf("%s answers on none of %s", r.Host, strings.Join(answering(r.Ways, false), ", ")),
		Hint: "is this the right host? then UDP 500 and 4500 are blocked on the way, and TCP too: ask who runs the firewalls of this network and of the gateway; try from another network",
	}
	var whys []string
	refused := false
	for _, w := range r.Ways {
		refused = refused || w.Why == whyRefused
		whys = append(whys, fmt.Sprintf("%v %v: %s", w.Remote.Addr(), w, w.Why))
	}
	e.Why = strings.Join(whys, "; ")
	switch {
	case refused:
		e.Hint = "a host is there and says itself that nothing listens where it refuses: is IKE running there, and on these ports? --port names another one. What gives no answer at all is blocked on the way"
	case slices.ContainsFunc(r.Ways, func(w ProbeWay) bool { return w.Why == whyIKEv1 }):
		e.Hint = "switch IKEv2 on at the gateway: nothing newer than 2010 needs IKEv1"
	}
	return e
}
