package portal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	p204  = Probe{"http://probe.example/generate_204", http.StatusNoContent, ""}
	pText = Probe{"http://other.example/success.txt", http.StatusOK, "success"}
)

// to leads every dial to a server on loopback, as a network's gateway can.
func to(address string) Dial {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
}

func serve(t *testing.T, h http.HandlerFunc) Dial {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return to(s.Listener.Addr().String())
}

func TestCheck(t *testing.T) {
	const own204, ownText = "http://probe.example/generate_204", "http://other.example/success.txt"
	for name, c := range map[string]struct {
		probe    Probe
		status   int
		location string
		body     string
		state    State
		url      string
	}{
		"204":                         {p204, 204, "", "", Open, ""},
		"the text":                    {pText, 200, "", "success\n", Open, ""},
		"another text":                {pText, 200, "", "<html>Welcome", Portal, ownText},
		"a text that begins alike":    {pText, 200, "", "success, now log in", Portal, ownText},
		"a text without end":          {pText, 200, "", "success" + strings.Repeat("x", 2*maxBody), Portal, ownText},
		"no text":                     {pText, 200, "", "", Unknown, ""},
		"204 in place of a text":      {pText, 204, "", "", Unknown, ""},
		"a page in place of 204":      {p204, 200, "", "<html>Welcome", Portal, own204},
		"nothing in place of 204":     {p204, 200, "", "", Unknown, ""},
		"302":                         {p204, 302, "https://login.example/?from=x", "", Portal, "https://login.example/?from=x"},
		"307":                         {p204, 307, "http://192.168.1.1:1000/auth", "", Portal, "http://192.168.1.1:1000/auth"},
		"303 to a page beside":        {pText, 303, "/login", "moved", Portal, "http://other.example/login"},
		"302 to nowhere":              {p204, 302, "", "", Unknown, ""},
		"304":                         {p204, 304, "", "", Unknown, ""},
		"511":                         {p204, 511, "", "<html>", Portal, own204},
		"511 with a page":             {p204, 511, "https://login.example/", "<html>", Portal, own204},
		"302 to a script":             {p204, 302, "javascript:alert(1)", "", Portal, own204},
		"302 to this host":            {p204, 302, "http://127.0.0.1:631/", "", Portal, own204},
		"302 with credentials":        {p204, 302, "http://bank.example@login.example/", "", Portal, "http://login.example/"},
		"302 with an escape":          {p204, 302, "http://login.example/\x1b[2J", "", Unknown, ""},
		"302 that is long":            {p204, 302, "http://login.example/" + strings.Repeat("a", 4000), "", Portal, own204},
		"a server that does not know": {p204, 404, "", "not found", Unknown, ""},
		"a server that fails":         {p204, 503, "", "later", Unknown, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			dial := serve(t, func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				if want := strings.TrimPrefix(c.probe.URL, "http://"); r.Host+r.URL.Path != want || r.Method != http.MethodGet {
					t.Errorf("%s of %s%s", r.Method, r.Host, r.URL.Path)
				}
				if c.location != "" {
					w.Header()["Location"] = []string{c.location}
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			got := Check(t.Context(), dial, c.probe)
			if got.State != c.state || got.URL != c.url || (got.Err != nil) != (c.state == Unknown) {
				t.Errorf("%v %q, %v, want %v %q", got.State, got.URL, got.Err, c.state, c.url)
			}
			if n := asked.Load(); n != 1 {
				t.Errorf("asked %d times: a redirect is not to be followed", n)
			}
		})
	}
}

// TestSeveral: one probe that tells is enough, and a portal outdoes an answer that was let through.
func TestSeveral(t *testing.T) {
	answers := map[string]func(http.ResponseWriter){
		"open":   func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) },
		"portal": func(w http.ResponseWriter) { w.WriteHeader(http.StatusNetworkAuthenticationRequired) },
		"fails":  func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
	}
	for list, want := range map[string]State{
		"open open": Open, "open fails": Open, "fails open": Open, "open portal": Portal, "portal open": Portal,
		"portal fails": Portal, "fails fails": Unknown,
	} {
		dial := serve(t, func(w http.ResponseWriter, r *http.Request) { answers[r.URL.Path[3:]](w) })
		var probes []Probe
		for i, a := range strings.Fields(list) {
			probes = append(probes, Probe{fmt.Sprintf("http://probe.example/%d_%s", i, a), http.StatusNoContent, ""})
		}
		if got := Check(t.Context(), dial, probes...); got.State != want {
			t.Errorf("%s: %v, %v", list, got.State, got.Err)
		}
	}
}

