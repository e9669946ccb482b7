// Package portal tells whether the network at hand holds everything back until a person has
// logged in at a page of its own (a captive portal). A page without TLS is asked for whose answer
// is known: a portal answers in its place.
//
// Whoever is asked learns that this host is there, and the network sees it ask. So nothing here
// happens by itself: ask when a person wants to know, or when a gateway did not answer.
package portal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// State is what is known of a network. A higher one outdoes a lower one.
type State int

const (
	Unknown State = iota // no probe was answered in a way that says something
	Open                 // a probe got the answer that it should
	Portal               // something else answered in place of a probe's server
)

func (s State) String() string {
	switch s {
	case Open:
		return "open"
	case Portal:
		return "portal"
	case Unknown:
	}
	return "unknown"
}

// Result is what Check found out.
type Result struct {
	State State
	// URL is, of a Portal, the page for a person to open: http or https, ASCII, without
	// credentials, at most 2048 octets. It is the network's word, nothing to trust.
	URL string
	// Err says what came of the probes, if they told nothing.
	Err error
}

// Probe is a page whose answer is known.
type Probe struct {
	URL    string // http, since nothing can answer in the place of https
	Status int
	Body   string // without white space at both ends
}

// Probes are those that Android and Firefox use, of two companies.
func Probes() []Probe {
	return []Probe{
		{"http://connectivitycheck.gstatic.com/generate_204", http.StatusNoContent, ""},
		{"http://detectportal.firefox.com/success.txt", http.StatusOK, "success"},
	}
}

// Dial connects to a host, whose name it finds out, and a port. As that of net.Dialer it heeds ctx.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Bounds of a check.
const (
	timeout   = 3 * time.Second
	maxHeader = 16 << 10
	maxBody   = 4 << 10
)

// Check asks for the probes, all at once, for at most three seconds. Without probes it takes those
// of Probes. All goes by dial, which must lead past the tunnel, names too; proxies that are
// configured on this host, cookies and redirects are not followed. A portal that shows itself to
// one probe counts, whatever the others were answered: some let known probes through.
func Check(ctx context.Context, dial Dial, probes ...Probe) Result {
	if dial == nil { // the transport would dial by itself, perhaps into the tunnel
		return Result{Err: errors.New("portal: there is no way to ask: give a Dial that leads past the tunnel")}
	}
	if len(probes) == 0 {
		probes = Probes()
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	transport := &http.Transport{
		DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
			return dial(ctx, network, address) // the transport's own context has no deadline
		},
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader,
	}
	defer transport.CloseIdleConnections()
	results := make(chan Result, len(probes))
	for _, p := range probes {
		go func() { results <- p.check(ctx, transport) }()
	}
	var best Result
	var failed []error
	for range probes {
		r := <-results
		if r.State > best.State {
			best = r
		}
		failed = append(failed, r.Err)
	}
	if best.State == Unknown {
		best.Err = errors.Join(failed...)
	}
	return best
}

// check asks for one page.
func (p Probe) check(ctx context.Context, transport http.RoundTripper) Result {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL, http.NoBody)
	if err != nil {
		return Result{Err: fmt.Errorf("portal: %w", err)}
	}
	if request.URL.Scheme != "http" {
		return Result{Err: fmt.Errorf("portal: the probe %s can show no portal: take a page of http", p.URL)}
	}
	request.Header.Set("Cache-Control", "no-cache")
	// Not by an http.Client, which would follow redirects.
	response, err := transport.RoundTrip(request)
	if err != nil {
		return Result{Err: fmt.Errorf("portal: ask for %s: %w", p.URL, err)}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return Result{Err: fmt.Errorf("portal: read the answer of %s: %w", p.URL, err)}
	}
	return p.judge(response, strings.TrimSpace(string(body)))
}

// judge says what an answer means. Where the network names no page of its own that can be shown,
// it answers with it when a person opens the probe's.
func (p Probe) judge(r *http.Response, body string) Result {
	switch s := r.StatusCode; {
	case s == p.Status && body == p.Body:
		return Result{State: Open}
	case s >= 300 && s < 400 && r.Header.Get("Location") != "":
		if page, ok := clean(p.URL, r.Header.Get("Location")); ok {
			return Result{State: Portal, URL: page}
		}
		return p.portal()
	case s == http.StatusNetworkAuthenticationRequired: // RFC 6585 §6
		return p.portal()
	case s == http.StatusOK && body != "":
		return p.portal()
	}
	return Result{Err: fmt.Errorf("portal: %s was answered with status %d, which says nothing", p.URL, r.StatusCode)}
}

// portal is the page of the probe itself.
func (p Probe) portal() Result {
	page, _ := clean(p.URL, "")
	return Result{State: Portal, URL: page}
}
