package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// resident is the memory in RAM, in octets, of a process and those that it started: what they have of
// the program's file counts once.
func resident(pid int) (uint64, error) {
	children, err := childrenOf(pid)
	if err != nil {
		return 0, err
	}
	var own, shared uint64
	for _, p := range append(children, pid) {
		m, err := memoryOf(p, "RssAnon", "RssFile", "RssShmem")
		if err != nil {
			return 0, err
		}
		own += m[0]
		shared = max(shared, m[1]+m[2])
	}
	return own + shared, nil
}

// childrenOf are the processes that a process started, by any of its threads.
func childrenOf(pid int) ([]int, error) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	var out []int
	for _, list := range lists {
		b, err := os.ReadFile(list)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread has ended
		}
		if err != nil {
			return nil, err
		}
		for _, child := range strings.Fields(string(b)) {
			n, err := strconv.Atoi(child)
			if err != nil {
				return nil, err
			}
			out = append(out, n)
		}
	}
	return out, nil
}

// peak is the most that a process ever had in RAM, in octets.
func peak(pid int) (uint64, error) {
	m, err := memoryOf(pid, "VmHWM")
	if err != nil {
		return 0, err
	}
	return m[0], nil
}

// memoryOf reads figures of a process's memory, as /proc names them, in octets.
func memoryOf(pid int, keys ...string) ([]uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil, err
	}
	return parseMemory(string(b), keys...)
}

func parseMemory(status string, keys ...string) ([]uint64, error) {
	var out []uint64
	for _, key := range keys {
		_, rest, ok := strings.Cut(status, "\n"+key+":")
		f := strings.Fields(rest)
		if !ok || len(f) < 2 || f[1] != "kB" {
			return nil, fmt.Errorf("no %s: the process has ended", key)
		}
		n, err := strconv.ParseUint(f[0], 10, 64)
		if err != nil {
			return nil, err
		}
		out = append(out, n*1024)
	}
	return out, nil
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
			if n, err := resident(pid); err == nil {
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
					to[i], o.err = resident(p.pid())
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
