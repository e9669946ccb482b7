package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// resident is the memory of a process that is in RAM, in octets: now, and the most ever.
func resident(pid int) (now, peak uint64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	return parseResident(string(b))
}

func parseResident(status string) (now, peak uint64, err error) {
	for key, to := range map[string]*uint64{"VmRSS": &now, "VmHWM": &peak} {
		_, rest, ok := strings.Cut(status, "\n"+key+":")
		f := strings.Fields(rest)
		if !ok || len(f) < 2 || f[1] != "kB" {
			return 0, 0, fmt.Errorf("no %s: the process has ended", key)
		}
		n, err := strconv.ParseUint(f[0], 10, 64)
		if err != nil {
			return 0, 0, err
		}
		*to = n * 1024
	}
	return now, peak, nil
}

func mib(n uint64) float64 { return float64(n) / (1 << 20) }

// sampler looks at a process again and again.
type sampler struct {
	most atomic.Uint64
	stop chan struct{}
	done chan struct{}
}

func sample(pid int) *sampler {
	s := &sampler{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			if n, _, err := resident(pid); err == nil {
				s.most.Store(max(s.most.Load(), n))
			}
			select {
			case <-s.stop:
				return
			case <-tick.C:
			}
		}
	}()
	return s
}

// end returns the most that was seen.
func (s *sampler) end() uint64 {
	close(s.stop)
	<-s.done
	return s.most.Load()
}

const (
	overloadSeconds = 10
	overloadFrom    = 2 * time.Second // by then queues and pools are as full as they should get
	flatShare       = 1.1
	flatMore        = 4 << 20
)

// overload floods the tunnel with UDP for 10 s and tells how memory grows behind the
// first 2, at the end where it grows more.
func (b *bench) overload(ctx context.Context, t *tunnel) (values, error) {
	type outcome struct {
		early, late [2]uint64
		err         error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	looked := make(chan outcome, 1)
	go func() {
		var o outcome
		look := func(after time.Duration, to *[2]uint64) {
			if o.err == nil {
				o.err = pause(ctx, after)
			}
			for i, p := range []*process{t.client, t.gateway} {
				if o.err == nil {
					to[i], _, o.err = resident(p.pid())
				}
			}
		}
		look(overloadFrom, &o.early)
		look(overloadSeconds*time.Second-overloadFrom, &o.late)
		looked <- o
	}()
	// It goes on until the last look is over.
	_, floodErr := t.flood(ctx, overloadSeconds+2, 1200)
	var o outcome
	select {
	case o = <-looked:
	default:
		return nil, errors.Join(errors.New("the flood ended early"), floodErr)
	}
	if o.err != nil {
		return nil, o.err
	}
	// Of a peer that grows iperf3's own talk may be lost: what counts was seen before.
	if floodErr != nil {
		progress("overload: %v", floodErr)
	}
	v := values{}
	for i := range o.early {
		growth, allowed := growthOf(o.early[i], o.late[i])
		if i == 0 || growth/allowed > v["growth"]/v["allowed"] {
			v = values{"growth": growth, "allowed": allowed, "MiB early": mib(o.early[i]), "MiB late": mib(o.late[i])}
		}
	}
	return v, nil
}

// growthOf is how many times its early value a memory has grown to, and how many times
// still counts as flat.
func growthOf(early, late uint64) (growth, allowed float64) {
	return float64(late) / float64(early), max(flatShare, 1+flatMore/float64(early))
}
