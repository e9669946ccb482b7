package martlet

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"martlet/crypto/pki"
)

// Bounds of what is fetched on behalf of a peer, all of them per Node.
const (
	fetchTimeout  = 5 * time.Second
	maxFetched    = 1 << 20 // octets of one list or response
	maxFlights    = 4096    // fetches under way or waiting for their turn
	flightsAHost  = 1024    // of those, at one host
	fetchesAHost  = 8       // at once at one host
	maxRedirects  = 3
	maxCached     = 4096     // entries
	maxCachedSize = 32 << 20 // octets
	freshFor      = time.Hour
	forgetFailure = 30 * time.Second
)

// fetchKey is what is fetched: a list, or what a responder says of one certificate.
type fetchKey struct {
	source pki.Source
	cert   string // hash of the certificate for OCSP, else empty
}

// fetched is what came, or why nothing did. It is never changed.
type fetched struct {
	crl  *pki.CRL
	ocsp []byte
	err  error
	// Until fresh nobody asks again; until then it may be used while somebody does.
	fresh, until time.Time
	size         int
}

// fetcher fetches revocation lists and OCSP responses by HTTP, each once for all that wait
// for it, and remembers them. A host that is slow or dead keeps up nobody who asks
// another.
type fetcher struct {
	ctx    context.Context
	tasks  *sync.WaitGroup
	client *http.Client

	mu      sync.Mutex
	allowed []string // hosts that may be asked; empty: all
	cache   fetchCache
	flights map[fetchKey]*flight
	hosts   map[string]*hostQueue // of hosts with flights
}

// flight is a fetch under way; done is closed when result is there.
type flight struct {
	done   chan struct{}
	result *fetched
}

// hostQueue bounds what one host is asked at once.
type hostQueue struct {
	flights int
	turns   chan struct{}
}

// newFetcher dials by dial. ctx ends with the Node, tasks are its goroutines.
func newFetcher(ctx context.Context, tasks *sync.WaitGroup, dial func(context.Context, string, string) (net.Conn, error)) *fetcher {
	f := &fetcher{
		ctx: ctx, tasks: tasks,
		client: &http.Client{
			Transport: &http.Transport{
				DialContext:            dial,
				DisableCompression:     true,
				DisableKeepAlives:      true,
				MaxResponseHeaderBytes: 16 << 10,
			},
		},
		cache:   fetchCache{entries: map[fetchKey]*list.Element{}},
		flights: map[fetchKey]*flight{}, hosts: map[string]*hostQueue{},
	}
	f.client.CheckRedirect = f.checkRedirect
	return f
}

// checkRedirect follows a few redirects, never to another scheme, and not to where nothing may be
// asked.
func (f *fetcher) checkRedirect(next *http.Request, via []*http.Request) error {
	switch {
	case len(via) > maxRedirects:
		return errors.New("too many redirects")
	case next.URL.Scheme != via[0].URL.Scheme:
		return fmt.Errorf("redirected from %s to %s", via[0].URL.Scheme, next.URL.Scheme)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.mayAsk(next.URL); err != nil {
		return fmt.Errorf("it redirects to another host: %w", err)
	}
	return nil
}

// allow lets only some hosts be asked; none means all.
func (f *fetcher) allow(hosts []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.allowed = hosts
}

// mayAsk is nil if the file lets the host of a URL be asked. It wants mu.
func (f *fetcher) mayAsk(u *url.URL) error {
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if len(f.allowed) == 0 || slices.ContainsFunc(f.allowed, func(pattern string) bool {
		pattern = strings.ToLower(strings.TrimSuffix(pattern, "."))
		if below, ok := strings.CutPrefix(pattern, "*"); ok { // "*.example"
			return strings.HasSuffix(host, below) && host != below[1:]
		}
		if at, err := netip.ParseAddr(pattern); err == nil {
			asked, err := netip.ParseAddr(host)
			return err == nil && asked.Unmap() == at.Unmap()
		}
		return host == pattern
	}) {
		return nil
	}
	return fmt.Errorf("the certificate says to ask %q whether it is revoked, which is none of node.revocation_hosts (%s): "+
		"add it there if the CA means it so", host, strings.Join(f.allowed, ", "))
}

// get returns what is known, fetching it if need be; at the end of ctx it gives up waiting,
// while the fetch goes on for others. What is still valid but not fresh is
// returned at once and fetched anew behind it. An OCSP request goes out by POST
// (RFC 6960 §A.1), else it is nil.
func (f *fetcher) get(ctx context.Context, key fetchKey, request []byte) *fetched {
	now := time.Now()
	u, err := url.Parse(key.source.URL)
	if err != nil {
		return &fetched{err: err}
	}
	f.mu.Lock()
	if err := f.mayAsk(u); err != nil {
		f.mu.Unlock()
		return &fetched{err: err}
	}
	known := f.cache.find(key)
	if known == nil && key.cert != "" {
		// A responder that failed for one certificate is not asked about the next.
		known = f.cache.find(fetchKey{source: key.source})
	}
	if known != nil && now.Before(known.fresh) {
		f.mu.Unlock()
		return known
	}
	fl, err := f.depart(u.Host, key, request)
	f.mu.Unlock()
	if known != nil && known.err == nil && now.Before(known.until) {
		return known
	}
	if err != nil {
		return &fetched{err: err}
	}
	select {
	case <-fl.done:
		return fl.result
	case <-ctx.Done():
		return &fetched{err: fmt.Errorf("%s did not answer in time", key.source.URL)}
	}
}

// depart joins the flight for a key, at a host and port, or begins it. It wants mu.
func (f *fetcher) depart(at string, key fetchKey, request []byte) (*flight, error) {
	if fl := f.flights[key]; fl != nil {
		return fl, nil
	}
	host := f.hosts[at]
	if host == nil {
		host = &hostQueue{turns: make(chan struct{}, fetchesAHost)}
	}
	if len(f.flights) >= maxFlights || host.flights >= flightsAHost {
		return nil, fmt.Errorf("too much is being asked of %s already", at)
	}
	host.flights++
	f.hosts[at] = host
	fl := &flight{done: make(chan struct{})}
	f.flights[key] = fl
	f.tasks.Go(func() {
		result := f.fetch(host, key, request)
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.flights, key)
		if host.flights--; host.flights == 0 {
			delete(f.hosts, at)
		}
		if old := f.cache.find(key); result.err != nil && old != nil && old.err == nil && time.Now().Before(old.until) {
			// What is still valid outlives a failure.
			kept := *old
			kept.fresh = result.fresh
			result = &kept
		}
		f.cache.put(key, result)
		if result.err != nil && key.cert != "" {
			f.cache.put(fetchKey{source: key.source}, result)
		}
		fl.result = result
		close(fl.done)
	})
	return fl, nil
}

