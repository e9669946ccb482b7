package martlet

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"martlet/config"
	"martlet/ike"
	"martlet/tun/netmon/portal"
)

// Doctor examines this host and the way to a gateway: why a tunnel does not come up, or would not.
// It changes nothing.
type Doctor struct {
	// Config, if not nil, says what is wanted of this host.
	Config *config.Config
	// Connection names one of Config, to whose gateway the way is examined; empty is none.
	Connection string
	// Host is a gateway's name or address, in place of Connection; empty is none.
	Host string
	// Control is the path of the control socket of a martlet that may be running.
	Control string
	// State is the folder where what must be undone after a crash is noted.
	State string
	// Patience is as that of a Prober.
	Patience time.Duration

	probes []portal.Probe // by which a captive portal is looked for; none: those that all use
}

// Result is the outcome of a check.
type Result string

// The outcomes.
const (
	ResultOK   Result = "ok"
	ResultWarn Result = "warn" // it works, or may, and could be better
	ResultFail Result = "fail" // it does not work
	ResultSkip Result = "skip" // it cannot be told here
)

// Finding is what a check found.
type Finding struct {
	Check  string `json:"check"`
	Result Result `json:"result"`
	Text   string `json:"text"`           // what was found
	Hint   string `json:"hint,omitempty"` // what to do
	// Network says that the fault is not of this host but of the network or the gateway.
	Network bool `json:"network,omitempty"`
}

// Examine makes all checks that can be made. The error is of what was asked for: a connection that
// is not there, or ctx that ended.
func (d *Doctor) Examine(ctx context.Context) ([]Finding, error) {
	way, err := d.way()
	if err != nil {
		return nil, err
	}
	facts := gather(ctx, d)
	var found []Finding
	for _, check := range hostChecks {
		found = append(found, check(facts)...)
	}
	for _, check := range certificateChecks {
		found = append(found, check(d.Config, facts.now)...)
	}
	if way != nil {
		found = append(found, way.examine(ctx)...)
	}
	return found, context.Cause(ctx)
}

// Verdict is an *Error that sums failures up, of the class of this host's faults if there is any of
// these, else of the network's; nil where nothing failed.
func Verdict(found []Finding) error {
	var failed []string
	host := false
	for _, f := range found {
		if f.Result == ResultFail {
			failed = append(failed, f.Check)
			host = host || !f.Network
		}
	}
	if len(failed) == 0 {
		return nil
	}
	e := &Error{
		Code: ike.CodeUnreachable,
		What: fmt.Sprintf("%d of %d checks failed: %s", len(failed), len(found), strings.Join(failed, ", ")),
		Hint: "see the lines above",
	}
	if host {
		e.Code = ike.CodeHost
	}
	return e
}

// way is what is to be examined of the way to a gateway; nil for none.
func (d *Doctor) way() (*doctorWay, error) {
	prober := Prober{Host: d.Host, Patience: d.Patience}
	if d.Connection == "" {
		if d.Host == "" {
			return nil, nil
		}
		return &doctorWay{hosts: []Prober{prober}}, nil
	}
	var conn *config.Connection
	if d.Config != nil {
		conn = d.Config.Connections[d.Connection]
	}
	if conn == nil {
		e := &Error{
			Code: ike.CodeNoConnection,
			What: fmt.Sprintf("no connection is called %q", d.Connection),
			Hint: "name one of the configuration",
		}
		if d.Config != nil {
			e.Why = "the configuration has: " + strings.Join(slices.Sorted(maps.Keys(d.Config.Connections)), ", ")
		}
		return nil, e
	}
	w := &doctorWay{connection: conn}
	if conn.Port != ikePort {
		prober.Port = conn.Port
	}
	prober.TCPPort, prober.Proposals = conn.TCPPort, conn.IKE
	if mayConfigureHost() {
		prober.Control = wayOf(d.Config).Control // past a tunnel and a kill switch
	}
	for _, host := range conn.Remote {
		prober.Host = host
		w.hosts = append(w.hosts, prober)
	}
	return w, nil
}

// finding makes a Finding.
func finding(check string, r Result, text string, hint ...string) []Finding {
	return []Finding{{Check: check, Result: r, Text: text, Hint: strings.Join(hint, " ")}}
}

// asks tells what the configuration wants of this host.
type asks struct {
	device  bool // a TUN device
	forward bool // packets of others pass
	name    string
	mark    uint32
}

func wants(c *config.Config) asks {
	if c == nil {
		return asks{name: "martlet0"}
	}
	a := asks{name: cmp.Or(c.Node.Device, "martlet0"), mark: c.Node.Mark}
	userspace, _ := InProcess(c)
	a.device = !userspace
	for _, conn := range c.Connections {
		a.forward = a.forward || a.device && len(conn.Pool) > 0
		for _, child := range conn.Children {
			a.forward = a.forward || a.device && len(child.LocalTS) > 0
		}
	}
	return a
}
