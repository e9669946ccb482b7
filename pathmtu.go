package martlet

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"martlet/ike"
)

const (
	// leastPath is the outer MTU that every path is taken to have: that of IPv6.
	leastPath = 1280
	// probeAgain is after how long a narrow path is tried once more: before the data plane
	// forgets what it was told (RFC 8899 §5.1.1 has ten minutes).
	probeAgain = 8 * time.Minute
)

// pathProbes are the SAs whose paths we try for how large packets may be, where routers may say
// nothing of it. Who began an SA tries: the other way is the peer's to try, and the segment sizes of
// TCP are lowered for both.
type pathProbes struct {
	node *Node
	mu   sync.Mutex
	of   map[ike.SAID]*time.Timer // until the next try; nil: one is under way
}

// begin tries the path of an SA from now on.
func (p *pathProbes) begin(sa ike.SAID, path ike.Path) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil {
		p.of = map[ike.SAID]*time.Timer{}
	}
	p.try(sa, path)
}

// try asks the engine. It wants mu.
func (p *pathProbes) try(sa ike.SAID, path ike.Path) {
	p.of[sa] = nil
	// The engine that reports is the one that is asked, and must not wait for itself.
	p.node.tasks.Go(func() {
		p.node.engines.of(sa).post(ike.ProbeMTU{SA: sa, Low: leastPath, High: linkMTU(path.Local.Addr())})
	})
}

// moved tries the new path of an SA that is tried.
func (p *pathProbes) moved(sa ike.SAID, path ike.Path) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if timer, ok := p.of[sa]; ok {
		stop(timer)
		p.try(sa, path)
	}
}

// rekeyed has an SA take another's place. A search goes on by itself.
func (p *pathProbes) rekeyed(before, after ike.SAID, path ike.Path) {
	p.mu.Lock()
	defer p.mu.Unlock()
	timer, ok := p.of[before]
	if !ok {
		return
	}
	delete(p.of, before)
	if p.of[after] = nil; timer != nil {
		stop(timer)
		p.try(after, path)
	}
}

// ended forgets an SA.
func (p *pathProbes) ended(sa ike.SAID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	stop(p.of[sa])
	delete(p.of, sa)
}

// found tells the data plane what passes, and a client's device, and tries a narrow path again later.
func (p *pathProbes) found(h ike.PathMTU) {
	n := p.node
	wide := linkMTU(h.Path.Local.Addr())
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.of[h.SA]; !ok || h.Size == 0 || h.Size > wide-blockLen {
		return
	}
	n.log.Info("the path is narrow, and nothing says so: packets are kept short", zap.String("conn", h.Connection),
		zap.Stringer("peer", h.Path.Remote), zap.Int("mtu", h.Size), zap.Int("link", wide))
	n.plane.SetPathMTU(h.Path.Remote.Addr(), h.Size, true)
	p.of[h.SA] = time.AfterFunc(probeAgain, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if _, ok := p.of[h.SA]; ok {
			p.try(h.SA, h.Path)
		}
	})
}

// blockLen is how much less than asked for a probe may be long.
const blockLen = 16

func stop(t *time.Timer) {
	if t != nil {
		t.Stop()
	}
}
