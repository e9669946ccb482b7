package privsep

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"go.uber.org/zap"

	"martlet/tun"
	"martlet/tun/dns"
	"martlet/tun/firewall"
	"martlet/tun/route"
)

// Direct are the Services of this process itself.
type Direct struct {
	Settings

	May bool // whether the host can be set up
	Log *zap.Logger
}

// Privileged implements Services.
func (d *Direct) Privileged() bool { return d.May }

// Recover implements Services.
func (d *Direct) Recover() error {
	_, err := firewall.Recover(d.blocking(), d.Log)
	return errors.Join(route.Recover(d.State, d.Log), dns.Recover(d.State, d.Log), err)
}

// OpenDevice implements Services.
func (d *Direct) OpenDevice(mtu, queues int) (tun.Device, error) {
	return tun.Open(d.Device, mtu, queues)
}

// Router implements Services.
func (d *Direct) Router() route.Router { return route.New(d.State, d.Log) }

// Firewall implements Services.
func (d *Direct) Firewall() firewall.Firewall { return firewall.New(d.Log) }

// Resolvers implements Services.
func (d *Direct) Resolvers() (dns.Host, error) { return dns.New(d.State, d.Log) }

// Control implements Services.
func (d *Direct) Control(network, address string, c syscall.RawConn) error {
	return d.Way.Control(network, address, c)
}

// ListenControl implements Services.
func (d *Direct) ListenControl(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := (&net.ListenConfig{Control: ownSocket}).Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// KeyLog implements Services.
func (d *Direct) KeyLog() ([2]*os.File, error) { return OpenKeyLog(d.Settings.KeyLog) }

// Secret implements Services. A file that others may read is an error.
func (d *Direct) Secret(name string) ([]byte, error) {
	path := filepath.Join(d.State, name)
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%s may be read by others (%v); remove it", path, info.Mode())
	}
	return os.ReadFile(path)
}

// ReplaceSecret implements Services. The file is whole or not there, whenever the machine stops.
func (d *Direct) ReplaceSecret(name string, b []byte) error {
	if err := os.MkdirAll(d.State, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(d.State, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(d.State, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// Process implements Services.
func (d *Direct) Process() int { return os.Getpid() }
