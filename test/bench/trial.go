package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"
)

// bench is a run of the harness.
type bench struct {
	root    string // of the module
	dir     string // for everything that the run makes
	self    string // this program, for children in namespaces
	seconds int    // of each measurement
	built   built
	count   int // of networks
}

// trial is a measurement that several sides take in turn.
type trial struct {
	name  string
	once  bool // another round would give the same
	sides []side
}

type side struct {
	name string
	// measure sets up what it needs, measures, and takes it down again.
	measure func(context.Context) (values, error)
}

// trials are all of them.
func (b *bench) trials() []trial {
	tunnels := []struct {
		name string
		open opener
	}{{sideMartlet, b.openMartlet}, {sideWireguard, b.openWireguard}, {sideLibipsec, b.openLibipsec}}
	through := func(name string, measure func(context.Context, *tunnel) (values, error)) trial {
		t := trial{name: name}
		for _, s := range tunnels {
			t.sides = append(t.sides, side{s.name, func(ctx context.Context) (values, error) {
				return b.through(ctx, b.newNetwork, s.open, measure)
			}})
		}
		return t
	}
	socks := []struct {
		name  string
		start starter
	}{{sideMartlet, b.socksMartlet}, {sideMartletSmall, b.socksMartletSmall}, {sideWireguardSocks, b.socksWireguard}}
	throughSocks := func(name string, measure func(context.Context, *network, *process) (values, error)) trial {
		t := trial{name: name}
		for _, s := range socks {
			t.sides = append(t.sides, side{s.name, b.throughSocks(s.start, measure)})
		}
		return t
	}
	onTheRoad := func(open opener) func(context.Context) (values, error) {
		return func(ctx context.Context) (values, error) { return b.through(ctx, b.newRoads, open, b.roam) }
	}
	tests := func(name string, sides ...side) trial { return trial{name: name, sides: sides} }
	return []trial{
		through("tcp", b.tcpWithMemory),
		through("tcp4", b.tcp("-P", "4")),
		through("tcp-reverse", b.tcp("-R")),
		through("udp1200", b.udp(1200)),
		through("udp64", b.udp(64)),
		throughSocks("socks", b.socksRate("down", 1)),
		throughSocks("socks4", b.socksRate("down", 4)),
		throughSocks("socks-up", b.socksRate("up", 1)),
		throughSocks("socks4-up", b.socksRate("up", 4)),
		throughSocks("socks-memory", b.socksMemory),
		tests("esp", side{sideAEAD, b.espRaw}, side{sideMartlet, b.espOurs}),
		through("ping", b.ping),
		tests("ike", side{sideMartlet, b.ike}),
		tests("setup", side{sideMartlet, b.setupMartlet}, side{sideCharonCmd, b.setupCharonCmd}),
		tests("roam", side{sideMartlet, onTheRoad(b.openMartlet)}, side{sideToLibipsec, onTheRoad(b.openToLibipsec)}),
		through("overload", b.overload),
		{name: "binary", once: true, sides: []side{{sideMartlet, b.binary}}},
	}
}

// through opens a tunnel in a network, has something measured, and closes both.
func (b *bench) through(ctx context.Context, lay func(context.Context) (*network, error), open opener, measure func(context.Context, *tunnel) (values, error)) (values, error) {
	n, err := lay(ctx)
	if err != nil {
		return nil, err
	}
	defer n.close()
	t, err := open(ctx, n)
	if err == nil {
		err = t.answers(ctx)
	}
	if err != nil {
		return nil, n.blame(err)
	}
	v, err := measure(ctx, t)
	return v, n.blame(err)
}

// run measures what the figures need, in rounds. It ends early only when ctx does.
func (b *bench) run(ctx context.Context, wanted []figure, rounds int) *report {
	began := time.Now()
	r := &report{Machine: thisMachine(), Rounds: rounds, Seconds: b.seconds, Failed: []failure{}}
	found := map[string]map[string][]values{}
	needed := map[string][]string{}
	for _, f := range wanted {
		needed[f.trial] = append(needed[f.trial], f.sides()...)
	}
	for _, t := range b.trials() {
		if len(needed[t.name]) == 0 {
			continue
		}
		found[t.name] = map[string][]values{}
		for round := 1; round <= rounds && (round == 1 || !t.once); round++ {
			for _, s := range t.sides {
				if !slices.Contains(needed[t.name], s.name) || ctx.Err() != nil {
					continue
				}
				v, err := s.measure(ctx)
				found[t.name][s.name] = append(found[t.name][s.name], v)
				switch {
				case ctx.Err() != nil:
				case err != nil:
					r.Failed = append(r.Failed, failure{t.name, s.name, round, err.Error()})
					progress("%s, round %d, %s: could not be measured: %v", t.name, round, s.name, err)
				default:
					progress("%s, round %d, %s: %s", t.name, round, s.name, v)
				}
			}
		}
	}
	for _, f := range wanted {
		r.Figures = append(r.Figures, resultOf(&f, found[f.trial]))
	}
	r.Took = time.Since(began).Round(time.Second).Seconds()
	return r
}

// String lists values by name.
func (v values) String() string {
	var all []string
	for k, x := range v {
		all = append(all, k+" "+number(x))
	}
	sort.Strings(all)
	return strings.Join(all, ", ")
}

// progress goes to standard error: standard output is for the result.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// choose picks the figures whose name or id fits.
func choose(only string) ([]figure, error) {
	if only == "" {
		return figures, nil
	}
	re, err := regexp.Compile(only)
	if err != nil {
		return nil, fmt.Errorf("--only is no regular expression: %w", err)
	}
	var out []figure
	for _, f := range figures {
		if re.MatchString(f.id) || re.MatchString(f.name) {
			out = append(out, f)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("--only %q fits no figure; --list names them", only)
	}
	return out, nil
}
