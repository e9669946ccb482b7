package main

import (
	"math"
	"slices"
	"sync"
	"time"
)

// arrivals are when something came, in order.
type arrivals struct {
	mu sync.Mutex
	at []time.Time
}

// note says that something comes now.
func (a *arrivals) note() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = append(a.at, time.Now())
}

// gap is the longest time between from and to in which nothing came.
func (a *arrivals) gap(from, to time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return longestGap(a.at, from, to)
}

// longestGap is the longest time without an arrival between from and to, which count as if
// something came then.
func longestGap(at []time.Time, from, to time.Time) time.Duration {
	first, _ := slices.BinarySearchFunc(at, from, time.Time.Compare)
	longest, before := time.Duration(0), from
	for _, t := range at[first:] {
		if t.After(to) {
			break
		}
		longest, before = max(longest, t.Sub(before)), t
	}
	return max(longest, to.Sub(before))
}

// percentile is the least of some values that p of 100 do not exceed: the nearest rank.
func percentile(all []float64, p float64) float64 {
	if len(all) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(all))
	return s[max(0, int(math.Ceil(p/100*float64(len(s))))-1)]
}
