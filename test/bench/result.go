package main

import (
	"cmp"
	"encoding/json"
	"io"
	"math"
	"slices"
	"time"
)

// spread is the median of some numbers and how far they lie apart.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func spreadOf(all []float64) *spread {
	if len(all) == 0 {
		return nil
	}
	s := slices.Sorted(slices.Values(all))
	mid := s[len(s)/2]
	if len(s)%2 == 0 {
		mid = (s[len(s)/2-1] + mid) / 2
	}
	return &spread{Median: mid, Min: s[0], Max: s[len(s)-1]}
}

// result is what was measured for a figure. A round in which a side failed has a null.
type result struct {
	ID      string     `json:"id"`
	Name    string     `json:"name"`
	Unit    string     `json:"unit"`
	Better  string     `json:"better"`
	Martlet []*float64 `json:"martlet"`
	Peer    string     `json:"peer,omitempty"`
	Peers   []*float64 `json:"peer_values,omitempty"`
	Value   *spread    `json:"value"`           // Martlet's values
	Ratio   *spread    `json:"ratio,omitempty"` // Martlet to the peer, round by round
	// BarOf is what the bar limits: "ratio", "value" in the figure's unit, or "nothing".
	BarOf string  `json:"bar_of"`
	Bar   float64 `json:"bar"`
	Aim   float64 `json:"aim,omitempty"`
	Met   bool    `json:"met"` // never where there is no bar
	Note  string  `json:"note,omitempty"`
}

// failure is a measurement that could not be made.
type failure struct {
	Trial string `json:"trial"`
	Side  string `json:"side"`
	Round int    `json:"round"`
	Why   string `json:"why"`
}

// report is all that a run found.
type report struct {
	Machine machine   `json:"machine"`
	Rounds  int       `json:"rounds"`
	Seconds int       `json:"seconds"`
	Took    float64   `json:"took_seconds"`
	Figures []*result `json:"figures"`
	Failed  []failure `json:"failed"`
}

// machine is where it ran: numbers of another machine cannot be compared.
type machine struct {
	CPU    string    `json:"cpu"`
	Cores  int       `json:"cores"`
	Kernel string    `json:"kernel"`
	Go     string    `json:"go"`
	Date   time.Time `json:"date"`
}

func (r *report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// values are what one side gave in one round of a trial; nil where it failed.
type values map[string]float64

// resultOf makes a figure's result of the rounds of its trial, by side.
func resultOf(f *figure, rounds map[string][]values) *result {
	r := &result{
		ID: f.id, Name: f.name, Unit: f.unit, Better: "higher", Peer: f.peer, BarOf: "ratio",
		Bar: f.bar, Aim: f.aim, Note: f.note,
	}
	if f.lower {
		r.Better = "lower"
	}
	switch {
	case f.limit:
		r.BarOf = "value"
	case f.plain:
		r.BarOf = "nothing"
	}
	r.Martlet = pick(rounds[f.ours()], f.key)
	r.Value = spreadOf(present(r.Martlet))
	if f.peer != "" {
		r.Peers = pick(rounds[f.peer], f.key)
	}
	if r.BarOf == "ratio" {
		r.Ratio = spreadOf(ratios(r.Martlet, r.Peers))
	}
	if f.barKey != "" {
		if s := spreadOf(present(pick(rounds[f.ours()], f.barKey))); s != nil {
			r.Bar = s.Median
		}
	}
	if s := r.judged(); s != nil && r.BarOf != "nothing" {
		r.Met = s.Median >= r.Bar
		if f.lower {
			r.Met = s.Median <= r.Bar
		}
	}
	return r
}

// judged is what is held against the bar, if there is one; nil where nothing was measured.
func (r *result) judged() *spread {
	if r.BarOf == "ratio" {
		return r.Ratio
	}
	return r.Value
}

// score turns what is judged, and the bar, so that more is better and 1 is the peer or the
// limit: this is what can be drawn on one axis.
func (r *result) score() (s spread, bar float64, ok bool) {
	j := r.judged()
	if j == nil || r.BarOf == "nothing" {
		return spread{}, 0, false
	}
	unit := 1.0
	if r.BarOf == "value" {
		unit = r.Bar
	}
	one := func(v float64) float64 {
		q := v / unit
		if v == unit {
			q = 1 // also where both are 0
		}
		if r.Better == "lower" {
			q = 1 / q
		}
		return q
	}
	s = spread{Median: one(j.Median), Min: one(j.Min), Max: one(j.Max)}
	if s.Min > s.Max {
		s.Min, s.Max = s.Max, s.Min
	}
	return s, one(r.Bar), true
}

func pick(rounds []values, key string) []*float64 {
	out := make([]*float64, len(rounds))
	for i, v := range rounds {
		if x, ok := v[key]; ok && !math.IsNaN(x) && !math.IsInf(x, 0) {
			out[i] = &x
		}
	}
	return out
}

func present(all []*float64) []float64 {
	var out []float64
	for _, v := range all {
		if v != nil {
			out = append(out, *v)
		}
	}
	return out
}

// ratios are those of the rounds in which both sides have a value.
func ratios(ours, theirs []*float64) []float64 {
	var out []float64
	for i := range min(len(ours), len(theirs)) {
		if ours[i] != nil && theirs[i] != nil && cmp.Compare(*theirs[i], 0) > 0 {
			out = append(out, *ours[i] / *theirs[i])
		}
	}
	return out
}
