package proxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// web is an HTTP server inside, at web.test:80 and 10.9.0.1:80 and [fd00::1]:80.
func web(t testing.TB, n *inside, h http.HandlerFunc) {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	n.put("web.test", "10.9.0.1", 80, s.Listener.Addr())
	n.put("six.test", "fd00::1", 80, s.Listener.Addr())
}

// proxied starts a server, and a client that uses it.
func proxied(t testing.TB, s *Server, user *url.Userinfo) (*http.Client, net.Addr) {
	if s.Counters == nil {
		s.Counters = new(Counters)
	}
	l := loopback(t)
	start(t, func(ctx context.Context) error { return s.Serve(ctx, l) })
	transport := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", User: user, Host: l.Addr().String()})}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}, l.Addr()
}

// raw sends a request and reads the answer of the proxy.
func raw(t testing.TB, proxy net.Addr, request string) (*http.Response, string, *bufio.Reader, *net.TCPConn) {
	t.Helper()
	c := dialTCP(t, proxy)
	io.WriteString(c, request)
	r := bufio.NewReader(c)
	method, _, _ := strings.Cut(request, " ")
	answer, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	var body []byte
	if method != http.MethodConnect || answer.StatusCode != http.StatusOK {
		body, err = io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
	}
	return answer, string(body), r, c
}

func TestRFC9112Section3AbsoluteForm(t *testing.T) {
	n := newInside()
	var got *http.Request
	web(t, n, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = r
		w.Header().Set("Connection", "X-Hop")
		w.Header().Set("X-Hop", "1")
		w.Header().Set("X-End", "1")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, b)
	})
	_, at := proxied(t, &Server{Options: Options{Network: n}}, nil)
	answer, body, _, _ := raw(t, at, "POST http://web.test/a%2Fb?q=1;2&%zz HTTP/1.1\r\nHost: other.test\r\n"+
		"Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nTE: trailers, gzip\r\n"+
		"X-Forwarded-For: 192.0.2.1\r\nKeep-Alive: 5\r\nX-Through: 1\r\nContent-Length: 4\r\n\r\nbody")
	if answer.StatusCode != http.StatusTeapot || body != "POST /a%2Fb?q=1;2&%zz body" {
		t.Errorf("%v %q", answer.Status, body)
	}
	if got.Host != "web.test" {
		t.Errorf("host %q: that of the target counts, not that of the header", got.Host)
	}
	for name, want := range map[string]string{
		"X-Mine": "", "Proxy-Connection": "", "Proxy-Authorization": "", "Keep-Alive": "", "Via": "", "User-Agent": "", "Accept-Encoding": "",
		"X-Through": "1", "X-Forwarded-For": "192.0.2.1", "Te": "trailers",
	} {
		if v := got.Header.Get(name); v != want {
			t.Errorf("the server sees %s: %q, want %q", name, v, want)
		}
	}
	if answer.Header.Get("X-Hop") != "" || answer.Header.Get("X-End") != "1" || answer.Header.Get("Via") != "" {
		t.Errorf("the client sees %v", answer.Header)
	}
	if r := n.requests(); !slices.Equal(r, []string{"tcp web.test:80"}) {
		t.Errorf("asked for %q", r)
	}
}

func TestHTTPPlain(t *testing.T) {
	n := newInside()
	web(t, n, func(w http.ResponseWriter, r *http.Request) {
		// The answer begins before the request has ended.
		http.NewResponseController(w).EnableFullDuplex()
		io.Copy(w, r.Body)
	})
	s := &Server{Options: Options{Network: n}}
	client, _ := proxied(t, s, nil)
	sent := bytes.Repeat([]byte("0123456789"), 100_000)
	for _, host := range []string{"web.test", "10.9.0.1", "[fd00::1]", "web.test:80"} {
		answer, err := client.Post("http://"+host+"/", "text/plain", bytes.NewReader(sent))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%s: %d octets, %v", host, len(got), err)
		}
	}
	got := s.Counters.Snapshot()
	if got.Sent < 4_000_000 || got.Received < 4_000_000 {
		t.Errorf("counted %+v", got)
	}
}