// fetch waits for its turn at the host and asks it.
func (f *fetcher) fetch(host *hostQueue, key fetchKey, request []byte) *fetched {
	ctx, cancel := context.WithTimeout(f.ctx, fetchTimeout)
	defer cancel()
	failed := func(err error) *fetched {
		return &fetched{err: fmt.Errorf("%s: %w", key.source.URL, err), fresh: time.Now().Add(forgetFailure), size: 1 << 10}
	}
	select {
	case host.turns <- struct{}{}:
		defer func() { <-host.turns }()
	case <-ctx.Done():
		return failed(errors.New("no turn in time"))
	}
	body, err := f.ask(ctx, key.source.URL, request)
	if err != nil {
		return failed(err)
	}
	now := time.Now()
	if key.source.OCSP {
		return &fetched{ocsp: body, fresh: now.Add(freshFor), until: now.Add(freshFor), size: len(body) + 1<<10}
	}
	crl, err := pki.ParseCRL(body)
	if err != nil {
		return failed(err)
	}
	if why := crl.Unusable(); why != "" {
		return failed(errors.New("the revocation list is of no use: " + why))
	}
	out := &fetched{crl: crl, until: crl.Until(), size: crl.Size() + 1<<10}
	out.fresh = now.Add(max(forgetFailure, min(freshFor, crl.Until().Sub(now))))
	return out
}

// ask makes one HTTP request.
func (f *fetcher) ask(ctx context.Context, to string, request []byte) ([]byte, error) {
	method := http.MethodGet
	if request != nil {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(ctx, method, to, bytes.NewReader(request))
	if err != nil {
		return nil, err
	}
	if request != nil {
		r.Header.Set("Content-Type", "application/ocsp-request")
	}
	answer, err := f.client.Do(r)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answered %s", answer.Status)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxFetched+1))
	switch {
	case err != nil:
		return nil, err
	case len(body) > maxFetched:
		return nil, fmt.Errorf("it sends more than %d octets", maxFetched)
	}
	return body, nil
}

// settle bounds how long an OCSP response is fresh and valid, once it was read.
func (f *fetcher) settle(key fetchKey, got *fetched, until time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cache.find(key) != got {
		return
	}
	now := time.Now()
	better := *got
	better.until = until
	better.fresh = now.Add(max(forgetFailure, min(freshFor, until.Sub(now)/2)))
	f.cache.put(key, &better)
}

// fetchCache forgets what was not used for longest when it is full.
type fetchCache struct {
	entries map[fetchKey]*list.Element
	order   list.List // of *cacheEntry, the last used first
	size    int
}

type cacheEntry struct {
	key fetchKey
	*fetched
}

func (c *fetchCache) find(key fetchKey) *fetched {
	e := c.entries[key]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cacheEntry).fetched
}

func (c *fetchCache) put(key fetchKey, what *fetched) {
	if e := c.entries[key]; e != nil {
		c.remove(e)
	}
	c.entries[key] = c.order.PushFront(&cacheEntry{key, what})
	c.size += what.size
	for len(c.entries) > maxCached || c.size > maxCachedSize && len(c.entries) > 1 {
		c.remove(c.order.Back())
	}
}

func (c *fetchCache) remove(e *list.Element) {
	old := c.order.Remove(e).(*cacheEntry)
	delete(c.entries, old.key)
	c.size -= old.size
}
