package martlet

import (
	"context"
	"errors"
	"io"
	"net/http"

	"martlet/ike"
)

// What `martlet bugreport` asks for over the control socket, beside the status.

// maxRead bounds a text over the control socket, in octets.
const maxRead = 16 << 20

// serveLog sends the last lines of the log.
func (n *Node) serveLog(w http.ResponseWriter, _ *http.Request) {
	if n.Recent == nil {
		writeResult(w, &Error{Code: ike.CodeHost, What: "the running martlet keeps no lines of its log", Why: "the program that has it inside did not ask for that", Hint: "see where that program logs to"})
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(n.Recent()) // the client is gone: nobody is left to tell
}

// serveMetrics sends what the monitor has at /metrics.
func (n *Node) serveMetrics(w http.ResponseWriter, r *http.Request) {
	text, err := n.metrics(r.Context())
	if err != nil {
		writeResult(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(text)
}

// Log asks for the last lines of the Node's log, as Node.Recent has them.
func (c *Control) Log(ctx context.Context) ([]byte, error) { return c.read(ctx, "/v1/log") }

// Metrics asks for the Node's metrics in the text format of Prometheus.
func (c *Control) Metrics(ctx context.Context) ([]byte, error) { return c.read(ctx, "/v1/metrics") }

func (c *Control) read(ctx context.Context, path string) ([]byte, error) {
	resp, err := c.send(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxRead))
	return text, errors.Join(err, resp.Body.Close())
}
