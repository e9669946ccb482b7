package martlet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/netutil"

	"martlet/ike"
	"martlet/tun/proxy"
)

// monitor is the HTTP server at Config.Node.Monitor: what watches over programs asks it.
type monitor struct {
	server   *http.Server
	listener net.Listener
	log      *zap.Logger
	done     chan struct{} // closed when the server has ended; nil until it began
}

// Bounds of the monitor. Who asks says so in one small request; a connection is for one.
const (
	monitorClients = 32
	monitorHeader  = 8 << 10
	monitorRead    = 5 * time.Second
	monitorWrite   = 10 * time.Second
)

// openMonitor takes the port; nil if none is configured. Who asks before serve is called waits.
func openMonitor(ctx context.Context, n *Node) (*monitor, error) {
	address := n.conf().Node.Monitor
	if address == "" {
		return nil, nil //nolint:nilnil // the methods of monitor take a nil one
	}
	listener, err := proxy.Listen(ctx, address, proxy.Exposure{Open: true})
	if err != nil {
		e := &Error{
			Code: ike.CodeHost,
			What: "the monitor cannot listen on TCP " + address,
			Why:  err.Error(),
			Hint: "set node.monitor to an address of this host and a port above 1023",
		}
		if errors.Is(err, syscall.EADDRINUSE) {
			e.Hint = "another program has the port, another martlet perhaps; set node.monitor to another one"
		}
		return nil, e
	}
	m := &monitor{listener: netutil.LimitListener(listener, monitorClients), log: n.log.Named("monitor")}
	m.server = &http.Server{
		Handler: n.MonitorHandler(), MaxHeaderBytes: monitorHeader, ReadTimeout: monitorRead, WriteTimeout: monitorWrite,
		ErrorLog: zap.NewStdLog(m.log),
	}
	m.server.SetKeepAlivesEnabled(false)
	return m, nil
}

// address is where the monitor listens; the zero value if there is none.
func (m *monitor) address() netip.AddrPort {
	if m == nil {
		return netip.AddrPort{}
	}
	at, err := netip.ParseAddrPort(m.listener.Addr().String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// serve answers from now on.
func (m *monitor) serve() {
	if m == nil {
		return
	}
	m.done = make(chan struct{})
	go func() {
		defer close(m.done)
		if err := m.server.Serve(m.listener); !errors.Is(err, http.ErrServerClosed) {
			m.log.Error("the monitor failed: " + err.Error())
		}
	}()
}

// close ends the server. Answers that are on their way have a second to get out.
func (m *monitor) close() {
	if m == nil {
		return
	}
	if m.done == nil {
		_ = m.listener.Close() // nobody was served; the port is free again in any case
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if m.server.Shutdown(ctx) != nil {
		_ = m.server.Close()
	}
	<-m.done
}

// MonitorHandler answers GET and HEAD of
//
//	/startupz  200 from the moment the first child SA was up; of a Node that only serves, from
//	           when it listens
//	/livez     200 if the event loop of every engine answers within a second
//	/readyz    200 if Ready says so; what is missing stands in the body
//	/metrics   metrics in the text format of Prometheus
//	/status    Status in JSON, for this host alone: the client has a loopback address, and the
//	           header Host names one, or localhost
//
// and with 503 where the answer is no. Config.Node.Monitor serves the same; this is for
// programs with a server of their own, which bounds what clients may use up. It may be called, and
// serve, at any time, also before Start. Behind a proxy on this host every client has a loopback
// address: then let it not pass /status on.
func (n *Node) MonitorHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /startupz", func(w http.ResponseWriter, _ *http.Request) {
		ok, text := n.startedUp()
		answerProbe(w, ok, text)
	})
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, r *http.Request) {
		ok, text := n.Alive(r.Context())
		answerProbe(w, ok, text)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ready, text := n.Ready(r.Context())
		answerProbe(w, ready, text)
	})
	mux.HandleFunc("GET /metrics", n.answerMetrics)
	mux.HandleFunc("GET /status", n.answerStatus)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(w, r)
	})
}

func answerProbe(w http.ResponseWriter, ok bool, text string) {
	status := http.StatusOK
	if !ok {
		status = http.StatusServiceUnavailable
	}
	answerText(w, status, text)
}

func answerText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // the client is gone: nobody is left to tell
}

func (n *Node) answerStatus(w http.ResponseWriter, r *http.Request) {
	if !fromHere(r) {
		answerText(w, http.StatusForbidden, "The status tells who is connected and from where: only a client on this host may read it, "+
			"at http://127.0.0.1 or http://localhost.\n")
		return
	}
	if !n.health.running.Load() || n.ending.Load() {
		answerText(w, http.StatusServiceUnavailable, "There is no status: it is starting or ending.\n")
		return
	}
	if ok, text := n.Alive(r.Context()); !ok { // Status would wait for it
		answerText(w, http.StatusServiceUnavailable, text)
		return
	}
	writeJSON(w, http.StatusOK, n.Status())
}

// fromHere tells whether a client is on this host. A page on the web can have a browser here ask
// for a name of its own that resolves to a loopback address, but not for another's name: so the
// name counts too.
func fromHere(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !from.Addr().Unmap().IsLoopback() {
		return false
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return err == nil && addr.Unmap().IsLoopback()
}

func (n *Node) answerMetrics(w http.ResponseWriter, r *http.Request) {
	text, err := n.metrics(r.Context())
	if err != nil {
		answerText(w, http.StatusServiceUnavailable, fmt.Sprintf("There are no metrics: %v.\n", err))
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(text) // the client is gone: nobody is left to tell
}
