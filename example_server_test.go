package martlet_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"time"

	"martlet"
	"martlet/config"
)

// A web server listens inside the tunnel: those behind the gateway reach it at the address
// that the gateway gave us, and nobody else does. The host has no open port.
func ExampleNode_Listen() {
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

	listener, err := node.Listen("tcp", ":80")
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "alice's laptop has no %s\n", r.URL.Path)
	})}
	go server.Serve(listener)
	defer server.Close()

	// Somebody behind the gateway looks at it.
	address := node.Status().SAs[0].Addresses[0].Addr()
	fmt.Printf("%v says: %s", address, office.visit("http://"+address.String()+"/holiday.jpg"))
	// Output:
	// 10.77.0.2 says: alice's laptop has no /holiday.jpg
}
