package firewall

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// fakePF is a host with pf: it does what pfctl(8) says that it does.
type fakePF struct {
	main    string
	on      bool
	tokens  []string
	anchors map[string]string
	flushed int                 // states
	fails   func([]string) bool // nil: nothing does
}

func (p *fakePF) pfctl(text string, args ...string) (string, error) {
	if p.fails != nil && p.fails(args) {
		return "", fmt.Errorf("pfctl %s: exit status 1", strings.Join(args, " "))
	}
	switch line := strings.Join(args, " "); {
	case line == "-s rules", line == "-s nat":
		return p.main, nil
	case line == "-s info":
		return map[bool]string{true: "Status: Enabled for 0 days\n", false: "Status: Disabled\n"}[p.on], nil
	case line == "-E":
		p.on = true
		p.tokens = append(p.tokens, fmt.Sprint(100+len(p.tokens)))
		return "pf enabled\nToken : " + p.tokens[len(p.tokens)-1] + "\n", nil
	case args[0] == "-X":
		i := slices.Index(p.tokens, args[1])
		if i < 0 {
			return "", errors.New("pfctl: no such token")
		}
		p.tokens = slices.Delete(p.tokens, i, i+1)
		p.on = len(p.tokens) > 0
	case line == "-e", line == "-d":
		p.on = line == "-e"
	case line == "-F states":
		p.flushed++
	case args[0] == "-a" && line == "-a "+args[1]+" -f -":
		if text == "" {
			delete(p.anchors, args[1])
		} else {
			p.anchors[args[1]] = text
		}
	case args[0] == "-a" && line == "-a "+args[1]+" -s rules":
		return p.anchors[args[1]], nil
	case args[0] == "-a" && line == "-a "+args[1]+" -s Anchors":
		var b strings.Builder
		for name := range p.anchors {
			if strings.HasPrefix(name, args[1]+"/") {
				fmt.Fprintf(&b, "  %s\n", name)
			}
		}
		return b.String(), nil
	default:
		return "", fmt.Errorf("pfctl: usage: %s", line)
	}
	return "", nil
}

func hostWithPF(g grammar) *fakePF {
	return &fakePF{main: fmt.Sprintf("scrub-anchor %[1]q all\nnat-anchor %[1]q all\nanchor %[1]q all\n", g.parent+"/*"), anchors: map[string]string{}}
}

func (p *fakePF) firewall(g grammar) *anchored {
	return &anchored{
		grammar: g, log: zap.NewNop(), run: p.pfctl,
		interfaces: func(string) []string { return []string{"em0"} },
	}
}

func TestAnchorComesAndGoes(t *testing.T) {
	for name, g := range map[string]grammar{"macOS": macOS, "FreeBSD": freeBSD, "OpenBSD": openBSD} {
		t.Run(name, func(t *testing.T) {
			host := hostWithPF(g)
			fw := host.firewall(g)
			r := roadWarrior()
			for range 2 {
				if err := fw.Set(r); err != nil {
					t.Fatal(err)
				}
			}
			label := labelOf(host.anchors[g.anchor("utun7")])
			if want := g.pf(r, around{label: label}); label == "" || !host.on || host.anchors[g.anchor("utun7")] != want {
				t.Errorf("enabled %v, anchors %q, want %q", host.on, host.anchors, want)
			}
			if host.flushed != 1 || len(host.tokens) > 1 {
				t.Errorf("states flushed %d times, tokens %q", host.flushed, host.tokens)
			}
			// A killed process: the next one takes over what it had, and undoes it.
			if err := fw.Leave(); err != nil {
				t.Fatal(err)
			}
			fw = host.firewall(g)
			if err := errors.Join(fw.Set(r), fw.Clear(), fw.Clear()); err != nil {
				t.Fatal(err)
			}
			if host.on || len(host.anchors) > 0 || len(host.tokens) > 0 {
				t.Errorf("left: %+v", host)
			}
		})
	}
}

func TestHoleOfAnAnchorClosesByASet(t *testing.T) {
	host := hostWithPF(openBSD)
	fw, r := host.firewall(openBSD), roadWarrior()
	for i, until := range []time.Time{time.Now().Add(MaxHole / 2), time.Unix(1, 0), {}} {
		r.HoleUntil = until
		if err := fw.Set(r); err != nil {
			t.Fatal(err)
		}
		if open := strings.Contains(host.anchors["martlet/utun7"], "port 443"); open != (i == 0) {
			t.Errorf("until %s: open %v", until, open)
		}
	}
	if host.flushed != 2 { // what the hole let out does not outlive it
		t.Errorf("states flushed %d times, want 2", host.flushed)
	}
}

func TestAnchorOfAnotherDevice(t *testing.T) {
	host := hostWithPF(freeBSD)
	fw := host.firewall(freeBSD)
	r := office()
	other := r
	other.Device = "tun1"
	if err := errors.Join(fw.Set(r), fw.Set(other)); err != nil {
		t.Fatal(err)
	}
	if host.anchors["martlet/tun0"] != "" || host.anchors["martlet/tun1"] == "" || !host.on {
		t.Errorf("%+v", host)
	}
}

