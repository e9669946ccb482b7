package martlet_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/netip"

	"martlet"
	"martlet/config"
)

// A client dials a service behind a gateway, and both are in this program. No
// privilege is needed.
func Example() {
	ctx := context.Background()
	secret := config.Secret{Value: []byte("correct horse battery staple, 2026")}

	gateway := &martlet.Node{Serve: true, Config: &config.Config{
		Node:  config.Node{Listen: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
		Pools: map[string]*config.Pool{"v4": {Addresses: []string{"10.77.0.0/24"}}},
		Connections: map[string]*config.Connection{"clients": {
			Local:    config.Auth{Auth: "psk", ID: "gateway.example", Secret: secret},
			Peer:     config.Auth{Auth: "psk", ID: "*@example"},
			Pool:     []string{"v4"},
			Children: map[string]*config.Child{"net": {Local: []string{"10.77.0.1/32"}}},
		}},
	}}
	start(ctx, gateway)
	defer gateway.Close()

	at := gateway.Addresses()[0]
	client := &martlet.Node{Config: &config.Config{
		Connections: map[string]*config.Connection{"office": {
			Remote:   []string{at.Addr().String()},
			Port:     at.Port(),
			Local:    config.Auth{Auth: "psk", ID: "alice@example", Secret: secret},
			Peer:     config.Auth{Auth: "psk", ID: "gateway.example"},
			Request:  []string{"ipv4"},
			Children: map[string]*config.Child{"net": {Remote: []string{"10.77.0.1/32"}}},
		}},
	}}
	start(ctx, client)
	defer client.Close()

	listener, err := gateway.Listen("tcp", "10.77.0.1:7")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(conn, "hello, %v\n", conn.RemoteAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort().Addr())
			conn.Close()
		}
	}()

	if err := client.Connect(ctx, "office"); err != nil {
		log.Fatal(err)
	}
	conn, err := client.DialContext(ctx, "tcp", "10.77.0.1:7")
	if err != nil {
		log.Fatal(err)
	}
	text, err := io.ReadAll(conn)
	fmt.Printf("%s%v\n", text, err)
	// Output:
	// hello, 10.77.0.2
	// <nil>
}

func start(ctx context.Context, node *martlet.Node) {
	if err := node.Config.Complete(); err != nil {
		log.Fatal(err)
	}
	if err := node.Start(ctx); err != nil {
		log.Fatal(err)
	}
}
