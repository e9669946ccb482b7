package martlet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"martlet/ike"
)

// The control socket speaks HTTP and JSON over a unix socket that only its owner
// (root for a daemon) may open:
//
//	GET  /v1/status   Status
//	GET  /v1/watch    Events, a line each
//	GET  /v1/capture  ?keys=1&inner=1&connection=NAME: packets, in parts, until the client ends what it sends
//	GET  /v1/log      the last lines of the log, as text
//	GET  /v1/metrics  metrics in the text format of Prometheus
//	POST /v1/up       controlOrder connects, or opens a child; answers when it is up
//	POST /v1/down     controlOrder deletes SAs; without a connection the program ends
//	POST /v1/reload   reads the configuration's file again
//	POST /v1/rekey    controlOrder gives an IKE SA, or a child, fresh keys; answers when it has them
//	POST /v1/dial     dialOrder connects inside the tunnel; the connection is that one from then on
//	POST /v1/ping     pingOrder sends an echo request; Pinged
//	POST /v1/portal   portalOrder looks for a login page, and may open the kill switch for it; PortalStatus
//	POST /v1/redirect redirectOrder sends peers to another gateway; answers with how many
//
// Failures have a status of 4xx or 5xx and an Error as body.

type controlOrder struct {
	Connection string `json:"connection"`
	Child      string `json:"child,omitempty"`
}

type redirectOrder struct {
	Connection string `json:"connection,omitempty"`
	To         string `json:"to"`
}

type portalOrder struct {
	Hole time.Duration `json:"hole_ns"` // 0 opens none
}

type redirectResult struct {
	Told int `json:"told"`
}

const (
	maxControlBody    = 1 << 16
	controlReadWithin = 5 * time.Second
	// controlAnswersWithin is how long another program may take to say that it is there.
	controlAnswersWithin = 2 * time.Second
)

// ServeControl serves the control socket of Config.Node.Control until ctx ends, or until
// Close has undone what Start did; while the Node closes it refuses every order with
// ike.CodeTerminated. down is called when the whole program is told to end. A socket that
// a crashed program left behind is replaced; one that answers is an error.
func (n *Node) ServeControl(ctx context.Context, down func()) error {
	path := n.conf().Node.Control
	if err := Alone(ctx, path); err != nil {
		return err
	}
	listener, err := n.services.ListenControl(path)
	if err != nil {
		return controlError(path, err)
	}
	server := &http.Server{Handler: n.controlHandler(down), ReadTimeout: controlReadWithin, MaxHeaderBytes: 1 << 14}
	ctx, cancel := context.WithCancel(ctx)
	closed := context.AfterFunc(n.gone, cancel)
	stop := context.AfterFunc(ctx, func() {
		// Answers that are on their way, the one to "down" among them, get out.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(last) != nil {
			_ = server.Close()
		}
	})
	n.tasks.Go(func() {
		defer cancel()
		defer closed()
		defer stop()
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			n.log.Error("the control socket failed: " + err.Error())
		}
	})
	return nil
}

// Alone is an error if a program serves the control socket at path, or holds it.
func Alone(ctx context.Context, path string) error {
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	within, cancel := context.WithTimeout(ctx, controlAnswersWithin)
	defer cancel()
	_, err := NewControl(path).Status(within)
	if within.Err() != nil && ctx.Err() == nil {
		return &Error{
			Code: ike.CodeHost,
			What: "a martlet that runs here does not answer",
			Why:  fmt.Sprintf("somebody has the control socket %s open and said nothing for %v", path, controlAnswersWithin),
			Hint: "is it stopped? end it first, then start again",
		}
	}
	if e, ok := errors.AsType[*Error](err); ok && e.Code == ike.CodeTerminated {
		return &Error{
			Code: ike.CodeHost,
			What: "the martlet that runs here is still ending",
			Why:  "it waits for its peers, and then undoes what it set up on this host",
			Hint: "try again in a second, or wait for it with `martlet down`",
		}
	}
	if err != nil {
		return nil //nolint:nilerr // nobody answers, as it should be
	}
	return &Error{
		Code: ike.CodeHost,
		What: "martlet is running already",
		Why:  "the control socket " + path + " answers",
		Hint: "stop it with `martlet down`, or give this one another node.control and node.device",
	}
}

func controlError(path string, err error) error {
	return &Error{
		Code: ike.CodeHost,
		What: "the control socket " + path + " cannot be opened",
		Why:  err.Error(),
		Hint: "set node.control to a path in a folder of your own",
	}
}

