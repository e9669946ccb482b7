package main

import (
	"maps"
	"testing"
)

// TestJourney: from each leg's end another network is entered, each way of changing is gone there and
// back, and a round ends where it begins.
func TestJourney(t *testing.T) {
	at, ways := home, map[string]int{}
	for i, l := range journey {
		if l.to == at {
			t.Errorf("leg %d changes nothing", i)
		}
		at = l.to
		ways[l.way]++
	}
	if at != home {
		t.Errorf("the next round begins at %s10", at)
	}
	if !maps.Equal(ways, map[string]int{"switch": 2, "address": 2, "NAT": 2}) {
		t.Errorf("the ways are %v", ways)
	}
}

// TestSummary: percentiles are of all changes, and by way; what was not changed often enough tells
// nothing.
func TestSummary(t *testing.T) {
	var all []outage
	for i := range roamChanges {
		all = append(all, outage{Way: journey[i%2*2].way, Download: float64(100 + i), Tunnel: float64(10 + i), Calm: 5})
	}
	v, err := summary(all)
	if err != nil {
		t.Fatal(err)
	}
	want := values{
		"download p50": 124, "download p95": 147, "download max": 149,
		"tunnel p50": 34, "tunnel p95": 57, "tunnel max": 59, "calm p95": 5,
		"download p95, switch": 146, "download p95, address": 147,
	}
	if !maps.Equal(v, want) {
		t.Errorf("%v, want %v", v, want)
	}
	if _, err := summary(all[1:]); err == nil {
		t.Error("49 changes were taken for 50")
	}
}