func TestPFStaysOnForAnother(t *testing.T) {
	host := hostWithPF(openBSD)
	first, second := host.firewall(openBSD), host.firewall(openBSD)
	r := roadWarrior()
	other := r
	other.Device = "tun1"
	if err := errors.Join(first.Set(r), second.Set(other), first.Clear()); err != nil {
		t.Fatal(err)
	}
	if !host.on {
		t.Error("the kill switch of another went with the filter")
	}
}

func TestAnchorAfterAnError(t *testing.T) {
	host := hostWithPF(macOS)
	fw, r := host.firewall(macOS), roadWarrior()
	host.fails = func(args []string) bool { return slices.Contains(args, "-f") }
	if err := fw.Set(r); err == nil {
		t.Error("rules that were refused are in force")
	}
	if len(host.tokens) > 0 || host.on {
		t.Errorf("the token is kept: %+v", host)
	}
	host.fails = nil
	if err := fw.Set(r); err != nil {
		t.Fatal(err)
	}
	before := host.anchors[macOS.anchor("utun7")]
	host.fails = func(args []string) bool { return slices.Contains(args, "-f") }
	r.ClampMSS = 1300
	if err := fw.Set(r); err == nil || len(host.tokens) != 1 {
		t.Errorf("%v, tokens %q", err, host.tokens)
	}
	if diff := cmp.Diff(before, host.anchors[macOS.anchor("utun7")]); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

// Until old connections have ended a kill switch is not what it promises, and the next Set ends them.
func TestStatesOfPFAreFlushedAfterAnError(t *testing.T) {
	host := hostWithPF(freeBSD)
	fw, r := host.firewall(freeBSD), roadWarrior()
	host.fails = func(args []string) bool { return slices.Contains(args, "states") }
	if err := fw.Set(r); err == nil {
		t.Error("states are there still, and Set says nothing")
	}
	host.fails = nil
	if err := fw.Set(r); err != nil || host.flushed != 1 {
		t.Errorf("%v, flushed %d times", err, host.flushed)
	}
}

// What others have turned off since is on again.
func TestAnchorEnablesAgain(t *testing.T) {
	host := hostWithPF(openBSD)
	fw, r := host.firewall(openBSD), roadWarrior()
	if err := fw.Set(r); err != nil {
		t.Fatal(err)
	}
	host.on = false
	if err := fw.Set(r); err != nil || !host.on {
		t.Errorf("on %v, %v", host.on, err)
	}
}

func TestWithoutACallTheKillSwitchIsRefused(t *testing.T) {
	host := hostWithPF(openBSD)
	host.main = "pass all\n"
	core, logs := observer.New(zap.WarnLevel)
	fw, r := host.firewall(openBSD), roadWarrior()
	fw.log = zap.New(core)
	err := fw.Set(r)
	if err == nil || !strings.Contains(err.Error(), `anchor "martlet/*"`) || !strings.Contains(err.Error(), "pf.conf") || host.on {
		t.Errorf("got %v, on %v", err, host.on)
	}
	// Without a promise there is a warning, once.
	r.KillSwitch, r.Local = false, nil
	if err := errors.Join(fw.Set(r), fw.Set(r), fw.Clear()); err != nil || logs.Len() != 1 || len(host.anchors) > 0 {
		t.Errorf("%v, %+v, %q", err, logs.All(), host.anchors)
	}
}

func TestWarnsOfWhatPassesEarly(t *testing.T) {
	host := hostWithPF(openBSD)
	host.main = "pass in quick proto tcp from any to any port = 22\n" + host.main
	core, logs := observer.New(zap.WarnLevel)
	fw := host.firewall(openBSD)
	fw.log = zap.New(core)
	if err := errors.Join(fw.Set(roadWarrior()), fw.Set(roadWarrior())); err != nil {
		t.Fatal(err)
	}
	if all := logs.FilterField(zap.String("rule", "pass in quick proto tcp from any to any port = 22")); all.Len() != 1 || logs.Len() != 1 {
		t.Errorf("%+v", logs.All())
	}
}

func TestRecoverRemovesAnchorsOfTheKilled(t *testing.T) {
	for name, g := range map[string]grammar{"macOS": macOS, "OpenBSD": openBSD} {
		t.Run(name, func(t *testing.T) {
			host := hostWithPF(g)
			host.anchors[g.parent+"/200.AirDrop"] = "pass all\n"
			for _, device := range []string{"tun0", "tun1", "tun2"} {
				r := roadWarrior()
				r.Device = device
				if err := host.firewall(g).Set(r); err != nil {
					t.Fatal(err)
				}
			}
			alive := func(device string) bool { return device == "tun1" }
			for _, want := range []bool{true, false} {
				if found, err := host.firewall(g).recover("tun2", alive); err != nil || found != want {
					t.Errorf("found %v, %v; want %v", found, err, want)
				}
			}
			if len(host.anchors) != 3 || host.anchors[g.anchor("tun0")] != "" || !host.on {
				t.Errorf("left %+v", host)
			}
			host.fails = func([]string) bool { return true } // no pf at all
			if found, err := host.firewall(g).recover("", alive); err != nil || found {
				t.Errorf("without pf found %v, %v", found, err)
			}
		})
	}
}
