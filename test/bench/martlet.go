package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
)

// openMartlet has Martlet at both ends, with a pre-shared key and nothing else set: a
// gateway that serves, and a client with a virtual address.
func (b *bench) openMartlet(ctx context.Context, n *network) (*tunnel, error) {
	gateway, file, err := b.martletGateway(ctx, n)
	if err != nil {
		return nil, err
	}
	t := &tunnel{net: n, gateway: gateway, to: innerB}
	t.client, err = b.upMartlet(n, file)
	return t, err
}

// upMartlet starts the client.
func (b *bench) upMartlet(n *network, file string) (*process, error) {
	return n.a.start("martlet up", nil, b.built.martlet, "up", "-c", file, "gateway")
}

// martletGateway starts the gateway, and writes the client's file.
func (b *bench) martletGateway(ctx context.Context, n *network) (gateway *process, file string, err error) {
	secret := newSecret()
	gateway, err = b.serveMartlet(ctx, n,
		fmt.Sprintf("auth = \"psk\"\nid = \"b.test\"\nsecret = \"0x%s\"", secret), "auth = \"psk\"\nid = \"a.test\"")
	if err != nil {
		return nil, "", err
	}
	file, err = n.pskClient(secret)
	return gateway, file, err
}

// pskClient writes the configuration of a client with a pre-shared key.
func (n *network) pskClient(secret string) (file string, err error) {
	return n.clientConfig(
		fmt.Sprintf("auth = \"psk\"\nid = \"a.test\"\nsecret = \"0x%s\"", secret), "auth = \"psk\"\nid = \"b.test\"")
}

// serveMartlet starts a gateway in B that lets one kind of client reach innerB.
func (b *bench) serveMartlet(ctx context.Context, n *network, local, peer string) (*process, error) {
	if err := b.build(ctx); err != nil {
		return nil, err
	}
	file, err := n.write("b/martlet.toml", n.nodeConfig("b")+fmt.Sprintf(`
[pool.v4]
addresses = ["10.98.1.0/24"]

[connection.clients]
pool = ["v4"]

[connection.clients.local]
%s

[connection.clients.peer]
%s

[connection.clients.child.net]
local = ["%s/32"]
`, local, peer, innerB))
	if err != nil {
		return nil, err
	}
	if err := n.b.ip(ctx, "addr add "+innerB+"/32 dev lo"); err != nil {
		return nil, err
	}
	p, err := n.b.start("martlet serve", nil, b.built.martlet, "serve", "-c", file)
	if err != nil {
		return nil, err
	}
	return p, p.says(ctx, "serving on")
}

// clientConfig writes the client's configuration.
func (n *network) clientConfig(local, peer string) (string, error) {
	return n.write("a/martlet.toml", n.nodeConfig("a")+fmt.Sprintf(`
[connection.gateway]
remote = ["%s"]
request = ["ipv4"]

[connection.gateway.local]
%s

[connection.gateway.peer]
%s

[connection.gateway.child.net]
remote = ["%s/32"]
`, outerB, local, peer, innerB))
}

// nodeConfig keeps what both ends have on the one file system apart.
func (n *network) nodeConfig(role string) string {
	return fmt.Sprintf("[node]\ncontrol = %q\nstate = %q\n", filepath.Join(n.state, role, "control.sock"), filepath.Join(n.state, role))
}

func newSecret() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // it never fails
	return hex.EncodeToString(b)
}

// binary tells how long the stripped program is.
func (b *bench) binary(ctx context.Context) (values, error) {
	if err := b.build(ctx); err != nil {
		return nil, err
	}
	info, err := os.Stat(b.built.martlet)
	if err != nil {
		return nil, err
	}
	return values{"size": float64(info.Size()) / 1e6}, nil
}
