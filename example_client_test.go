package martlet_test

import (
	"context"
	"fmt"
	"io"
	"log"

	"martlet"
	"martlet/config"
)

// An HTTP client fetches a page through the tunnel, by a name that only the resolver behind
// the gateway knows. The rest of the program and of the host does not notice the tunnel.
func ExampleNode_HTTPClient() {
	ctx := context.Background()
	office := openOffice(ctx) // the other end, so that this runs anywhere
	defer office.shut()

	cfg, err := config.Load(office.file) // the same file that martlet up takes
	if err != nil {
		log.Fatal(err)
	}
	node := &martlet.Node{Config: cfg}
	if err := node.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	if err := node.Connect(ctx, "office"); err != nil {
		log.Fatal(err)
	}

	web := node.HTTPClient() // one for all requests: it keeps connections open
	resp, err := web.Get("http://wiki.office.example/start")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %s", resp.Status, page)
	// Output:
	// 200 OK: /start of the wiki, for 10.77.0.2
}

// Watch tells what becomes of a connection.
func ExampleNode_Watch() {
	ctx := context.Background()
	office := openOffice(ctx)
	defer office.shut()

	cfg, err := config.Load(office.file)
	if err != nil {
		log.Fatal(err)
	}
	node := &martlet.Node{Config: cfg}
	if err := node.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer node.Close()

	events := node.Watch(ctx) // before Connect, to miss nothing
	if err := node.Connect(ctx, "office"); err != nil {
		log.Fatal(err)
	}
	for ev := range events {
		switch ev.Kind {
		case martlet.EventEstablished:
			fmt.Println("established with", ev.Peer)
		case martlet.EventChildUp:
			fmt.Println(ev.Child, "carries", ev.Text)
			node.Disconnect(ev.Connection)
		case martlet.EventDown:
			fmt.Println("down:", ev.Text)
			return
		default: // there are more kinds
		}
	}
	// Output:
	// established with vpn.office.example
	// net carries 10.77.0.2/32 === 10.77.0.1/32
	// down: by command
}
