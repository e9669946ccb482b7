package netstack

import (
	"context"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"martlet/test/netns"
)

// Through the host's own ping sockets, in a network namespace that allows them.
func TestForwardPingSockets(t *testing.T) {
	addrs := []netip.Addr{netip.MustParseAddr("192.0.2.77"), netip.MustParseAddr("2001:db8::77")}
	n := netns.New(t)
	if err := n.Try(func() error { return os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0) }); err != nil {
		t.Skipf("needs a network namespace in which everybody may ping: %v", err)
	}
	n.IP("addr add " + addrs[0].String() + "/32 dev lo")
	n.IP("addr add " + addrs[1].String() + "/128 dev lo nodad")
	open := ForwardConfig{}.withDefaults().ListenEcho
	listen := func(network string) (conn net.PacketConn, err error) {
		err = n.Try(func() (err error) {
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
