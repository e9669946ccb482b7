package martlet

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Some orders make the connection to the control socket a stream of octets, each direction of which
// ends by itself.

// streamUpgrade is what the control socket speaks from then on.
const streamUpgrade = "martlet-stream"

// controlStream is a connection to or of the control socket of which a part was read ahead.
type controlStream struct {
	net.Conn
	r *bufio.Reader
}

func (s *controlStream) Read(b []byte) (int, error) { return s.r.Read(b) }

// CloseWrite ends what we send.
func (s *controlStream) CloseWrite() error {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// halfCloser is a stream whose Close ends only what is written.
type halfCloser struct{ *controlStream }

func (h halfCloser) Close() error { return h.CloseWrite() }

// upgrade makes a request's connection a stream, which the caller closes. After an error the client
// has been told.
func upgrade(w http.ResponseWriter) (*controlStream, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		writeResult(w, err)
		return nil, err
	}
	err = conn.SetDeadline(time.Time{})
	if err == nil {
		_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", streamUpgrade)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &controlStream{Conn: conn, r: buffered.Reader}, nil
}

// stream gives an order that makes the connection a stream, which the caller closes. The end of ctx
// after that does nothing.
func (c *Control) stream(ctx context.Context, method, path string, body io.Reader) (*controlStream, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.path)
	if err != nil {
		return nil, c.unreachable(err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	req, err := http.NewRequestWithContext(ctx, method, "http://martlet"+path, body)
	if err == nil {
		err = req.Write(conn)
	}
	var resp *http.Response
	buffered := bufio.NewReader(conn)
	if err == nil {
		resp, err = http.ReadResponse(buffered, req)
	}
	if err != nil {
		conn.Close()
		return nil, c.unreachable(err)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return &controlStream{Conn: conn, r: buffered}, nil
	}
	defer conn.Close()
	e := &Error{}
	if err := json.NewDecoder(resp.Body).Decode(e); err != nil {
		return nil, fmt.Errorf("martlet: control: %s: %w", resp.Status, err)
	}
	return nil, e
}
