package main

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want *spread
	}{
		{nil, nil},
		{[]float64{3}, &spread{3, 3, 3}},
		{[]float64{3, 1, 2}, &spread{2, 1, 3}},
		{[]float64{4, 1, 2, 3}, &spread{2.5, 1, 4}},
	} {
		in := slices.Clone(c.in)
		if diff := cmp.Diff(c.want, spreadOf(c.in)); diff != "" {
			t.Errorf("%v: %s", c.in, diff)
		}
		if !slices.Equal(in, c.in) {
			t.Errorf("%v was changed to %v", in, c.in)
		}
	}
}

// TestRatioByRound: a round's ratio is of that round, and one in which a side failed has none.
func TestRatioByRound(t *testing.T) {
	f := &figure{key: "rate", peer: "peer", bar: 1.5}
	r := resultOf(f, map[string][]values{
		sideMartlet: {{"rate": 2}, {"rate": 30}, nil, {"rate": 9}},
		"peer":      {{"rate": 1}, {"rate": 10}, {"rate": 5}, {"rate": 0}},
	})
	if diff := cmp.Diff(&spread{2.5, 2, 3}, r.Ratio); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(&spread{9, 2, 30}, r.Value); diff != "" {
		t.Error(diff)
	}
	if !r.Met || r.Martlet[2] != nil || len(r.Peers) != 4 {
		t.Errorf("%+v", r)
	}
}

func TestMet(t *testing.T) {
	ours := func(v float64) map[string][]values {
		return map[string][]values{sideMartlet: {{"k": v, "allowed": 1.2}}, "peer": {{"k": 10}}}
	}
	for _, c := range []struct {
		name string
		f    figure
		v    float64
		want bool
	}{
		{"higher, at the bar", figure{bar: 1.5, peer: "peer"}, 15, true},
		{"higher, below", figure{bar: 1.5, peer: "peer"}, 14.9, false},
		{"lower, at the bar", figure{bar: 1, lower: true, peer: "peer"}, 10, true},
		{"lower, above", figure{bar: 1, lower: true, peer: "peer"}, 10.1, false},
		{"limit from below", figure{bar: 800, limit: true}, 900, true},
		{"limit from above", figure{bar: 18, limit: true, lower: true}, 19, false},
		{"none at all", figure{limit: true, lower: true}, 0, true},
		{"one, where none may be", figure{limit: true, lower: true}, 1, false},
		{"limit of the run", figure{limit: true, lower: true, barKey: "allowed", peer: "peer"}, 1.19, true},
		{"above the limit of the run", figure{limit: true, lower: true, barKey: "allowed", peer: "peer"}, 1.21, false},
	} {
		c.f.key = "k"
		if r := resultOf(&c.f, ours(c.v)); r.Met != c.want {
			t.Errorf("%s: met is %v", c.name, r.Met)
		}
	}
	small := resultOf(&figure{key: "k", own: sideMartletSmall, limit: true, bar: 1}, map[string][]values{sideMartlet: {{"k": 0}}, sideMartletSmall: {{"k": 2}}})
	if !small.Met || small.Value.Median != 2 {
		t.Errorf("of several sides of ours another one counts: %+v", small)
	}
	if r := resultOf(&figure{key: "k", plain: true, lower: true}, ours(7)); r.Met || r.Value.Median != 7 || r.Ratio != nil || r.barText() != "-" {
		t.Errorf("without a bar: %+v", r)
	}
	if r := resultOf(&figure{key: "k", limit: true}, map[string][]values{sideMartlet: {nil}}); r.Met || r.judged() != nil {
		t.Error("what was not measured is met")
	}
}

func TestScore(t *testing.T) {
	for _, c := range []struct {
		name   string
		r      result
		want   spread
		barred float64
	}{
		{"ratio, higher", result{BarOf: "ratio", Better: "higher", Ratio: &spread{2, 1, 4}, Bar: 1.5}, spread{2, 1, 4}, 1.5},
		{"ratio, lower", result{BarOf: "ratio", Better: "lower", Ratio: &spread{0.5, 0.25, 2}, Bar: 1.25}, spread{2, 0.5, 4}, 0.8},
		{"limit, higher", result{BarOf: "value", Better: "higher", Value: &spread{1600, 800, 3200}, Bar: 800}, spread{2, 1, 4}, 1},
		{"limit, lower", result{BarOf: "value", Better: "lower", Value: &spread{7, 3.5, 14}, Bar: 14}, spread{2, 1, 4}, 1},
		{"nothing of nothing", result{BarOf: "value", Better: "lower", Value: &spread{0, 0, 0}}, spread{1, 1, 1}, 1},
	} {
		s, bar, ok := c.r.score()
		if s != c.want || bar != c.barred || !ok {
			t.Errorf("%s: %v, bar %v, %v", c.name, s, bar, ok)
		}
	}
}

// TestPickDropsWhatIsNoNumber: JSON has no NaN.
func TestPickDropsWhatIsNoNumber(t *testing.T) {
	got := present(pick([]values{{"k": math.NaN()}, {"k": math.Inf(1)}, {"x": 1}, {"k": 2}}, "k"))
	if !slices.Equal(got, []float64{2}) {
		t.Error(got)
	}
}

// sampleReport has a figure of each kind.
func sampleReport() *report {
	r := &report{
		Machine: machine{CPU: "A <fast> & quiet CPU", Cores: 2}, Rounds: 2, Seconds: 5, Took: 60,
		Failed: []failure{{"socks", sideWireguard, 2, "it ended\nand said why"}},
	}
	for _, f := range figures {
		rounds := map[string][]values{f.ours(): {nil, nil}, f.peer: {nil, nil}}
		if f.id != "socks" {
			rounds[f.ours()] = []values{{f.key: 3, "allowed": 4}, {f.key: 4, "allowed": 4}}
			if f.peer != "" {
				rounds[f.peer] = []values{{f.key: 1.5}, nil}
			}
		}
		r.Figures = append(r.Figures, resultOf(&f, rounds))
	}
	return r
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	want := sampleReport()
	if err := want.writeJSON(&b); err != nil {
		t.Fatal(err)
	}
	got := &report{}
	d := json.NewDecoder(&b)
	d.DisallowUnknownFields()
	if err := d.Decode(got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
