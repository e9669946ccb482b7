package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"time"
)

const (
	longestHeader = 64 << 10 // of a request, in octets
	// idleUpstream is how long a connection to a server is kept for the next request. It is
	// short because after a new tunnel nothing answers on an old connection.
	idleUpstream = 10 * time.Second
	idleClient   = 2 * time.Minute // between two requests
)

// httpProxy speaks HTTP for a Server: net/http reads the requests and writes them anew, so
// that what a server sees is what this proxy has understood. RFC 9110 §7
type httpProxy struct {
	*serving
	users     []User
	server    *http.Server
	transport *http.Transport
	forward   *httputil.ReverseProxy
	conns     *handed
	tasks     sync.WaitGroup
}

func newHTTPProxy(v *serving, users []User, at net.Addr) *httpProxy {
	h := &httpProxy{serving: v, users: users, conns: &handed{addr: at, next: make(chan net.Conn), closed: make(chan struct{})}}
	h.transport = &http.Transport{
		DialContext:            h.dialCounted,
		DisableCompression:     true, // a body passes as it is
		IdleConnTimeout:        idleUpstream,
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    8,
		MaxResponseHeaderBytes: 4 * longestHeader,
	}
	quietly := log.New(debugWriter{v.Log}, "", 0)
	h.forward = &httputil.ReverseProxy{
		Rewrite:       rewrite,
		Transport:     h.transport,
		ErrorHandler:  func(w http.ResponseWriter, r *http.Request, err error) { h.fail(w, r.URL.Host, err) },
		ErrorLog:      quietly,
		BufferPool:    bodyBuffers{},
		FlushInterval: -1,
	}
	h.server = &http.Server{
		Handler:           h,
		ReadHeaderTimeout: v.Limits.handshake(),
		IdleTimeout:       idleClient,
		MaxHeaderBytes:    longestHeader,
		ErrorLog:          quietly,
		BaseContext:       func(net.Listener) context.Context { return v.live },

		DisableGeneralOptionsHandler: true, // a proxy has no * of its own
	}
	h.tasks.Go(func() { h.server.Serve(h.conns) })
	return h
}

// serve has the HTTP server take a connection, of which the first octet was read, and
// returns when it is closed.
func (h *httpProxy) serve(conn net.Conn, first byte) {
	c := &handedConn{Conn: conn, first: first, closed: make(chan struct{})}
	c.unread.Store(true)
	select {
	case h.conns.next <- c:
		<-c.closed
	case <-h.conns.closed:
	}
}

// drain has requests come to their end and takes no more; end waits for that.
func (h *httpProxy) drain() { h.tasks.Go(func() { h.server.Shutdown(h.live) }) }

func (h *httpProxy) end() {
	h.server.Shutdown(context.Background()) // all connections are closed: handlers only
	h.tasks.Wait()
	h.transport.CloseIdleConnections()
}

// ServeHTTP carries out one request.
func (h *httpProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.users != nil && !h.allowed(r) {
		h.Counters.fail(Denied)
		w.Header().Set("Proxy-Authenticate", `Basic realm="martlet", charset="UTF-8"`)
		h.say(w, http.StatusProxyAuthRequired, "This proxy wants a user name and a password, and these were missing or wrong.")
		return
	}
	host, port := r.URL.Host, "80"
	if r.Method == http.MethodConnect {
		host, port = r.Host, ""
	} else if !r.URL.IsAbs() || host == "" {
		h.Counters.fail(Malformed)
		h.say(w, http.StatusBadRequest, "This is a proxy, not a web server: set it as the proxy of a program (http_proxy, https_proxy), and ask through it.")
		return
	} else if r.URL.Scheme != "http" {
		h.Counters.fail(Unsupported)
		h.say(w, http.StatusBadRequest, "This proxy fetches http:// addresses; for "+strconv.Quote(r.URL.Scheme)+" programs use the method CONNECT.")
		return
	}
	d, err := parseHost(host, port)
	if err == nil {
		err = d.check()
	}
	if err != nil {
		h.failed(err, host)
		h.say(w, classify(err).status(), classify(err).explain(host))
		return
	}
	if r.Method == http.MethodConnect {
		h.connect(w, r, d)
		return
	}
	// A server may answer while the request still goes on. An error says that this is no
	// HTTP/1, and cannot be.
	http.NewResponseController(w).EnableFullDuplex()
	h.forward.ServeHTTP(w, r)
}

