package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const echoPort = "7"

// authority is a certificate authority and what it issued, made by martlet pki.
type authority struct {
	dir             string
	client, gateway string // names
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// newAuthority issues RSA certificates: charon-cmd takes no other key.
func (b *bench) newAuthority(ctx context.Context, n *network) (*authority, error) {
	if err := b.build(ctx); err != nil {
		return nil, err
	}
	a := &authority{dir: filepath.Join(n.dir, "pki"), client: "a.test", gateway: "b.test"}
	for _, args := range [][]string{
		{"init"}, {"issue", "gateway", a.gateway}, {"issue", "device", a.client},
	} {
		args = append(append([]string{b.built.martlet, "pki"}, args...), "--key", "rsa2048", "--dir", a.dir)
		if _, err := command(ctx, args...); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (a *authority) proof(name string) string {
	return fmt.Sprintf("auth = \"cert\"\nid = %q\ncert = [%q]\nkey = [%q]", name, a.path(name+".pem"), a.path(name+".key"))
}

func (a *authority) demand(name string) string {
	return fmt.Sprintf("auth = \"cert\"\nid = %q\nca = [%q]", name, a.path("ca.pem"))
}

// setupMartlet times martlet up.
func (b *bench) setupMartlet(ctx context.Context) (values, error) {
	return b.setup(ctx, func(n *network, a *authority) (*process, error) {
		file, err := n.clientConfig(a.proof(a.client), a.demand(a.gateway))
		if err != nil {
			return nil, err
		}
		return b.upMartlet(n, file)
	})
}

// setupCharonCmd times charon-cmd.
func (b *bench) setupCharonCmd(ctx context.Context) (values, error) {
	return b.setup(ctx, charonCmd)
}

// setup measures from the start of a client's process to the first packet that comes back
// through its tunnel to the same gateway.
func (b *bench) setup(ctx context.Context, client func(*network, *authority) (*process, error)) (values, error) {
	n, err := b.newNetwork(ctx)
	if err != nil {
		return nil, err
	}
	defer n.close()
	v, err := b.setupIn(ctx, n, client)
	return v, n.blame(err)
}

func (b *bench) setupIn(ctx context.Context, n *network, client func(*network, *authority) (*process, error)) (values, error) {
	a, err := b.newAuthority(ctx, n)
	if err != nil {
		return nil, err
	}
	if _, err := b.serveMartlet(ctx, n, a.proof(a.gateway), a.demand(a.client)); err != nil {
		return nil, err
	}
	at := net.JoinHostPort(innerB, echoPort)
	echo, err := n.b.child("echo", at)
	if err != nil {
		return nil, err
	}
	if err := echo.says(ctx, ready); err != nil {
		return nil, err
	}
	probe, err := n.a.child("probe", at)
	if err != nil {
		return nil, err
	}
	if err := probe.says(ctx, ready); err != nil {
		return nil, err
	}
	began := time.Now()
	p, err := client(n, a)
	if err != nil {
		return nil, err
	}
	if err := until(ctx, "a packet comes back", func() (bool, error) { return probe.ended(), p.fault() }); err != nil {
		return nil, err
	}
	_, said, _ := strings.Cut(probe.out.String(), ready)
	ns, err := strconv.ParseInt(strings.TrimSpace(said), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("the probe told no time: %w", err)
	}
	return values{"time": float64(ns-began.UnixNano()) / 1e6}, nil
}

// echo returns datagrams to who sent them.
func echo(address string) error {
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	fmt.Println(ready)
	buf := make([]byte, 64)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return err
		}
		_, _ = c.WriteTo(buf[:n], from) // there may be no way back yet
	}
}

// probe sends a datagram every half a millisecond and prints when the first one came back.
func probe(address string) error {
	to, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return err
	}
	// Not connected: the source address has to be chosen anew once the tunnel is there.
	c, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return err
	}
	defer c.Close()
	go func() {
		tick := time.NewTicker(500 * time.Microsecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := c.WriteTo([]byte("?"), to); errors.Is(err, net.ErrClosed) {
				return
			}
		}
	}()
	fmt.Println(ready)
	if _, _, err := c.ReadFrom(make([]byte, 64)); err != nil {
		return err
	}
	fmt.Println(time.Now().UnixNano())
	return nil
}
