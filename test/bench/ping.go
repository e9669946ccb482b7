package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

const pings = 500

var pingTime = regexp.MustCompile(`(?m) time=([0-9.]+) ms$`)

// ping measures the round trip through the tunnel and beside it.
func (b *bench) ping(ctx context.Context, t *tunnel) (values, error) {
	argv := []string{"-i", "0.002", "-c", strconv.Itoa(pings)}
	plain, err := t.net.a.run(ctx, time.Minute, append([]string{"ping", "-n", outerB}, argv...)...)
	if err != nil {
		return nil, err
	}
	through, err := t.net.a.run(ctx, time.Minute, t.ping(argv...)...)
	if err != nil {
		return nil, err
	}
	p, err := medianTrip(plain)
	if err != nil {
		return nil, err
	}
	q, err := medianTrip(through)
	if err != nil {
		return nil, err
	}
	return values{"added": q - p, "plain": p, "through": q}, nil
}

// medianTrip is the median of what ping printed, in µs.
func medianTrip(out string) (float64, error) {
	var all []float64
	for _, m := range pingTime.FindAllStringSubmatch(out, -1) {
		ms, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			return 0, err
		}
		all = append(all, ms*1000)
	}
	if len(all) < pings*9/10 {
		return 0, fmt.Errorf("only %d of %d echoes came back", len(all), pings)
	}
	return spreadOf(all).Median, nil
}