// TestHTTPDuplex: an answer that begins while the request goes on passes at once, and the rest of
// the request too.
func TestHTTPDuplex(t *testing.T) {
	n := newInside()
	web(t, n, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		b := make([]byte, 1)
		for {
			if _, err := io.ReadFull(r.Body, b); err != nil {
				return
			}
			w.Write(b)
			http.NewResponseController(w).Flush()
		}
	})
	client, _ := proxied(t, &Server{Options: Options{Network: n}}, nil)
	body, feed := io.Pipe()
	go feed.Write([]byte("a"))
	answer, err := client.Post("http://web.test/", "text/plain", body)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b := make([]byte, 1)
	for c := byte('a'); c < 'k'; c++ {
		if c > 'a' {
			feed.Write([]byte{c})
		}
		if _, err := io.ReadFull(answer.Body, b); err != nil || b[0] != c {
			t.Fatalf("%q, %v; want %q", b, err, c)
		}
	}
	feed.Close()
	ended(t, answer.Body)
}

// TestRFC9112Section9KeepAlive: requests to several servers follow each other on one connection.
func TestRFC9112Section9KeepAlive(t *testing.T) {
	n := newInside()
	web(t, n, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host+r.URL.Path) })
	_, at := proxied(t, &Server{Options: Options{Network: n}}, nil)
	c := dialTCP(t, at)
	r := bufio.NewReader(c)
	for i, host := range []string{"web.test", "none.test", "six.test", "web.test"} {
		fmt.Fprintf(c, "GET http://%s/%d HTTP/1.1\r\nHost: %s\r\n\r\n", host, i, host)
		answer, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(answer.Body)
		if want := fmt.Sprintf("%s/%d", host, i); string(b) != want && host != "none.test" {
			t.Errorf("%q, want %q", b, want)
		}
	}
}

func TestRFC9110Section9Connect(t *testing.T) {
	n := newInside()
	n.put("echo.test", "10.9.0.1", 443, echo(t))
	n.put("six.test", "fd00::1", 443, echo(t))
	_, at := proxied(t, &Server{Options: Options{Network: n}}, nil)
	for _, host := range []string{"echo.test:443", "10.9.0.1:443", "[fd00::1]:443"} {
		// The first octets come with the request: nobody has to wait for the answer.
		answer, _, r, c := raw(t, at, "CONNECT "+host+" HTTP/1.1\r\nHost: "+host+"\r\n\r\nearly ")
		if answer.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", host, answer.Status)
		}
		io.WriteString(c, "and late")
		c.CloseWrite()
		got, err := io.ReadAll(r)
		if err != nil || string(got) != "early and late" {
			t.Errorf("%s: %q, %v", host, got, err)
		}
	}
}

func TestRFC9110Section7Upgrade(t *testing.T) {
	n := newInside()
	web(t, n, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "chat" || r.Header.Get("Connection") != "Upgrade" {
			t.Errorf("the server sees %v", r.Header)
		}
		w.Header().Set("Upgrade", "chat")
		w.Header().Set("Connection", "Upgrade")
		w.WriteHeader(http.StatusSwitchingProtocols)
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.Copy(c, rw)
	})
	_, at := proxied(t, &Server{Options: Options{Network: n}}, nil)
	c := dialTCP(t, at)
	io.WriteString(c, "GET http://web.test/ HTTP/1.1\r\nHost: web.test\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
	r := bufio.NewReader(c)
	answer, err := http.ReadResponse(r, nil)
	if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", answer, err)
	}
	exchangeBytes(t, struct {
		io.Reader
		io.Writer
	}{r, c}, []byte("hello"), []byte("hello"))
}

