package main

import (
	"math"
	"testing"
	"time"
)

func TestLongestGap(t *testing.T) {
	began := time.Unix(1000, 0)
	at := func(ms ...int) []time.Time {
		var out []time.Time
		for _, m := range ms {
			out = append(out, began.Add(time.Duration(m)*time.Millisecond))
		}
		return out
	}
	for _, c := range []struct {
		name     string
		came     []int
		from, to int
		want     int
	}{
		{"nothing came", nil, 100, 400, 300},
		{"all of it outside", []int{0, 90, 500}, 100, 400, 300},
		{"what comes before the change is no end of it", []int{0, 95, 300, 310}, 100, 320, 200},
		{"the old address worked a little longer", []int{90, 110, 120, 300, 310}, 100, 320, 180},
		{"it comes, and stays away again", []int{150, 160, 460, 470}, 100, 480, 300},
		{"it has not come back", []int{90, 110}, 100, 900, 790},
		{"at both ends", []int{100, 200, 400}, 100, 400, 200},
		{"an instant", []int{100}, 100, 100, 0},
	} {
		ends := at(c.from, c.to)
		if got := longestGap(at(c.came...), ends[0], ends[1]); got != time.Duration(c.want)*time.Millisecond {
			t.Errorf("%s: %v, want %d ms", c.name, got, c.want)
		}
	}
}

func TestPercentile(t *testing.T) {
	var fifty []float64
	for i := range 50 {
		fifty = append(fifty, float64(50-i))
	}
	for _, c := range []struct {
		all     []float64
		p, want float64
	}{
		{fifty, 50, 25},
		{fifty, 95, 48},
		{fifty, 100, 50},
		{fifty, 0, 1},
		{[]float64{7}, 95, 7},
	} {
		if got := percentile(c.all, c.p); got != c.want {
			t.Errorf("%v of %d values: %v, want %v", c.p, len(c.all), got, c.want)
		}
	}
	if fifty[0] != 50 {
		t.Error("the values were sorted in place")
	}
	if got := percentile(nil, 95); !math.IsNaN(got) {
		t.Errorf("of none: %v", got)
	}
}
