package martlet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"martlet/ike"
)

// Control drives a Node in another process over its control socket.
type Control struct {
	path string
	http *http.Client
}

// NewControl is a client of the socket at path. It connects at each call.
func NewControl(path string) *Control {
	return &Control{path: path, http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}}
}

// Status asks for the Node's status.
func (c *Control) Status(ctx context.Context) (*Status, error) {
	var s Status
	return &s, c.do(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// Watch returns the Node's events from now on. The channel closes with ctx, and where the program ends
// or its socket does.
func (c *Control) Watch(ctx context.Context) (<-chan Event, error) {
	resp, err := c.send(ctx, http.MethodGet, "/v1/watch", nil)
	if err != nil {
		return nil, err
	}
	events := make(chan Event)
	go func() {
		defer close(events)
		defer resp.Body.Close()
		lines := json.NewDecoder(resp.Body)
		for {
			var ev Event
			if lines.Decode(&ev) != nil {
				return
			}
			select {
			case events <- ev:
			case <-ctx.Done():
				return
			}
		}
	}()
	return events, nil
}

// Up connects a connection, and opens a child of it if one is named.
func (c *Control) Up(ctx context.Context, connection, child string) error {
	return c.do(ctx, http.MethodPost, "/v1/up", controlOrder{connection, child}, &struct{}{})
}

// Reload has the program read its file again.
func (c *Control) Reload(ctx context.Context) error {
	return c.do(ctx, http.MethodPost, "/v1/reload", nil, &struct{}{})
}

// Down closes a connection; an empty name ends the program.
func (c *Control) Down(ctx context.Context, connection string) error {
	return c.do(ctx, http.MethodPost, "/v1/down", controlOrder{Connection: connection}, &struct{}{})
}

// Rekey gives the IKE SA of a connection, or a child of it if one is named, fresh keys.
func (c *Control) Rekey(ctx context.Context, connection, child string) error {
	return c.do(ctx, http.MethodPost, "/v1/rekey", controlOrder{connection, child}, &struct{}{})
}

// Redirect sends the peers of a connection, or all, to another gateway, and returns how many
// were told.
func (c *Control) Redirect(ctx context.Context, connection, to string) (int, error) {
	var result redirectResult
	err := c.do(ctx, http.MethodPost, "/v1/redirect", redirectOrder{connection, to}, &result)
	return result.Told, err
}

// Portal asks whether the network wants a login, and opens the kill switch for it for so long, if hole
// is not 0; see Node.OpenHole.
func (c *Control) Portal(ctx context.Context, hole time.Duration) (*PortalStatus, error) {
	var s PortalStatus
	return &s, c.do(ctx, http.MethodPost, "/v1/portal", portalOrder{hole}, &s)
}

func (c *Control) do(ctx context.Context, method, path string, in, out any) error {
	resp, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("martlet: control: %w", err)
	}
	return nil
}

// send returns the answer to an order that was not refused; the caller closes its body.
func (c *Control) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("martlet: control: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://martlet"+path, body)
	if err != nil {
		return nil, fmt.Errorf("martlet: control: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	e := &Error{}
	if err := json.NewDecoder(resp.Body).Decode(e); err != nil {
		return nil, fmt.Errorf("martlet: control: %s: %w", resp.Status, err)
	}
	return nil, e
}

func (c *Control) unreachable(err error) error {
	e := &Error{
		Code: ike.CodeHost,
		What: "no martlet answers on " + c.path,
		Why:  err.Error(),
		Hint: "is `martlet up` or `martlet serve` running? another socket is named with --control or -c",
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		e.Why = op.Err.Error() // what is around it is HTTP's
	}
	switch {
	case errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EACCES):
		e.Hint = "the socket belongs to another user, root as a rule: use sudo"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Hint = "the one that made the socket was killed; the next `martlet up` or `martlet serve` undoes what it left on this host, and so does `martlet down`"
	}
	return e
}
