package martlet

import (
	"context"
	"net/netip"
	"reflect"
	"slices"
	"sync"

	"go.uber.org/zap"

	"martlet/tun/dns"
)

// resolvers makes the tunnel's resolvers those of this host. The program that has them in its care may
// take seconds to answer, so that a goroutine of its own asks it, for the last that was wished.
type resolvers struct {
	open func() (dns.Host, error)
	log  *zap.Logger

	mu     sync.Mutex
	wanted dns.Config
	given  map[netip.Addr]struct{} // that were ever wanted, up to maxGiven
	idle   chan struct{}           // closed when wanted is done, or was tried; nil: nothing was ever wished
	closed bool
	err    error // of the last try

	host dns.Host // nil until there is something to set; of the goroutine while idle is open
}

func newResolvers(open func() (dns.Host, error), log *zap.Logger) *resolvers {
	return &resolvers{open: open, log: log}
}

// wish returns at once. Without servers the host's resolvers become its own again.
func (r *resolvers) wish(c dns.Config) {
	if len(c.Servers) == 0 {
		c = dns.Config{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.idle == nil && len(c.Servers) == 0 || r.err == nil && reflect.DeepEqual(c, r.wanted) {
		return
	}
	r.wanted, r.err = c, nil
	r.remember(c.Servers)
	if r.idle != nil && !isClosed(r.idle) {
		return // who is at it will see
	}
	r.idle = make(chan struct{})
	go r.work(r.idle)
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// work sets what is wanted until that does not change any more. It ends while mu is held, so that a
// wish finds it at work, and is seen, or finds nobody.
func (r *resolvers) work(idle chan struct{}) {
	for {
		r.mu.Lock()
		c := r.wanted
		r.mu.Unlock()
		err := r.do(c)
		if err != nil {
			r.log.Warn("the resolvers of this host are not those of the tunnel: names inside may not be found, and names that are asked for may be seen outside", zap.Error(err))
		}
		r.mu.Lock()
		if reflect.DeepEqual(c, r.wanted) {
			r.err = err
			close(idle)
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
	}
}

func (r *resolvers) do(c dns.Config) (err error) {
	switch {
	case len(c.Servers) == 0 && r.host == nil:
		return nil
	case len(c.Servers) == 0:
		return r.host.Close()
	case r.host == nil:
		if r.host, err = r.open(); err != nil {
			return err
		}
	}
	return r.host.Set(c)
}

// settled waits until what was wished last is done, or could not be: its error is that of ctx only.
func (r *resolvers) settled(ctx context.Context) error {
	r.mu.Lock()
	idle := r.idle
	r.mu.Unlock()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// maxGiven bounds the addresses of resolvers that are remembered; gateways choose them.
const maxGiven = 256

func (r *resolvers) remember(servers []netip.Addr) {
	if r.given == nil || len(r.given)+len(servers) > maxGiven {
		r.given = map[netip.Addr]struct{}{}
	}
	for _, a := range servers {
		r.given[a.Unmap()] = struct{}{}
	}
}

// include tells whether an address is one of those that are, or are being, set.
func (r *resolvers) include(a netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.wanted.Servers, a.Unmap())
}

// gave tells whether an address was ever one of them: who read this host's resolvers some seconds ago
// may have it still.
func (r *resolvers) gave(a netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.given[a.Unmap()]
	return ok
}

// close gives this host its own resolvers back, for good.
func (r *resolvers) close() error {
	r.wish(dns.Config{})
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	_ = r.settled(context.Background()) // which has no end of its own
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// askable are the resolvers that a host can be told of: nobody can tell it a port.
func askable(all []netip.AddrPort) []netip.Addr {
	var out []netip.Addr
	for _, at := range all {
		if at.Port() == 0 || at.Port() == 53 {
			out = append(out, at.Addr().Unmap())
		}
	}
	return out
}

// ResolversStatus is who is asked for names on this host because of the tunnel.
type ResolversStatus struct {
	Servers []netip.Addr `json:"servers"`
	Domains []string     `json:"domains,omitempty"` // for names below these only
	Err     string       `json:"error,omitempty"`   // why they could not be set
}

// status is nil while the host has its own.
func (r *resolvers) status() *ResolversStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.wanted.Servers) == 0 || !isClosed(r.idle) {
		return nil
	}
	s := &ResolversStatus{Servers: slices.Clone(r.wanted.Servers), Domains: slices.Concat(r.wanted.Domains, r.wanted.Search)}
	if len(r.wanted.Domains) == 0 {
		s.Domains = nil
	}
	if r.err != nil {
		s.Err = r.err.Error()
	}
	return s
}
