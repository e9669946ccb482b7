package martlet_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"time"

	"martlet"
	"martlet/config"
)

// publishConfig is what martlet up would take as a file; %d is the port of a gateway that
// the example starts.
const publishConfig = `
[connection.office]
remote = ["127.0.0.1"]
port = %d
request = ["ipv4"]

[connection.office.local]
auth = "psk"
id = "publisher@office.example"
secret = "correct horse battery staple, 2026"

[connection.office.peer]
auth = "psk"
id = "vpn.office.example"

[connection.office.child.net]
remote = ["10.77.0.0/24"]
`

// A reverse proxy shows to everybody outside a web server that only the tunnel leads to.
func Example_reverseProxy() {
	ctx := context.Background()
	office := openOffice(ctx) // the other end, so that this runs anywhere
	defer office.shut()

	node, err := connect(ctx, fmt.Appendf(nil, publishConfig, office.port))
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler:           publish(node, &url.URL{Scheme: "http", Host: "wiki.office.example"}),
	}
	go server.Serve(listener)
	defer server.Close()

	// Somebody outside, without a tunnel, looks at it.
	resp, err := http.Get("http://" + listener.Addr().String() + "/start")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	fmt.Printf("%s%v\n", page, err)
	// Output:
	// /start of the wiki, for 10.77.0.2
	// <nil>
}

// connect opens the tunnel. The Node keeps it up, whatever happens to it, until it is closed.
func connect(ctx context.Context, text []byte) (*martlet.Node, error) {
	cfg, err := config.Parse("office.toml", text, ".", os.LookupEnv)
	if err != nil {
		return nil, err
	}
	node := &martlet.Node{Config: cfg}
	if err := node.Start(ctx); err != nil {
		return nil, err
	}
	if err := node.Connect(ctx, "office"); err != nil {
		node.Close()
		return nil, err
	}
	return node, nil
}

// publish hands requests on to a server inside the tunnel.
func publish(node *martlet.Node, inside *url.URL) http.Handler {
	return &httputil.ReverseProxy{
		Transport: node.HTTPClient().Transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(inside)
			r.SetXForwarded()
		},
	}
}
