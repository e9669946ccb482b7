package martlet

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"martlet/config"
	"martlet/ike"
	"martlet/tun/netmon/portal"
)

// told is findings in short: result, check and text of each.
func told(found []Finding) string {
	var lines []string
	for _, f := range found {
		lines = append(lines, string(f.Result)+" "+f.Check+": "+f.Text)
	}
	return strings.Join(lines, "\n")
}

// one wants a single finding, and something to do where it is bad.
func one(t *testing.T, name string, found []Finding, want Result, text string) {
	t.Helper()
	if len(found) != 1 || found[0].Result != want || !strings.Contains(found[0].Text, text) {
		t.Errorf("%s: %s; want %s with %q", name, told(found), want, text)
		return
	}
	if want == ResultFail && found[0].Hint == "" {
		t.Errorf("%s: %s, and nothing to do", name, told(found))
	}
}

// The exit status of the program rests on whose the faults are.
func TestVerdict(t *testing.T) {
	ok := Finding{Check: "a", Result: ResultOK}
	warn := Finding{Check: "b", Result: ResultWarn}
	skip := Finding{Check: "c", Result: ResultSkip}
	network := Finding{Check: "gateway", Result: ResultFail, Network: true}
	host := Finding{Check: "device", Result: ResultFail}
	for name, tt := range map[string]struct {
		found []Finding
		want  ike.Code
	}{
		"nothing failed": {[]Finding{ok, warn, skip}, ""},
		"the network":    {[]Finding{ok, network}, ike.CodeUnreachable},
		"this host":      {[]Finding{host, ok}, ike.CodeHost},
		"both":           {[]Finding{network, host}, ike.CodeHost},
	} {
		err := Verdict(tt.found)
		e, _ := errors.AsType[*Error](err)
		if (err == nil) != (tt.want == "") || e != nil && e.Code != tt.want {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// A host is examined as it is, and a gateway that serves beside it.
func TestExamine(t *testing.T) {
	gateway := startNode(t, true, gatewayText)
	d := &Doctor{Host: "127.0.0.1", State: t.TempDir()}
	way, err := d.way()
	if err != nil {
		t.Fatal(err)
	}
	way.hosts[0].Port, way.hosts[0].Pause = portOf(t, gateway, "127.0.0.1"), -1
	found := way.examine(testContext(t))
	got := told(found)
	for _, want := range []string{"ok gateway: 127.0.0.1 answers on UDP ", "ok proposals: of those of martlet's default", "ok NAT: none between"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if dontFragment(nil) != nil && !strings.Contains(got, "ok MTU: packets of 1500 octets reach the gateway whole") {
		t.Errorf("no MTU in\n%s", got)
	}
	d.Host = ""
	d.probes = []portal.Probe{{URL: "http://127.0.0.1:1/", Status: http.StatusNoContent}} // nobody is there
	found, err = d.Examine(testContext(t))
	if err != nil || len(found) < len(hostChecks)-1 || !strings.Contains(told(found), "skip captive portal: nobody answered") {
		t.Errorf("%v\n%s", err, told(found))
	}
}

// A network that answers in the place of others is told from one that does not; who does not want that to
// be asked, or has a tunnel, has nobody asked.
func TestExaminePortal(t *testing.T) {
	var asked atomic.Int32
	serve := func(h http.HandlerFunc) []portal.Probe {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			h(w, r)
		}))
		t.Cleanup(s.Close)
		return []portal.Probe{{URL: s.URL + "/generate_204", Status: http.StatusNoContent}}
	}
	login := serve(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://login.example/hotel", http.StatusFound)
	})
	open := serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	standing := Status{SAs: []SAStatus{{Since: time.Now()}}}
	for name, tt := range map[string]struct {
		probes  []portal.Probe
		node    config.Node
		running *Status
		asked   int32
		want    Result
		text    string
	}{
		"a portal":               {login, config.Node{}, nil, 1, ResultFail, "wants a login first, at http://login.example/hotel"},
		"an open network":        {open, config.Node{}, nil, 1, ResultOK, "the network wants none"},
		"one that is not up yet": {login, config.Node{}, &Status{SAs: []SAStatus{{}}}, 1, ResultFail, "http://login.example/hotel"},
		"a tunnel stands":        {login, config.Node{}, &standing, 0, ResultSkip, "a tunnel stands"},
		"it is unwanted":         {login, config.Node{NoPortalCheck: true}, nil, 0, ResultSkip, "node.no_portal_check"},
		"a kill switch":          {login, config.Node{KillSwitch: true}, nil, 0, ResultSkip, "kill switch"},
	} {
		asked.Store(0)
		f := &hostFacts{running: tt.running}
		f.askLogin(testContext(t), &Doctor{Config: &config.Config{Node: tt.node}, probes: tt.probes})
		found := checkLogin(f)
		one(t, name, found, tt.want, tt.text)
		if n := asked.Load(); n != tt.asked || found[0].Network != (tt.want == ResultFail) {
			t.Errorf("%s: %d asked, want %d: %+v", name, n, tt.asked, found)
		}
	}
}

