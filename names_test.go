package martlet

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"martlet/tun/dns"
)

// A relay on this host may not ask outside: who it would ask is asked, the next one where one is
// silent, and the relay itself only where nobody knows whom it asks.
func TestNamesAreAskedPastARelay(t *testing.T) {
	dir := t.TempDir()
	known := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(known, []byte("# by hand\nnameserver 10.77.0.53\nnameserver 192.0.2.53\nsearch test\nnameserver 127.0.0.1\nnameserver 2001:db8::53\nnameserver x\nnameserver\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(dir, "none")
	for name, tt := range map[string]struct {
		files []string
		ask   []string
		fails bool
		want  []string
	}{
		"another host":          {[]string{known}, []string{"198.51.100.1:53"}, true, []string{"198.51.100.1:53"}},
		"a relay":               {[]string{none, known}, []string{"127.0.0.53:53", "127.0.0.53:53"}, false, []string{"192.0.2.53:53", "192.0.2.53:53"}},
		"a relay over IPv6":     {[]string{known}, []string{"[::1]:53"}, false, []string{"192.0.2.53:53"}},
		"who is silent":         {[]string{known}, []string{"127.0.0.53:53", "127.0.0.53:53", "127.0.0.53:53"}, true, []string{"192.0.2.53:53", "[2001:db8::53]:53", "192.0.2.53:53"}},
		"a relay of its own":    {[]string{none}, []string{"127.0.0.1:53"}, false, []string{"127.0.0.1:53"}},
		"the tunnel's":          {[]string{known}, []string{"10.77.0.53:53"}, false, []string{"192.0.2.53:53"}},
		"none but the tunnel's": {[]string{none}, []string{"10.77.0.53:53"}, false, nil},
		"nobody can be asked":   {[]string{known}, []string{"127.0.0.53:53", "127.0.0.53:53"}, true, []string{"192.0.2.53:53", "[2001:db8::53]:53"}},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			unreachable := name == "nobody can be asked" || len(tt.want) == 0
			inside := (&machine{}).resolvers()
			inside.wish(dns.Config{Servers: addrs("10.77.0.53")})
			o := &outsideNames{files: tt.files, inside: inside, dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				asked = append(asked, address)
				if unreachable {
					return nil, errors.New("no route")
				}
				return net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			}}
			for _, address := range tt.ask {
				conn, err := o.dialResolver(t.Context(), "udp", address)
				if err != nil {
					if !unreachable {
						t.Fatal(err)
					}
					continue
				}
				if _, packets := conn.(net.PacketConn); !packets {
					t.Error("the resolver would take it for TCP")
				}
				conn.Close()
				if tt.fails {
					if _, err := conn.Read(make([]byte, 1)); err == nil {
						t.Error("a closed socket was read")
					}
				}
			}
			if diff := cmp.Diff(tt.want, asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}

// What was found last is taken where a resolver fails, and not where it says that there is nothing.
func TestAddressesAreRemembered(t *testing.T) {
	var r remembered
	failure := &net.DNSError{Err: "server misbehaving", IsTemporary: true}
	if _, err := r.recall("vpn.test", nil, failure); !errors.Is(err, failure) {
		t.Errorf("of nothing: %v", err)
	}
	want := addrs("192.0.2.1", "2001:db8::1")
	if got, err := r.recall("vpn.test", want, nil); err != nil || !slices.Equal(got, want) {
		t.Errorf("found %v, %v", got, err)
	}
	if got, err := r.recall("vpn.test", nil, failure); err != nil || !slices.Equal(got, want) {
		t.Errorf("remembered %v, %v", got, err)
	}
	if got, err := r.recall("other.test", nil, failure); err == nil {
		t.Errorf("of another name: %v", got)
	}
	if got, err := r.recall("vpn.test", nil, &net.DNSError{Err: "no such host", IsNotFound: true}); err == nil {
		t.Errorf("of one that is no more: %v", got)
	}
}

// One that the tunnel gave and whose time is over is not asked outside, unless a network there has it too.
func TestFormerResolversOfTheTunnel(t *testing.T) {
	known := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(known, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	inside := (&machine{}).resolvers()
	inside.wish(dns.Config{Servers: addrs("192.168.1.1")})
	inside.wish(dns.Config{})
	var asked []string
	o := &outsideNames{files: []string{known}, inside: inside, dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		asked = append(asked, address)
		return nil, errors.New("no route")
	}}
	for _, text := range []string{"nameserver 192.0.2.53\n", "nameserver 192.168.1.1\n"} {
		write(text)
		if _, err := o.dialResolver(t.Context(), "udp", "192.168.1.1:53"); err == nil {
			t.Error("there is a route")
		}
	}
	if diff := cmp.Diff([]string{"192.0.2.53:53", "192.168.1.1:53"}, asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}
