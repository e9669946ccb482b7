package netstack

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Through the host's own ping sockets, in a network namespace that allows them.
func TestForwardPingSockets(t *testing.T) {
	addrs := []netip.Addr{netip.MustParseAddr("192.0.2.77"), netip.MustParseAddr("2001:db8::77")}
	inside := make(chan func())
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the namespace
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0)
		}
		ready <- err
		for f := range inside {
			f()
		}
	}()
	defer close(inside)
	if err := <-ready; err != nil {
		t.Skipf("needs root for a network namespace in which everybody may ping: %v", err)
	}
	do := func(f func() error) error {
		done := make(chan error)
		inside <- func() { done <- f() }
		return <-done
	}
	for _, args := range [][]string{{"link", "set", "lo", "up"}, {"addr", "add", addrs[0].String() + "/32", "dev", "lo"}, {"addr", "add", addrs[1].String() + "/128", "dev", "lo", "nodad"}} {
		if err := do(func() error { return exec.Command("ip", args...).Run() }); err != nil {
			t.Skipf("ip %v: %v", args, err)
		}
	}
	open := ForwardConfig{}.withDefaults().ListenEcho
	listen := func(network string) (conn net.PacketConn, err error) {
		err = do(func() (err error) {
			conn, err = open(network)
			return err
		})
		return conn, err
	}
	allow := Destinations{Allow: prefixes("192.0.2.77/32", "2001:db8::77/128")}
	client, f := forwarding(t, ForwardConfig{ListenEcho: listen, Destinations: allow}, nil)
	ping := func(a netip.Addr) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := client.Ping(ctx, a)
		return err
	}
	for _, a := range addrs {
		// A new address of IPv6 may swallow packets until the kernel is done with it.
		until(t, a.String()+" answers", func() bool { return ping(a) == nil })
	}
	if st := f.Status(); st.Echo.ToClients != uint64(56*len(addrs)) || st.Echo.Opened < uint64(len(addrs)) || st.NoEcho4+st.NoEcho6 != "" {
		t.Errorf("%+v", st)
	}
}