func (n *Node) controlHandler(down func()) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, n.Status())
	})
	mux.HandleFunc("GET /v1/watch", n.serveWatch)
	mux.HandleFunc("GET /v1/capture", n.serveCapture)
	mux.HandleFunc("GET /v1/log", n.serveLog)
	mux.HandleFunc("GET /v1/metrics", n.serveMetrics)
	mux.HandleFunc("POST /v1/up", ordered(n.serveUp))
	mux.HandleFunc("POST /v1/down", ordered(func(w http.ResponseWriter, _ *http.Request, order controlOrder) {
		n.serveDown(w, order, down)
	}))
	mux.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, _ *http.Request) {
		writeResult(w, n.ReloadFile())
	})
	mux.HandleFunc("POST /v1/rekey", ordered(func(w http.ResponseWriter, r *http.Request, order controlOrder) {
		writeResult(w, n.Rekey(r.Context(), order.Connection, order.Child))
	}))
	mux.HandleFunc("POST /v1/dial", ordered(n.serveDial))
	mux.HandleFunc("POST /v1/ping", ordered(n.servePing))
	mux.HandleFunc("POST /v1/portal", ordered(n.servePortal))
	mux.HandleFunc("POST /v1/redirect", ordered(n.serveRedirect))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.ending.Load() {
			writeResult(w, net.ErrClosed)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (n *Node) serveUp(w http.ResponseWriter, r *http.Request, order controlOrder) {
	err := n.Connect(r.Context(), order.Connection)
	if err == nil && order.Child != "" {
		err = n.OpenChild(r.Context(), order.Connection, order.Child)
	}
	writeResult(w, err)
}

func (n *Node) serveDown(w http.ResponseWriter, order controlOrder, down func()) {
	if order.Connection == "" {
		writeResult(w, nil)
		down()
		return
	}
	_, err := n.connection(order.Connection)
	if err == nil {
		n.Disconnect(order.Connection)
	}
	writeResult(w, err)
}

func (n *Node) servePing(w http.ResponseWriter, r *http.Request, order pingOrder) {
	pinged, err := n.PingHost(r.Context(), order.Host)
	if err != nil {
		writeResult(w, err)
		return
	}
	writeJSON(w, http.StatusOK, pinged)
}

func (n *Node) servePortal(w http.ResponseWriter, r *http.Request, order portalOrder) {
	s := n.CheckPortal(r.Context())
	if order.Hole > 0 {
		var err error
		if s.HoleUntil, err = n.OpenHole(order.Hole); err != nil {
			writeResult(w, err)
			return
		}
	}
	writeJSON(w, http.StatusOK, s)
}

func (n *Node) serveRedirect(w http.ResponseWriter, _ *http.Request, order redirectOrder) {
	told, err := n.Redirect(order.Connection, order.To)
	if err != nil {
		writeResult(w, err)
		return
	}
	writeJSON(w, http.StatusOK, redirectResult{told})
}

// ordered hands a handler the order in the body, if it can be read.
func ordered[Order any](serve func(http.ResponseWriter, *http.Request, Order)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var order Order
		if readBody(w, r, &order) {
			serve(w, r, order)
		}
	}
}

// readBody reads an order, and answers one that cannot be read.
func readBody(w http.ResponseWriter, r *http.Request, order any) bool {
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxControlBody))
	body.DisallowUnknownFields()
	if err := body.Decode(order); err != nil {
		writeJSON(w, http.StatusBadRequest, &Error{Code: ike.CodeInternal, What: "the control order is not understood", Why: err.Error(), Hint: "use a `martlet` of the same version"})
		return false
	}
	return true
}

func writeResult(w http.ResponseWriter, err error) {
	if err == nil {
		writeJSON(w, http.StatusOK, struct{}{})
		return
	}
	e, ok := errors.AsType[*Error](err)
	switch {
	case ok:
	case errors.Is(err, net.ErrClosed):
		e = &Error{Code: ike.CodeTerminated, What: "the martlet that was asked is ending", Hint: "start it again"}
	default:
		e = &Error{Code: ike.CodeInternal, What: err.Error()}
	}
	writeJSON(w, http.StatusConflict, e)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone: nobody is left to tell
}

// serveWatch sends the Node's events, a JSON object a line, until the client goes or the Node ends.
func (n *Node) serveWatch(w http.ResponseWriter, r *http.Request) {
	events := n.Watch(r.Context())
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	out, lines := http.NewResponseController(w), json.NewEncoder(w)
	for out.Flush() == nil {
		ev, ok := <-events
		if !ok || lines.Encode(ev) != nil {
			return
		}
	}
}