func TestRFC7617Password(t *testing.T) {
	n := newInside()
	web(t, n, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "in") })
	n.put("echo.test", "10.9.0.1", 7, echo(t))
	s := &Server{Options: Options{Network: n}, Users: []User{{"alice", "sec:ret"}}}
	client, at := proxied(t, s, url.UserPassword("alice", "sec:ret"))
	answer, err := client.Get("http://web.test/")
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("right password: %v, %v", answer, err)
	}
	answer.Body.Close()

	base := func(s string) string {
		return "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(s)) + "\r\n"
	}
	asked := len(n.requests())
	bad := []string{"", base("alice:wrong"), base("bob:sec:ret"), base("alice"), "Proxy-Authorization: Basic %%%\r\n", "Proxy-Authorization: Bearer x\r\n", "Authorization: Basic YWxpY2U6c2VjOnJldA==\r\n"}
	for _, header := range bad {
		for _, line := range []string{"GET http://web.test/ HTTP/1.1\r\nHost: web.test\r\n", "CONNECT echo.test:7 HTTP/1.1\r\nHost: echo.test:7\r\n"} {
			answer, body, _, _ := raw(t, at, line+header+"\r\n")
			if answer.StatusCode != http.StatusProxyAuthRequired || !strings.HasPrefix(answer.Header.Get("Proxy-Authenticate"), "Basic ") || !strings.Contains(body, "password") {
				t.Errorf("%q: %s, %q", header, answer.Status, body)
			}
		}
	}
	if got := s.Counters.Snapshot().Failures[Denied]; got != uint64(2*len(bad)) || len(n.requests()) != asked {
		t.Errorf("%d denied, %d dialled", got, len(n.requests())-asked)
	}

	// The same connection is good for a second try, as browsers and curl do it.
	c := dialTCP(t, at)
	io.WriteString(c, "CONNECT echo.test:7 HTTP/1.1\r\nHost: echo.test:7\r\n\r\n")
	r := bufio.NewReader(c)
	answer, err = http.ReadResponse(r, nil)
	if err != nil || answer.StatusCode != http.StatusProxyAuthRequired {
		t.Fatal(answer, err)
	}
	io.Copy(io.Discard, answer.Body)
	io.WriteString(c, "CONNECT echo.test:7 HTTP/1.1\r\nHost: echo.test:7\r\n"+base("alice:sec:ret")+"\r\n")
	if answer, err = http.ReadResponse(r, &http.Request{Method: http.MethodConnect}); err != nil || answer.StatusCode != http.StatusOK {
		t.Fatal(answer, err)
	}
}

func TestHTTPFailures(t *testing.T) {
	for _, c := range []struct {
		line   string
		err    error
		status int
		say    string
		kind   Failure
	}{
		{"GET http://a.test/", syscall.ECONNREFUSED, 502, "refused", Refused},
		{"CONNECT a.test:80", syscall.ECONNREFUSED, 502, "refused", Refused},
		{"GET http://a.test/", &net.DNSError{IsNotFound: true}, 502, "not found", NoHost},
		{"GET http://a.test/", syscall.ENETUNREACH, 502, "does not lead", NoNetwork},
		{"GET http://a.test/", context.DeadlineExceeded, 504, "in time", TimedOut},
		{"CONNECT a.test:80", context.DeadlineExceeded, 504, "in time", TimedOut},
		{"CONNECT a.test:80", errors.New("strange"), 502, "No connection", Other},
		{"GET /", nil, 400, "not a web server", Malformed},
		{"OPTIONS *", nil, 400, "not a web server", Malformed},
		{"GET https://a.test/", nil, 400, "CONNECT", Unsupported},
		{"GET ftp://a.test/", nil, 400, "CONNECT", Unsupported},
		{"GET http://127.0.0.1/", nil, 403, "this host", Forbidden},
		{"GET http://localhost:8080/", nil, 403, "this host", Forbidden},
		{"CONNECT [::1]:80", nil, 403, "this host", Forbidden},
		{"CONNECT 0.0.0.0:80", nil, 403, "this host", Forbidden},
		{"CONNECT a.test", nil, 400, "", Malformed},
		{"CONNECT a.test:0", nil, 400, "", Malformed},
		{"CONNECT [fe80::1%25eth0]:80", nil, 403, "", Forbidden},
	} {
		t.Run(c.line, func(t *testing.T) {
			n := newInside()
			n.dials = func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Err: c.err}
			}
			s := &Server{Options: Options{Network: n}}
			_, at := proxied(t, s, nil)
			answer, body, _, _ := raw(t, at, c.line+" HTTP/1.1\r\nHost: a.test\r\n\r\n")
			if answer.StatusCode != c.status || !strings.Contains(body, c.say) {
				t.Errorf("%s: %q", answer.Status, body)
			}
			if got := s.Counters.Snapshot().Failures; got[c.kind] != 1 {
				t.Errorf("counted %v, want one %v", got, c.kind)
			}
			if len(n.requests()) > 0 != (c.err != nil) {
				t.Errorf("asked for %q", n.requests())
			}
		})
	}
}

