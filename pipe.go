package martlet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"martlet/ike"
	"martlet/tun/proxy"
)

// Pipe connects to "host:port" inside the tunnel, and carries what it reads from in there and what
// comes back to out, as ssh's ProxyCommand wants it. The end of in ends that direction only.
// It returns when both have ended; the error is an *Error where nothing was connected.
func (n *Node) Pipe(ctx context.Context, address string, in io.Reader, out io.Writer) error {
	if n.stack == nil {
		return n.elsewhere()
	}
	return pipe(ctx, n.doorOptions(), address, in, out)
}

func pipe(ctx context.Context, o proxy.Options, address string, in io.Reader, out io.Writer) error {
	connected := false
	dial := o.Network.DialContext
	o.Network = dialer{dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		connected = err == nil
		return conn, err
	}}
	err := proxy.Pipe(ctx, o, address, in, out)
	if err == nil || connected || ctx.Err() != nil {
		return err
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return notReached(address, err)
}

// notReached says why an address inside the tunnel could not be connected to.
func notReached(address string, err error) *Error {
	return &Error{
		Code: ike.CodeUnreachable, What: "no connection to " + address, Why: proxy.Explain(err, address),
		Hint: "`martlet status` shows where the tunnel leads",
	}
}

// dialer is a proxy.Network of which only DialContext is used.
type dialer struct {
	proxy.Network
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

func (d dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return d.dial(ctx, network, address)
}

type dialOrder struct {
	Address string `json:"address"`
}

type pingOrder struct {
	Host string `json:"host"` // a name or an address
}

// Pinged is the answer to an ICMP echo request.
type Pinged struct {
	Address netip.Addr    `json:"address"`
	RTT     time.Duration `json:"rtt_ns"`
}

// pingWithin is how long the answer to a ping is waited for.
const pingWithin = 5 * time.Second

// PingHost pings a host by name or address; see Ping.
func (n *Node) PingHost(ctx context.Context, host string) (Pinged, error) {
	ctx, cancel := context.WithTimeout(ctx, pingWithin)
	defer cancel()
	if n.stack == nil {
		return Pinged{}, n.elsewhere()
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		addrs, err := n.lookup(ctx, "ip", host)
		if err != nil {
			return Pinged{}, notReached(host, err)
		}
		addr = addrs[0]
	}
	rtt, err := n.Ping(ctx, addr.Unmap())
	if err != nil {
		return Pinged{}, notReached(host, err)
	}
	return Pinged{addr.Unmap(), rtt}, nil
}

// serveDial connects inside the tunnel, and makes the request's connection that one.
func (n *Node) serveDial(w http.ResponseWriter, r *http.Request, order dialOrder) {
	if n.stack == nil {
		writeResult(w, n.elsewhere())
		return
	}
	o := n.doorOptions()
	ctx, cancel := context.WithTimeout(r.Context(), dialInsideWithin)
	conn, err := o.Network.DialContext(ctx, "tcp", order.Address)
	cancel()
	if err != nil {
		writeResult(w, notReached(order.Address, err))
		return
	}
	outer, err := upgrade(w)
	if err != nil {
		conn.Close()
		return
	}
	defer outer.Close()
	o.Network = dialer{dial: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	_ = proxy.Pipe(n.doors.ctx, o, order.Address, outer, halfCloser{outer}) // both ends hear of it
}

const dialInsideWithin = 30 * time.Second

// Pipe is Node.Pipe through the running martlet.
func (c *Control) Pipe(ctx context.Context, address string, in io.Reader, out io.Writer) error {
	return pipe(ctx, proxy.Options{Network: dialer{dial: c.dial}}, address, in, out)
}

// Ping is Node.PingHost through the running martlet.
func (c *Control) Ping(ctx context.Context, host string) (Pinged, error) {
	var p Pinged
	return p, c.do(ctx, http.MethodPost, "/v1/ping", pingOrder{host}, &p)
}

// dial has the running martlet connect to an address inside its tunnel.
func (c *Control) dial(ctx context.Context, _, address string) (net.Conn, error) {
	body, err := json.Marshal(dialOrder{address})
	if err != nil {
		return nil, err
	}
	conn, err := c.stream(ctx, http.MethodPost, "/v1/dial", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return conn, nil
}
