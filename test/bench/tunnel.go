package main

import (
	"context"
	"time"
)

// tunnel is an open one between the hosts of a network, and the processes at its ends.
type tunnel struct {
	net             *network
	client, gateway *process
	to              string // B's address inside
	from            string // A's address inside, where programs have to ask for it
}

// opener opens a tunnel in a network. What it starts ends with the network.
type opener func(context.Context, *network) (*tunnel, error)

// answers waits until a packet has come back through the tunnel.
func (t *tunnel) answers(ctx context.Context) error {
	return until(ctx, "an echo through the tunnel", func() (bool, error) {
		for _, p := range []*process{t.client, t.gateway} {
			if err := p.fault(); err != nil {
				return false, err
			}
		}
		_, err := t.net.a.run(ctx, 5*time.Second, t.ping("-c1", "-W1")...)
		return err == nil, nil
	})
}

// ping is a command line, of which iperf3's differs in one letter.
func (t *tunnel) ping(args ...string) []string {
	return t.asking("-I", append([]string{"ping", "-n", t.to}, args...))
}

func (t *tunnel) asking(flag string, args []string) []string {
	if t.from == "" {
		return args
	}
	return append(args, flag, t.from)
}