// TestHTTPTunnelAway: a request waits for the tunnel no longer than it may.
func TestHTTPTunnelAway(t *testing.T) {
	n := newInside()
	n.dials = func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	bubble(t, &Server{}, n, func(t *testing.T, l *listener) {
		for _, line := range []string{"GET http://a.test/", "CONNECT a.test:80"} {
			c := l.connect()
			began := time.Now()
			io.WriteString(c, line+" HTTP/1.1\r\nHost: a.test\r\n\r\n")
			answer, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || answer.StatusCode != http.StatusGatewayTimeout {
				t.Fatal(answer, err)
			}
			if d := time.Since(began); d != 30*time.Second {
				t.Errorf("%s: after %v", line, d)
			}
			c.Close()
		}
	})
}

// TestRFC9112Section6Smuggling: what has two meanings is refused, or comes to the server with
// one.
func TestRFC9112Section6Smuggling(t *testing.T) {
	for name, c := range map[string]struct {
		rest string
		ok   bool // may reach the server, as one request
	}{
		"length and chunks":   {"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n", true},
		"two lengths":         {"Content-Length: 0\r\nContent-Length: 40\r\n\r\nGET http://evil.test/ HTTP/1.1\r\nHost: e\r\n\r\n", false},
		"strange encoding":    {"Transfer-Encoding: xchunked\r\n\r\n", false},
		"space before colon":  {"Content-Length : 4\r\n\r\nbody", false},
		"bare carriage":       {"X: a\rb\r\n\r\n", false},
		"second host":         {"Host: evil.test\r\n\r\n", false},
		"signed length":       {"Content-Length: +4\r\n\r\nbody", false},
		"broken chunk":        {"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", true},
		"NUL in a value":      {"X: a\x00b\r\n\r\n", false},
		"folded header":       {"X: a\r\n b\r\n\r\n", true},
		"header of 100000":    {"X: " + strings.Repeat("x", 100_000) + "\r\n\r\n", false},
		"headers of 200000":   {strings.Repeat("X: 12345678\r\n", 20_000) + "\r\n", false},
		"length beyond bound": {"Content-Length: 99999999999999999999\r\n\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			n := newInside()
			var (
				mu   sync.Mutex
				seen []string
			)
			web(t, n, func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				seen = append(seen, r.Host+r.URL.Path)
				mu.Unlock()
				if r.Header.Get("Content-Length") != "" && len(r.TransferEncoding) > 0 {
					t.Error("the server sees a length and chunks")
				}
				io.Copy(io.Discard, r.Body)
			})
			_, at := proxied(t, &Server{Options: Options{Network: n}}, nil)
			conn := dialTCP(t, at)
			go func() {
				io.WriteString(conn, "POST http://web.test/one HTTP/1.1\r\nHost: web.test\r\n"+c.rest)
				conn.CloseWrite()
			}()
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err == nil && !c.ok && answer.StatusCode < 400 {
				t.Errorf("taken: %s", answer.Status)
			}
			io.Copy(io.Discard, conn)
			mu.Lock()
			defer mu.Unlock()
			if !c.ok && len(seen) > 0 || len(seen) > 1 || len(seen) == 1 && seen[0] != "web.test/one" {
				t.Errorf("the server sees %q", seen)
			}
		})
	}
}

