package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// socksPort is where both sides serve SOCKS5, on loopback in A.
const socksPort = 1080

var socksAddress = fmt.Sprintf("127.0.0.1:%d", socksPort)

// starter starts a program without privilege in A that serves SOCKS5 into a tunnel to B, and
// the gateway in B.
type starter func(context.Context, *network) (*process, error)

// socksMartlet has martlet up, without a device.
func (b *bench) socksMartlet(ctx context.Context, n *network) (*process, error) {
	return b.upUserspace(ctx, n)
}

// socksMartletSmall is the same with the profile for containers.
func (b *bench) socksMartletSmall(ctx context.Context, n *network) (*process, error) {
	return b.upUserspace(ctx, n, "--set", "node.profile=small")
}

func (b *bench) upUserspace(ctx context.Context, n *network, flags ...string) (*process, error) {
	_, file, err := b.martletGateway(ctx, n)
	if err != nil {
		return nil, err
	}
	args := append([]string{b.built.martlet, "up", "-c", file, "--userspace", "--proxy", socksAddress}, flags...)
	return n.a.start("martlet up --userspace", nil, append(args, "gateway")...)
}

// socksWireguard has what wireproxy is made of.
func (b *bench) socksWireguard(ctx context.Context, n *network) (*process, error) {
	if err := b.buildWireguardSocks(ctx); err != nil {
		return nil, err
	}
	ours, theirs, err := twoKeyPairs()
	if err != nil {
		return nil, err
	}
	if _, err := b.startWireguard(ctx, n.b, innerB, innerA, wireguardEnd(theirs, ours, outerA)); err != nil {
		return nil, err
	}
	file, err := n.write("a/wireguardsocks.conf", fmt.Sprintf("%s\n%d\n%s\n%s", innerA, wireguardMTU, socksAddress, wireguardEnd(ours, theirs, outerB)))
	if err != nil {
		return nil, err
	}
	return n.a.start("wireguardsocks", nil, b.built.wireguardSocks, file)
}

// throughSocks starts what serves SOCKS5, and what answers behind it in B, has something
// measured, and ends both.
func (b *bench) throughSocks(start starter, measure func(context.Context, *network, *process) (values, error)) func(context.Context) (values, error) {
	return func(ctx context.Context) (values, error) {
		n, err := b.newNetwork(ctx)
		if err != nil {
			return nil, err
		}
		defer n.close()
		v, err := func() (values, error) {
			server, err := start(ctx, n)
			if err != nil {
				return nil, err
			}
			target, err := n.b.child("target", innerB, outerB)
			if err != nil {
				return nil, err
			}
			if err := target.says(ctx, ready); err != nil {
				return nil, err
			}
			if err := until(ctx, server.name+" listens", func() (bool, error) {
				return listens(server.pid(), socksPort), server.fault()
			}); err != nil {
				return nil, err
			}
			// The tunnel opens at the latest now.
			if _, err := b.downloads(ctx, n, 1, 1); err != nil {
				return nil, err
			}
			return measure(ctx, n, server)
		}()
		return v, n.blame(err)
	}
}

// socksRate measures what streams through SOCKS5 deliver.
func (b *bench) socksRate(direction string, streams int) func(context.Context, *network, *process) (values, error) {
	return func(ctx context.Context, n *network, _ *process) (values, error) {
		// There are many of these trials; they are a little shorter than others.
		seconds := max(1, b.seconds*3/5)
		out, err := n.a.run(ctx, time.Duration(seconds)*time.Second+patience,
			b.self, childWord, "load", direction, strconv.Itoa(streams), strconv.Itoa(seconds))
		if err != nil {
			return nil, err
		}
		rate, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
		if err != nil {
			return nil, err
		}
		return values{"rate": rate / 1e9}, nil
	}
}

const (
	manyDownloads  = 200
	manyOctetsEach = 4 << 20
)

// socksMemory measures memory before and under many downloads at once, each of which has to
// come whole and unchanged.
func (b *bench) socksMemory(ctx context.Context, n *network, server *process) (values, error) {
	// What the opening allocated has a second to be used again.
	if err := pause(ctx, time.Second); err != nil {
		return nil, err
	}
	idle, err := resident(server.pid())
	if err != nil {
		return nil, err
	}
	s := sample(server.pid())
	took, err := b.downloads(ctx, n, manyDownloads, manyOctetsEach)
	most := s.end()
	if err != nil {
		return nil, err
	}
	ever, err := peak(server.pid())
	if err != nil {
		return nil, err
	}
	return values{
		"idle": mib(idle), "load": mib(most), "peak": mib(ever),
		"rate": manyDownloads * manyOctetsEach * 8 / took.Seconds() / 1e9,
	}, nil
}

// downloads loads as many times as told at the same time, and tells how long it took.
func (b *bench) downloads(ctx context.Context, n *network, count, octets int) (time.Duration, error) {
	out, err := n.a.run(ctx, time.Minute, b.self, childWord, "downloads", strconv.Itoa(count), strconv.Itoa(octets))
	if err != nil {
		return 0, err
	}
	return time.ParseDuration(strings.TrimSpace(out))
}