func TestExamineOfAConnection(t *testing.T) {
	gateway := startNode(t, true, strings.Replace(gatewayText, "[connection.clients]", "[connection.clients]\nproposals = [\"aes128-sha256-modp2048\"]", 1))
	client := startNode(t, false, clientOf(gateway, netip.Addr.Is4))
	d := &Doctor{Config: client.Config, Connection: "office"}
	way, err := d.way()
	if err != nil {
		t.Fatal(err)
	}
	way.hosts[0].Pause, way.hosts[0].Control = -1, nil
	got := told(way.examine(testContext(t)))
	if want := "fail proposals: the gateway takes none of those of connection office; of all that we know it chose aes128-sha256-modp2048"; !strings.Contains(got, want) {
		t.Errorf("%s\nwant %s", got, want)
	}
	d.Connection = "none"
	if _, err := d.Examine(testContext(t)); err == nil || !errors.Is(err, &Error{Code: ike.CodeNoConnection}) {
		t.Errorf("a connection that is not there: %v", err)
	}
	if found := (&doctorWay{}).examine(t.Context()); len(found) != 1 || found[0].Result != ResultSkip {
		t.Errorf("peers that come to us: %s", told(found))
	}
}

func TestCheckWay(t *testing.T) {
	one(t, "no answer", checkWays("gw", nil, &Error{Code: ike.CodeUnreachable, What: "gw is silent", Why: "w", Hint: "h"}), ResultFail, "gw is silent: w")
	blocked := &ProbeReport{
		Ways:  []ProbeWay{{Transport: "udp", Answered: true}},
		Notes: []string{"UDP 4500 is blocked"},
	}
	if got := told(checkWays("gw", blocked, nil)); !strings.Contains(got, "warn gateway: UDP 4500 is blocked") {
		t.Error(got)
	}
	one(t, "no NAT traversal", checkNAT(&ProbeGateway{Described: true}), ResultFail, "no NAT traversal")
	one(t, "NAT", checkNAT(&ProbeGateway{Described: true, NAT: &ProbeNAT{Here: true}}), ResultOK, "this host is behind one")
	one(t, "takes nothing", checkProposals(nil, &ProbeGateway{}), ResultFail, "takes nothing")
	if got := told(checkProposals(nil, &ProbeGateway{Own: "x", Weak: []string{"modp1024: y"}})); !strings.Contains(got, "warn proposals: the gateway takes what it should not: modp1024") {
		t.Error(got)
	}
	g := &ProbeGateway{}
	one(t, "1500", checkMTU(g, ladder{passed: 1500}), ResultOK, "1500")
	one(t, "1400", checkMTU(g, ladder{passed: 1400, lost: 1460}), ResultWarn, "packets of 1400 octets reach the gateway whole, those of 1460 are not answered: something on the way")
	one(t, "small interface", checkMTU(g, ladder{passed: 1280, lost: 1400, local: true}), ResultWarn, "the interface of this host")
	one(t, "none", checkMTU(g, ladder{lost: 1280}), ResultWarn, "not even a packet of 1280")
	one(t, "not Linux", checkMTU(g, ladder{err: errNoLadder}), ResultSkip, "Linux")
	if hint := checkMTU(g, ladder{passed: 1400, lost: 1460})[0].Hint; !strings.Contains(hint, "node.mtu = 1338") {
		t.Errorf("the hint %q does not name what fits 1400 octets by IPv6 or IPv4", hint)
	}
}