// TestDefault: the probes are those of the systems, by name and port 80, through the given dialer.
func TestDefault(t *testing.T) {
	refused := errors.New("no network")
	asked := make(chan string, 2)
	got := Check(t.Context(), func(_ context.Context, network, address string) (net.Conn, error) {
		asked <- network + " " + address
		return nil, refused
	})
	if got.State != Unknown || !errors.Is(got.Err, refused) {
		t.Errorf("%v, %v", got.State, got.Err)
	}
	want := map[string]bool{"tcp connectivitycheck.gstatic.com:80": true, "tcp detectportal.firefox.com:80": true}
	for range 2 {
		if a := <-asked; !want[a] {
			t.Errorf("dialled %s", a)
		} else {
			delete(want, a)
		}
	}
}

// TestIntercepted: something that speaks TLS, or anything else, on the port is no answer.
func TestIntercepted(t *testing.T) {
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	tlsOnly := to(secure.Listener.Addr().String())
	for name, c := range map[string]struct {
		dial  Dial
		probe Probe
	}{
		"not HTTP":          {raw(t, "SSH-2.0-gateway\r\n"), p204},
		"a header for ever": {raw(t, "HTTP/1.1 204 No Content\r\nX: "+strings.Repeat("x", 4*maxHeader)), p204},
		"a broken body":     {raw(t, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsuccess"), pText},
		"nothing":           {raw(t, ""), p204},
		"https":             {tlsOnly, Probe{"https://probe.example/", 204, ""}},
		"not a URL":         {tlsOnly, Probe{"http://[", 204, ""}},
		"no dialer":         {nil, p204},
	} {
		if got := Check(t.Context(), c.dial, c.probe); got.State != Unknown || got.Err == nil || got.URL != "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// It answers a question without TLS with status 400 in words of HTTP.
	if got := Check(t.Context(), tlsOnly, p204); got.State != Unknown {
		t.Errorf("TLS on the port of HTTP: %+v", got)
	}
}

// raw leads to a server that writes text to whoever comes and asked something, and hangs up.
func raw(t *testing.T, text string) Dial {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4<<10))
			_, _ = io.WriteString(c, text)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return to(l.Addr().String())
}

// TestNoAnswer: a network that swallows the question is left when the caller has enough of it.
func TestNoAnswer(t *testing.T) {
	ctx, enough := context.WithCancel(t.Context())
	dial := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		enough()
		<-r.Context().Done()
	})
	if got := Check(ctx, dial, p204, pText); got.State != Unknown || !errors.Is(got.Err, context.Canceled) {
		t.Errorf("%+v", got)
	}
}

// TestDeadline: each dial knows that there are three seconds, and not more.
func TestDeadline(t *testing.T) {
	got := make(chan bool, 1)
	Check(t.Context(), func(ctx context.Context, _, _ string) (net.Conn, error) {
		_, ok := ctx.Deadline()
		got <- ok
		return nil, errors.New("no network")
	}, p204)
	if !<-got {
		t.Error("a dial may last for ever")
	}
}

// TestBodyIsBounded: of an endless page no more is read than it takes to judge it.
func TestBodyIsBounded(t *testing.T) {
	var written atomic.Int64
	dial := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(1<<40))
		for {
			n, err := io.WriteString(w, strings.Repeat("x", 32<<10))
			if written.Add(int64(n)); err != nil {
				return
			}
		}
	})
	if got := Check(t.Context(), dial, pText); got.State != Portal {
		t.Errorf("%+v", got)
	}
	if n := written.Load(); n > 64<<20 {
		t.Errorf("%d octets were taken", n)
	}
}
