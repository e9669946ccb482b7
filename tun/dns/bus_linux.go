package dns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/godbus/dbus/v5"
)

// busTime is how long a service may take to start and answer.
const busTime = 10 * time.Second

const (
	resolvedName = "org.freedesktop.resolve1"
	resolvedPath = "/org/freedesktop/resolve1"
	nmName       = "org.freedesktop.NetworkManager"
	nmPath       = "/org/freedesktop/NetworkManager"

	errUnknownMethod = "org.freedesktop.DBus.Error.UnknownMethod"
)

// connect opens a connection of our own to the D-Bus.
func (s *unixSystem) connect() (*dbus.Conn, error) {
	if s.bus != "" {
		return dbus.Connect(s.bus)
	}
	return dbus.ConnectSystemBus()
}

// call has one method done and stores what it returns.
func call(o dbus.BusObject, method string, out []any, args ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), busTime)
	defer cancel()
	return o.CallWithContext(ctx, method, 0, args...).Store(out...)
}

func property(o dbus.BusObject, iface, name string, out any) error {
	return call(o, "org.freedesktop.DBus.Properties.Get", []any{out}, iface, name)
}

// isBusError tells whether a service answered with an error of this name.
func isBusError(err error, name string) bool {
	e, ok := errors.AsType[dbus.Error](err)
	return ok && e.Name == name
}

func (s *unixSystem) observe() (environment, error) {
	var e environment
	conn, err := s.connect()
	if err == nil {
		defer conn.Close()
		// Before the file is read: systemd-resolved makes it when it starts, and the link to it
		// leads nowhere until then.
		e.Resolved = call(conn.Object(resolvedName, resolvedPath), "org.freedesktop.DBus.Peer.Ping", nil) == nil
		e.ResolvedElsewhere = e.Resolved && elsewhere(conn, resolvedName)
		nm := conn.Object(nmName, nmPath)
		if running(conn, nmName) && property(nm, nmName, "Version", &e.NM) == nil {
			_ = property(conn.Object(nmName, nmPath+"/DnsManager"), nmName+".DnsManager", "Mode", &e.NMMode) // or it has none
		}
	}
	s.lookAround(&e)
	if nss, err := readFile(s.path("etc/nsswitch.conf"), maxConf); err == nil {
		e.NSS = nssAsksResolved(string(nss))
	}
	return e, nil
}

// running tells whether a service is there, without starting it.
func running(conn *dbus.Conn, name string) bool {
	var has bool
	return call(conn.BusObject(), "org.freedesktop.DBus.NameHasOwner", []any{&has}, name) == nil && has
}

// elsewhere tells whether a service runs in another network namespace than the calling thread. It
// does not when it cannot be known, which is when this process may not look at others.
func elsewhere(conn *dbus.Conn, name string) bool {
	var pid uint32
	if call(conn.BusObject(), "org.freedesktop.DBus.GetConnectionUnixProcessID", []any{&pid}, name) != nil {
		return false
	}
	own, err := os.Stat("/proc/thread-self/ns/net")
	its, err2 := os.Stat(fmt.Sprintf("/proc/%d/ns/net", pid))
	return err == nil && err2 == nil && !os.SameFile(own, its)
}

// own makes the manners that only this system has.
func (s *unixSystem) own(n note) (manner, error) {
	switch n.Manner {
	case mannerResolved:
		return &resolved{device: n.Device, connect: s.connect, log: s.log}, nil
	case mannerNM:
		return &networkManager{device: n.Device, connect: s.connect}, nil
	}
	return nil, unknownManner(n)
}
