package netstack

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// serveNames answers questions for server.example. with both addresses of the server.
func serveNames(t *testing.T, c net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(buf[:n]); err != nil || len(m.Questions) != 1 {
			t.Errorf("question: %v", err)
			continue
		}
		m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
		q := m.Questions[0]
		header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60}
		switch {
		case q.Name.String() != "server.example.":
			m.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA:
			m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AResource{A: serverAddrs[0].As4()}}}
		case q.Type == dnsmessage.TypeAAAA:
			m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AAAAResource{AAAA: serverAddrs[1].As16()}}}
		}
		answer, err := m.Pack()
		if err != nil {
			t.Errorf("answer: %v", err)
			continue
		}
		c.WriteTo(answer, from)
	}
}

func TestResolver(t *testing.T) {
	client, server := pair(t, nil)
	names, err := server.ListenPacket(netip.MustParseAddrPort("[::]:53"))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { serveNames(t, names) })
	defer wg.Wait()
	defer names.Close()
	listen(t, server, "[::]:80", echo)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, servers := range [][]netip.Addr{serverAddrs[:1], serverAddrs[1:]} {
		client.SetResolver(client.Resolver(servers))
		for network, want := range map[string]netip.Addr{"tcp4": serverAddrs[0], "tcp6": serverAddrs[1]} {
			c, err := client.DialContext(ctx, network, "server.example.:80")
			if err != nil {
				t.Fatalf("%s by %s: %v", network, servers, err)
			}
			if got := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(); got != want {
				t.Errorf("%s went to %s, want %s", network, got, want)
			}
			c.Close()
		}
	}
	_, err = client.DialContext(ctx, "tcp", "nobody.example.:80")
	if missing, ok := errors.AsType[*net.DNSError](err); !ok || !missing.IsNotFound {
		t.Errorf("a name that does not exist: got %v", err)
	}
	client.SetResolver(client.Resolver(nil))
	if _, err = client.DialContext(ctx, "tcp", "server.example.:80"); err == nil {
		t.Error("resolved a name without a server")
	}
}
