package martlet_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"martlet"
	"martlet/config"
)

// What the examples connect to: a gateway in this process, and behind it a resolver and a
// web server that nobody reaches but through the tunnel.
const (
	officeGateway = `
[node]
listen = ["127.0.0.1"]
ike_port = 0
nat_port = 0

[pool.v4]
addresses = ["10.77.0.0/24"]

[connection.clients]
pool = ["v4"]
dns = ["10.77.0.1"]

[connection.clients.local]
auth = "psk"
id = "vpn.office.example"
secret = "correct horse battery staple, 2026"

[connection.clients.peer]
auth = "psk"
id = "*@office.example"

[connection.clients.child.net]
local = ["10.77.0.1/32"]
`
	officeClient = `
[connection.office]
remote = ["127.0.0.1"]
port = %d
request = ["ipv4"]

[connection.office.local]
auth = "psk"
id = "alice@office.example"
secret = "correct horse battery staple, 2026"

[connection.office.peer]
auth = "psk"
id = "vpn.office.example"

[connection.office.child.net]
remote = ["10.77.0.0/24"]
`
	officeHost = "10.77.0.1" // of the resolver and the web server
	officeWiki = "wiki.office.example."
)

// office is the other end of the examples.
type office struct {
	gateway *martlet.Node
	events  <-chan martlet.Event // of the gateway
	port    uint16               // of the gateway
	file    string               // for a client
	shut    func()
}

// openOffice starts the other end of the examples, and writes the file that its clients use.
func openOffice(ctx context.Context) *office {
	dir, err := os.MkdirTemp("", "office")
	if err != nil {
		log.Fatal(err)
	}
	cfg, err := config.Parse("gateway.toml", []byte(officeGateway), dir, os.LookupEnv)
	if err != nil {
		log.Fatal(err)
	}
	gateway := &martlet.Node{Config: cfg, Serve: true}
	if err := gateway.Start(ctx); err != nil {
		log.Fatal(err)
	}
	resolver, err := gateway.ListenPacket("udp", net.JoinHostPort(officeHost, "53"))
	if err != nil {
		log.Fatal(err)
	}
	go resolve(resolver)
	listener, err := gateway.Listen("tcp", net.JoinHostPort(officeHost, "80"))
	if err != nil {
		log.Fatal(err)
	}
	wiki := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s of the wiki, for %s\n", r.URL.Path, netip.MustParseAddrPort(r.RemoteAddr).Addr())
	})}
	go wiki.Serve(listener)

	o := &office{
		gateway: gateway, events: gateway.Watch(ctx), port: gateway.Addresses()[0].Port(), file: filepath.Join(dir, "office.toml"),
		shut: func() {
			wiki.Close()
			resolver.Close()
			gateway.Close()
			os.RemoveAll(dir)
		},
	}
	if err := os.WriteFile(o.file, fmt.Appendf(nil, officeClient, o.port), 0o600); err != nil {
		log.Fatal(err)
	}
	return o
}

// visit fetches a page from a client. The gateway may learn a little later than its first
// client that the tunnel is up.
func (o *office) visit(url string) string {
	for ev := range o.events {
		if ev.Kind == martlet.EventChildUp {
			break
		}
	}
	resp, err := o.gateway.HTTPClient().Get(url)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	return string(page)
}

// resolve answers questions for the wiki's address until the socket is closed.
func resolve(socket net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := socket.ReadFrom(buf)
		if err != nil {
			return
		}
		var query dnsmessage.Message
		if query.Unpack(buf[:n]) != nil || len(query.Questions) != 1 {
			continue
		}
		q := query.Questions[0]
		answer := dnsmessage.Message{
			Header:    dnsmessage.Header{ID: query.ID, Response: true, Authoritative: true},
			Questions: query.Questions,
		}
		if q.Name.String() == officeWiki && q.Type == dnsmessage.TypeA {
			answer.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60},
				Body:   &dnsmessage.AResource{A: netip.MustParseAddr(officeHost).As4()},
			}}
		}
		if b, err := answer.Pack(); err == nil {
			socket.WriteTo(b, from)
		}
	}
}