// allowed checks the password. RFC 7617 §2
func (h *httpProxy) allowed(r *http.Request) bool {
	as := http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
	name, password, ok := as.BasicAuth()
	return ok && known(h.users, name, password)
}

// parseHost reads "host:port" as it stands in a request; without a port it is the one that
// is given, if any.
func parseHost(s, port string) (d destination, err error) {
	u := url.URL{Host: s}
	if p := u.Port(); p != "" {
		port = p
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return d, fault(Malformed, "http: no port in "+strconv.Quote(s))
	}
	d.port = uint16(n)
	return d, d.setHost(u.Hostname())
}

// connect is the method CONNECT. RFC 9110 §9.3.6
func (h *httpProxy) connect(w http.ResponseWriter, r *http.Request, d destination) {
	tunnel, err := h.dial(r.Context(), "tcp", d.String())
	if err != nil {
		h.answer(w, d.String(), err)
		return
	}
	client, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		tunnel.Close()
		return
	}
	defer client.Close()
	client.SetWriteDeadline(time.Now().Add(h.Limits.handshake()))
	_, err = io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
	client.SetWriteDeadline(time.Time{})
	if err == nil {
		err = h.early(tunnel, rw.Reader)
	}
	if err != nil {
		abort(tunnel)
		abort(client)
		return
	}
	relay(h.live, client, tunnel, h.Limits.idle(), h.Counters)
}

// early sends what the client sent without waiting for the answer.
func (h *httpProxy) early(tunnel net.Conn, from *bufio.Reader) error {
	b, _ := from.Peek(from.Buffered())
	if len(b) == 0 {
		return nil
	}
	n, err := tunnel.Write(b)
	h.Counters.sent.Add(uint64(n))
	return err
}

// rewrite leaves a request as it came, but for what belongs to the connection of the client,
// which ReverseProxy has removed.
func rewrite(r *httputil.ProxyRequest) {
	r.Out.URL.RawQuery = r.In.URL.RawQuery
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v, ok := r.In.Header[name]; ok {
			r.Out.Header[name] = v
		}
	}
}

// fail answers for a request that could not be forwarded. The failure to connect was
// counted when it happened, and others are counted here.
func (h *httpProxy) fail(w http.ResponseWriter, address string, err error) {
	var dialled *dialError
	switch {
	case errors.As(err, &dialled):
		err = dialled.error
	case errors.Is(err, context.Canceled):
		// The client is gone, or this proxy ends.
	default:
		h.failed(err, address)
	}
	h.answer(w, address, err)
}

func (h *httpProxy) answer(w http.ResponseWriter, address string, err error) {
	kind := classify(err)
	h.say(w, kind.status(), kind.explain(address))
}

func (h *httpProxy) say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	io.WriteString(w, text+"\n")
}

// dialError is an error that was counted.
type dialError struct{ error }

func (e *dialError) Unwrap() error { return e.error }

// dialCounted connects to a server for requests.
func (h *httpProxy) dialCounted(ctx context.Context, network, address string) (net.Conn, error) {
	// A request that found another connection leaves its dial to those that follow.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.live, cancel)()
	d, err := parseHost(address, "")
	if err == nil {
		err = d.check()
	}
	if err != nil {
		return nil, err
	}
	conn, err := h.dial(ctx, network, address)
	if err != nil {
		return nil, &dialError{err}
	}
	return &countedConn{conn, h.Counters}, nil
}
