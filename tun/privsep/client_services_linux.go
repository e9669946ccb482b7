package privsep

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"martlet/tun"
	"martlet/tun/dns"
	"martlet/tun/firewall"
	"martlet/tun/route"
)

// Privileged implements Services.
func (c *Client) Privileged() bool { return true }

// Process implements Services.
func (c *Client) Process() int { return c.hello.Process }

// Recover implements Services.
func (c *Client) Recover() error { return c.order(doRecover, nil) }

// OpenDevice implements Services.
func (c *Client) OpenDevice(mtu, queues int) (tun.Device, error) {
	var h tun.Handed
	files, err := c.Call(doOpen, wantedDevice{mtu, queues}, &h)
	if f, ok := errors.AsType[*fault](err); ok {
		return nil, &tun.OpenError{Name: h.Name, Hint: f.Hint, Err: f}
	}
	if err != nil {
		return nil, err
	}
	return tun.Take(h, files, func(mtu int) error { return c.order(doMTU, mtu) })
}

// Router implements Services.
func (c *Client) Router() route.Router { return router{c} }

type router struct{ of *Client }

func (r router) Set(c route.Config) error { return r.of.order(doRoutes, c) }
func (r router) Close() error             { return r.of.order(doNoRoutes, nil) }

// Firewall implements Services.
func (c *Client) Firewall() firewall.Firewall { return filter{c} }

type filter struct{ of *Client }

func (f filter) Set(r firewall.Rules) error { return f.of.order(doRules, r) }
func (f filter) Clear() error               { return f.of.order(doNoRules, nil) }
func (f filter) Leave() error               { return f.of.order(doLeaveRules, nil) }

// Resolvers implements Services.
func (c *Client) Resolvers() (dns.Host, error) { return names{c}, nil }

type names struct{ of *Client }

func (n names) Set(c dns.Config) error { return n.of.order(doNames, c) }
func (n names) Close() error           { return n.of.order(doNoNames, nil) }

// Control implements Services.
func (c *Client) Control(_, _ string, raw syscall.RawConn) error {
	return c.socket(raw, wantedSocket{Outside: true})
}

// Buffers implements Services.
func (c *Client) Buffers(raw syscall.RawConn, octets int) error {
	return c.socket(raw, wantedSocket{Buffer: octets})
}

// Bind implements Services.
func (c *Client) Bind(raw syscall.RawConn, local netip.AddrPort) error {
	return c.socket(raw, wantedSocket{Bind: local})
}

func (c *Client) socket(raw syscall.RawConn, w wantedSocket) (err error) {
	if e := raw.Control(func(fd uintptr) { _, err = c.Call(doSocket, w, nil, int(fd)) }); e != nil {
		return e
	}
	return err
}

// ListenControl implements Services.
func (c *Client) ListenControl(string) (net.Listener, error) {
	file, err := c.file(doControl, nil)
	if err != nil {
		return nil, err
	}
	l, err := net.FileListener(file)
	return l, errors.Join(err, file.Close())
}

// KeyLog implements Services.
func (c *Client) KeyLog() (tables [2]*os.File, err error) {
	files, err := c.Call(doKeyLog, nil, nil)
	if f, ok := errors.AsType[*fault](err); ok && f.Hint != "" {
		err = &KeyTableError{f.Path, f.Text, f.Hint}
	}
	if err == nil && len(files) != len(tables) {
		(&message{files: files}).drop()
		err = fmt.Errorf("privsep: %d files of a key log came", len(files))
	}
	if err != nil {
		return tables, err
	}
	return [2]*os.File(files), nil
}

// Secret implements Services.
func (c *Client) Secret(name string) ([]byte, error) {
	var out secret
	_, err := c.Call(doSecret, secret{Name: name}, &out)
	return out.Value, err
}

// ReplaceSecret implements Services.
func (c *Client) ReplaceSecret(name string, b []byte) error {
	return c.order(doReplace, secret{name, b})
}
