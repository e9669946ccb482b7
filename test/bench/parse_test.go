package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseBenchmarks(t *testing.T) {
	got := parseBenchmarks(`goos: linux
pkg: martlet/esp
BenchmarkSeal/aes256gcm16-2         	  610324	       558.5 ns/op	2506.87 MB/s	       0 B/op	       0 allocs/op
BenchmarkSeal/aes256gcm16-2         	  610324	       500 ns/op	2506.87 MB/s	       1 B/op	       1 allocs/op
BenchmarkIdleMemory/PSK 	       6	 186517115 ns/op	      6234 B/SA
BenchmarkBroken-2
PASS
`)
	want := map[string]measurements{
		"Seal/aes256gcm16": {"ns/op": 500, "MB/s": 2506.87, "B/op": 0, "allocs/op": 0},
		"IdleMemory/PSK":   {"ns/op": 186517115, "B/SA": 6234},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := need(got, "Seal/aes256gcm16", "B/SA"); err == nil {
		t.Error("what is not there was found")
	}
}

func TestParseMemory(t *testing.T) {
	m, err := parseMemory("Name:\tmartlet\nVmHWM:\t    2100 kB\nVmRSS:\t    2068 kB\nThreads:\t1\n", "VmRSS", "VmHWM")
	if diff := cmp.Diff([]uint64{2068 * 1024, 2100 * 1024}, m); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if _, err := parseMemory("Name:\tmartlet\nState:\tZ (zombie)\n", "VmRSS"); err == nil {
		t.Error("a zombie has memory")
	}
}

// TestChildren: a process that this one started is found.
func TestChildren(t *testing.T) {
	child := exec.CommandContext(t.Context(), "cat")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	children, err := childrenOf(os.Getpid())
	if err != nil || !slices.Contains(children, child.Process.Pid) {
		t.Errorf("%v, %v: no %d", children, err, child.Process.Pid)
	}
	if err := errors.Join(in.Close(), child.Wait()); err != nil {
		t.Error(err)
	}
}

func TestGrowth(t *testing.T) {
	for _, c := range []struct {
		early, late     uint64
		growth, allowed float64
	}{
		{16 << 20, 18 << 20, 1.125, 1.25}, // 4 MiB
		{100 << 20, 110 << 20, 1.1, 1.1},  // a tenth
	} {
		if growth, allowed := growthOf(c.early, c.late); growth != c.growth || allowed != c.allowed {
			t.Errorf("%d to %d: %v of %v", c.early, c.late, growth, allowed)
		}
	}
}

func TestMedianTrip(t *testing.T) {
	var b strings.Builder
	for i := range pings {
		fmt.Fprintf(&b, "64 bytes from 10.98.2.1: icmp_seq=%d ttl=64 time=0.%03d ms\n", i+1, 200+i%3)
	}
	if got, err := medianTrip(b.String()); err != nil || got != 201 {
		t.Error(got, err)
	}
	if _, err := medianTrip("64 bytes from 10.98.2.1: icmp_seq=1 ttl=64 time=0.2 ms\n"); err == nil {
		t.Error("one echo of many is enough")
	}
}

// TestIperfReport: what the server counted is not what the client thinks.
func TestIperfReport(t *testing.T) {
	r := &iperfReport{}
	if err := json.Unmarshal([]byte(`{
		"end": {"sum": {"seconds": 2, "packets": 600, "lost_packets": 10}, "sum_received": {"bits_per_second": 1e9}},
		"server_output_json": {"end": {"sum": {"seconds": 2.5, "packets": 590, "lost_packets": 90}}}}`), r); err != nil {
		t.Fatal(err)
	}
	s := r.Server.End.Sum
	if s.Packets-s.Lost != 500 || s.Seconds != 2.5 || r.End.Received.BitsPerSecond != 1e9 {
		t.Errorf("%+v", r)
	}
}

func TestProcessor(t *testing.T) {
	if got := processor("processor\t: 0\nmodel name\t: Fast: one\n"); got != "Fast: one" {
		t.Error(got)
	}
	if got := processor(""); got != "unknown processor" {
		t.Error(got)
	}
}

func TestListens(t *testing.T) {
	if listens(os.Getpid(), 1) {
		t.Error("somebody listens on port 1")
	}
}

// TestFigures: each is measured somewhere, by sides that the trial has.
func TestFigures(t *testing.T) {
	sides := map[string][]string{}
	for _, tr := range (&bench{}).trials() {
		for _, s := range tr.sides {
			sides[tr.name] = append(sides[tr.name], s.name)
		}
	}
	ids := map[string]bool{}
	for _, f := range figures {
		if ids[f.id] {
			t.Errorf("two figures are called %s", f.id)
		}
		ids[f.id] = true
		for _, s := range f.sides() {
			if !strings.Contains(strings.Join(sides[f.trial], "\n"), s) {
				t.Errorf("%s: trial %s has no side %s", f.id, f.trial, s)
			}
		}
	}
}

func TestChoose(t *testing.T) {
	for only, want := range map[string]int{"": len(figures), "^tcp$": 1, "^seal$|^open$": 2} {
		got, err := choose(only)
		if err != nil || len(got) != want {
			t.Errorf("%q: %d figures, %v", only, len(got), err)
		}
	}
	for _, only := range []string{"(", "no such figure"} {
		if _, err := choose(only); err == nil {
			t.Errorf("%q was taken", only)
		}
	}
}
