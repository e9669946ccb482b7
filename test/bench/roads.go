package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// The networks where a road warrior can be, without the last octet: 1 is the router's and 10 the
// warrior's. A NAT is before the hotel.
const home, away, hotel = "10.99.2.", "10.99.3.", "10.99.7."

// roads are what a road warrior travels on: the router's networks.
type roads struct {
	warrior, router *host
	links           int    // which the warrior has had
	at              string // the network where it is
}

// leg is one change of the warrior's address.
type leg struct {
	way   string // how such a change is called
	to    string // the network
	fresh bool   // on a new interface, and the old one goes; else on the same
}

// journey is gone round and round. It begins and ends at home.
var journey = []leg{
	{"switch", away, true},
	{"switch", home, true},
	{"address", away, false},
	{"address", home, false},
	{"NAT", hotel, true},
	{"NAT", home, true},
}

// newRoads is a network whose A is a road warrior at home, and whose B is a gateway behind a
// router.
func (b *bench) newRoads(ctx context.Context) (*network, error) {
	n, err := b.newHosts(ctx, "r")
	if err != nil {
		return nil, err
	}
	if err := layRoads(ctx, n); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// routerOf is the router of newRoads.
func routerOf(n *network) *host { return n.hosts[2] }

func layRoads(ctx context.Context, n *network) error {
	router := routerOf(n)
	if err := join(ctx, n.b, "eth0 "+outerB+"/24", router, "office "+outerA+"/24"); err != nil {
		return err
	}
	if err := n.b.ip(ctx, "route add default via "+outerA); err != nil {
		return err
	}
	rules, err := n.write("r/nat.nft", fmt.Sprintf(`
table ip nat {
	chain post { type nat hook postrouting priority srcnat; oifname "office" ip saddr %s0/24 masquerade random; }
}
`, hotel))
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		{"sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"},
		{"nft", "-f", rules},
	} {
		if _, err := router.run(ctx, patience, args...); err != nil {
			return err
		}
	}
	r := &roads{warrior: n.a, router: router}
	first := leg{to: home, fresh: true}
	if err := r.prepare(ctx, first); err != nil {
		return err
	}
	return r.change(ctx, first)
}

func (r *roads) device() string { return fmt.Sprintf("eth%d", r.links) }

func (r *roads) road() string { return fmt.Sprintf("road%d", r.links) }

// prepare has the router ready, and plugs in the warrior's new interface, which has no address
// yet. A link needs a moment until packets pass; what is lost until then would be asked for again
// after a second, and no outage of the tunnel's.
func (r *roads) prepare(ctx context.Context, l leg) error {
	if !l.fresh {
		return r.router.ip(ctx, "addr add "+l.to+"1/24 dev "+r.road())
	}
	r.links++
	if err := ip(ctx, "link add name "+r.device()+" netns "+r.warrior.name+" type veth peer name "+r.road()+" netns "+r.router.name); err != nil {
		return err
	}
	if err := r.router.batch(ctx, "addr add "+l.to+"1/24 dev "+r.road(), "link set "+r.road()+" up"); err != nil {
		return err
	}
	if err := r.warrior.ip(ctx, "link set "+r.device()+" up"); err != nil {
		return err
	}
	for _, end := range []struct{ ns, device string }{{r.warrior.name, r.device()}, {r.router.name, r.road()}} {
		if err := until(ctx, end.device+" has a link", func() (bool, error) {
			out, err := command(ctx, "ip", "-n", end.ns, "-o", "link", "show", end.device)
			return strings.Contains(out, " state UP "), err
		}); err != nil {
			return err
		}
	}
	return nil
}

// change is the change itself. The old address goes in the same breath in which the new one comes.
func (r *roads) change(ctx context.Context, l leg) error {
	before := r.at
	r.at = l.to
	lines := []string{"addr add " + l.to + "10/24 dev " + r.device(), "route replace default via " + l.to + "1"}
	switch {
	case before == "": // it comes from nowhere
	case l.fresh:
		lines = append(lines, fmt.Sprintf("link del eth%d", r.links-1))
	default:
		lines = append([]string{"addr del " + before + "10/24 dev " + r.device()}, lines...)
	}
	return r.warrior.batch(ctx, lines...)
}

// leave takes from the router what a leg has left behind.
func (r *roads) leave(ctx context.Context, l leg, from string) error {
	if l.fresh {
		return nil // the old wire took it along
	}
	return r.router.ip(ctx, "addr del "+from+"1/24 dev "+r.road())
}

// batch runs ip once for several commands: another process for each would add to an outage.
func (h *host) batch(ctx context.Context, lines ...string) error {
	cmd := exec.CommandContext(ctx, "ip", "-n", h.name, "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	apart(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip -n %s -batch: %w\n%s", h.name, err, excerpt(string(out)))
	}
	return nil
}
