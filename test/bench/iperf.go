package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"
)

// iperfReport is the part of iperf3's JSON that is used.
type iperfReport struct {
	Error string `json:"error"`
	End   struct {
		// Sum is of UDP: in the server's report it counts what the server saw.
		Sum struct {
			Seconds float64 `json:"seconds"`
			Packets float64 `json:"packets"`
			Lost    float64 `json:"lost_packets"`
		} `json:"sum"`
		Received struct {
			BitsPerSecond float64 `json:"bits_per_second"`
		} `json:"sum_received"`
	} `json:"end"`
	Server *iperfReport `json:"server_output_json"`
}

// iperf measures between the ends of a tunnel.
func (t *tunnel) iperf(ctx context.Context, seconds int, args ...string) (*iperfReport, error) {
	server, err := t.net.b.start("iperf3 -s", nil, "iperf3", "-s", "-J", "-B", t.to)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	if err := until(ctx, "iperf3 listens", func() (bool, error) { return listens(server.pid(), 5201), server.fault() }); err != nil {
		return nil, err
	}
	argv := t.asking("-B", append([]string{"iperf3", "-J", "-c", t.to, "-t", strconv.Itoa(seconds)}, args...))
	// What a peer has queued under overload still has to pass before iperf3 can end.
	out, runErr := t.net.a.run(ctx, time.Duration(seconds)*time.Second+90*time.Second, argv...)
	r := &iperfReport{}
	if err := json.Unmarshal([]byte(out), r); err != nil && runErr == nil {
		return nil, fmt.Errorf("iperf3's JSON cannot be read: %w", err)
	}
	if r.Error != "" {
		return nil, fmt.Errorf("iperf3: %s", r.Error)
	}
	return r, runErr
}

// listens reports whether the namespace of a process has a TCP listener on a port.
func listens(pid int, port uint16) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
	if err != nil {
		return false
	}
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) > 3 && bytes.HasSuffix(f[1], fmt.Appendf(nil, ":%04X", port)) && string(f[3]) == "0A" {
			return true
		}
	}
	return false
}

// tcp measures what streams of TCP deliver, once they have had a second to grow.
func (b *bench) tcp(args ...string) func(context.Context, *tunnel) (values, error) {
	return func(ctx context.Context, t *tunnel) (values, error) {
		r, err := t.iperf(ctx, b.seconds, append([]string{"-O", "1"}, args...)...)
		if err != nil {
			return nil, err
		}
		return values{"rate": r.End.Received.BitsPerSecond / 1e9}, nil
	}
}

// tcpWithMemory measures one stream of TCP, and the client's memory before and during it.
func (b *bench) tcpWithMemory(ctx context.Context, t *tunnel) (values, error) {
	// What the opening allocated has a second to be used again.
	if err := pause(ctx, time.Second); err != nil {
		return nil, err
	}
	idle, err := resident(t.client.pid())
	if err != nil {
		return nil, err
	}
	s := sample(t.client.pid())
	v, err := b.tcp()(ctx, t)
	most := s.end()
	if err != nil {
		return nil, err
	}
	v["idle"], v["load"] = mib(idle), mib(most)
	return v, nil
}

// udp measures how many packets of a length arrive when more are sent than can.
func (b *bench) udp(octets int) func(context.Context, *tunnel) (values, error) {
	return func(ctx context.Context, t *tunnel) (values, error) {
		r, err := t.flood(ctx, b.seconds, octets)
		if err != nil {
			return nil, err
		}
		return values{"rate": (r.Packets - r.Lost) / r.Seconds / 1000, "offered": r.Offered / float64(b.seconds) / 1000}, nil
	}
}

// flooded is what came of a flood, as its receiver counts.
type flooded struct{ Seconds, Packets, Lost, Offered float64 }

func (t *tunnel) flood(ctx context.Context, seconds, octets int) (*flooded, error) {
	r, err := t.iperf(ctx, seconds, "-u", "-b", "0", "-l", strconv.Itoa(octets), "--get-server-output")
	if err != nil {
		return nil, err
	}
	if r.Server == nil || r.Server.End.Sum.Seconds == 0 {
		return nil, fmt.Errorf("iperf3 did not bring the receiver's report")
	}
	s := r.Server.End.Sum
	return &flooded{s.Seconds, s.Packets, s.Lost, r.End.Sum.Packets}, nil
}
