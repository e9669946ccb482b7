package martlet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"martlet/config"
	"martlet/crypto/suite"
	"martlet/esp"
	"martlet/ike/probe"
)

// doctorWay is the way to the gateways of one connection, or to a host.
type doctorWay struct {
	connection *config.Connection // nil: of no configuration
	hosts      []Prober
}

func (w *doctorWay) examine(ctx context.Context) []Finding {
	if len(w.hosts) == 0 {
		return finding("gateway", ResultSkip, "the connection has no remote: its peers come to us")
	}
	var found []Finding
	for i := range w.hosts {
		p := &w.hosts[i]
		report, err := p.Probe(ctx)
		found = append(found, checkWays(p.Host, report, err)...)
		if err != nil || report.Gateway == nil {
			continue
		}
		found = append(found, checkProposals(w.connection, report.Gateway)...)
		found = append(found, checkNAT(report.Gateway)...)
		found = append(found, checkMTU(report.Gateway, p.ladder(ctx, report.Gateway))...)
	}
	return found
}

// ofNetwork makes a Finding that is not about this host.
func ofNetwork(check string, r Result, text, hint string) Finding {
	return Finding{Check: check, Result: r, Text: text, Hint: hint, Network: true}
}

func checkWays(host string, report *ProbeReport, err error) []Finding {
	if e, ok := errors.AsType[*Error](err); ok {
		return []Finding{ofNetwork("gateway", ResultFail, e.What+": "+e.Why, e.Hint)}
	}
	if err != nil {
		return []Finding{ofNetwork("gateway", ResultFail, err.Error(), "")}
	}
	found := []Finding{ofNetwork("gateway", ResultOK, fmt.Sprintf("%s answers on %s", host, strings.Join(answering(report.Ways, true), ", ")), "")}
	for _, note := range report.Notes {
		found = append(found, ofNetwork("gateway", ResultWarn, note, "ask who runs the firewalls on the way"))
	}
	return found
}

// checkProposals tells whether the algorithms of the two sides meet.
func checkProposals(conn *config.Connection, g *ProbeGateway) []Finding {
	whose := "martlet's default"
	if conn != nil {
		whose = "connection " + conn.Name
	}
	var found []Finding
	switch {
	case g.Own != "":
		found = finding("proposals", ResultOK, "of those of "+whose+" the gateway takes "+g.Own)
	case g.Chosen != "":
		found = finding("proposals", ResultFail, fmt.Sprintf("the gateway takes none of those of %s; of all that we know it chose %s", whose, g.Chosen),
			"have the gateway take a stronger one, or add what it takes to proposals of the connection")
	default:
		found = []Finding{ofNetwork("proposals", ResultFail, "the gateway takes nothing: its algorithms are none that we know, or it has no connection for the address of this host", "see what the gateway logs")}
	}
	for _, weak := range g.Weak {
		found = append(found, ofNetwork("proposals", ResultWarn, "the gateway takes what it should not: "+weak, "turn it off at the gateway"))
	}
	if g.Redirect != "" {
		found = append(found, ofNetwork("proposals", ResultOK, "the gateway sends clients to "+g.Redirect, ""))
	}
	return found
}

func checkNAT(g *ProbeGateway) []Finding {
	switch {
	case !g.Described:
		return nil
	case g.NAT == nil:
		return []Finding{ofNetwork("NAT", ResultFail, g.NAT.String(), "turn NAT traversal on at the gateway (UDP encapsulation, RFC 3948)")}
	}
	return []Finding{ofNetwork("NAT", ResultOK, g.NAT.String(), "")}
}

// rungs are the lengths of IP packets that are tried, in octets.
var rungs = []int{1280, 1400, 1460, 1500}

// ladder is what became of packets of growing length.
type ladder struct {
	passed int   // the longest that was answered; 0 is none
	lost   int   // the shortest that was not; 0: all were
	local  bool  // it is longer than the interface of this host takes
	err    error // it could not be tried
}

var errNoLadder = errors.New("only Linux sends what is longer than it thinks that passes")

// ladder sends requests that are filled up, and that nobody on the way may cut into fragments, until
// one is not answered.
func (p *Prober) ladder(ctx context.Context, g *ProbeGateway) ladder {
	prepare := dontFragment(p.Control)
	if prepare == nil {
		return ladder{err: errNoLadder}
	}
	if g.Transport != "udp" {
		return ladder{err: errors.New("TCP cuts what it carries to size itself")}
	}
	quick := *p
	if quick.Patience == 0 {
		quick.Patience = probePatience / 2
	}
	line := &probeLine{prober: &quick, way: ProbeWay{Transport: "udp", Remote: g.Remote}, prepare: prepare}
	if err := line.open(ctx); err != nil {
		return ladder{err: err}
	}
	defer line.close()
	header := 20 + 8
	if g.Remote.Addr().Is6() {
		header = 40 + 8
	}
	if g.Remote.Port() != ikePort {
		header += 4 // the non-ESP marker
	}
	var l ladder
	for _, size := range rungs {
		q := probe.Alive()
		q.Size = size - header
		if _, err := line.ask(ctx, q); err != nil {
			l.lost, l.local = size, errors.Is(err, syscall.EMSGSIZE)
			break
		}
		l.passed = size
	}
	return l
}

func checkMTU(g *ProbeGateway, l ladder) []Finding {
	inner := esp.InnerMTU(l.passed, g.Remote.Addr().Is6(), suite.Transform{ID: suite.EncrAESGCM16}, suite.Transform{})
	why := "something on the way drops what is longer, or the gateway takes no longer request"
	if l.local {
		why = "the interface of this host takes no longer ones"
	}
	switch {
	case l.err != nil:
		return finding("MTU", ResultSkip, l.err.Error())
	case l.lost == 0:
		return []Finding{ofNetwork("MTU", ResultOK, fmt.Sprintf("packets of %d octets reach the gateway whole", l.passed), "")}
	case l.passed == 0:
		return []Finding{ofNetwork("MTU", ResultWarn, fmt.Sprintf("not even a packet of %d octets is answered: %s", l.lost, why), "large packets through a tunnel will be lost: set node.mtu = 1200 if so")}
	}
	return []Finding{ofNetwork("MTU", ResultWarn, fmt.Sprintf("packets of %d octets reach the gateway whole, those of %d are not answered: %s", l.passed, l.lost, why),
		fmt.Sprintf("martlet finds out by itself how much passes; if pages still stop loading, set node.mtu = %d", inner))}
}