// TestHTTPParallel: 200 clients at the same time, half of them by CONNECT.
func TestHTTPParallel(t *testing.T) {
	n := newInside()
	body := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	web(t, n, func(w http.ResponseWriter, _ *http.Request) { w.Write(body) })
	s := &Server{Options: Options{Network: n}}
	_, at := proxied(t, s, nil)
	var tasks sync.WaitGroup
	for i := range 200 {
		c := dialTCP(t, at)
		tasks.Go(func() {
			defer c.Close()
			r, target := bufio.NewReader(c), "http://web.test"
			if i%2 == 0 {
				io.WriteString(c, "CONNECT web.test:80 HTTP/1.1\r\nHost: web.test\r\n\r\n")
				if answer, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect}); err != nil || answer.StatusCode != http.StatusOK {
					t.Error(answer, err)
					return
				}
				target = ""
			}
			io.WriteString(c, "GET "+target+"/ HTTP/1.1\r\nHost: web.test\r\n\r\n")
			answer, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			got, err := io.ReadAll(answer.Body)
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("%d octets, %v", len(got), err)
			}
		})
	}
	tasks.Wait()
}

// TestHTTPTruncated: a body that breaks off on the way is no whole one for the client.
func TestHTTPTruncated(t *testing.T) {
	n := newInside()
	web(t, n, func(w http.ResponseWriter, _ *http.Request) {
		w.Write(make([]byte, 100_000))
		panic(http.ErrAbortHandler)
	})
	client, _ := proxied(t, &Server{Options: Options{Network: n}}, nil)
	answer, err := client.Get("http://web.test/")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err == nil {
		t.Error("the client takes a part for the whole")
	}
}

// TestClientGone: a client that leaves while it waits for the tunnel is not waited for.
func TestClientGone(t *testing.T) {
	n := newInside()
	gone := make(chan struct{})
	n.dials = func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		close(gone)
		return nil, ctx.Err()
	}
	bubble(t, &Server{Options: Options{Limits: Limits{Dial: -1}}}, n, func(t *testing.T, l *listener) {
		c := l.connect()
		io.WriteString(c, "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n")
		synctest.Wait()
		c.Close()
		<-gone
	})
}

// TestHTTPDrain: when Serve is to end, a request in flight is answered, and a connection between two
// requests is not waited for.
func TestHTTPDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newInside()
		n.dials = func(context.Context, string, string) (net.Conn, error) {
			far, near := newDuplex()
			go func() {
				defer far.Close()
				r := bufio.NewReader(far)
				for {
					request, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					if request.URL.Path == "/slow" {
						time.Sleep(20 * time.Second)
					}
					io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
			}()
			return near, nil
		}
		s := &Server{Options: Options{Network: n, Limits: Limits{Drain: time.Minute}}}
		l := newListener()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Serve(ctx, l) }()
		idle, busy := l.connect(), l.connect()
		read := func(c net.Conn) {
			t.Helper()
			answer, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(answer.Body); string(b) != "ok" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
		}
		io.WriteString(idle, "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n")
		read(idle)
		io.WriteString(busy, "GET http://a.test/slow HTTP/1.1\r\nHost: a.test\r\n\r\n")
		synctest.Wait()
		began := time.Now()
		cancel()
		ended(t, idle)
		if d := time.Since(began); d > time.Second {
			t.Errorf("the idle one after %v", d)
		}
		read(busy)
		ended(t, busy)
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if d := time.Since(began); d < 20*time.Second || d > 22*time.Second {
			t.Errorf("ended after %v", d)
		}
	})
}
