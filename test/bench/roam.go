package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

const (
	roamChanges  = 50
	roamPace     = 10 * time.Millisecond // between datagrams, and between pieces of the download
	roamPiece    = 12500                 // octets: 10 Mbit/s
	roamSteady   = time.Second           // of data without a long gap: a change is over
	roamLongGap  = 250 * time.Millisecond
	roamPatience = time.Minute // for that
	// roamQuiet lies between what is prepared and the change, so that no news of the one hastens or
	// delays those of the other.
	roamQuiet = 300 * time.Millisecond
)

// outage is what one change of the address cost, in ms.
type outage struct {
	Way      string
	Download float64 // without data at the receiver
	Tunnel   float64 // without an echo
	Calm     float64 // without an echo in the second before: what the machine itself costs
}

// roam changes the client's address under a download and tells how long nothing came.
func (b *bench) roam(ctx context.Context, t *tunnel) (values, error) {
	for _, c := range [][]string{{"pace", net.JoinHostPort(innerB, portSource)}, {"echo", net.JoinHostPort(innerB, echoPort)}} {
		p, err := t.net.b.child(c[0], c[1:]...)
		if err != nil {
			return nil, err
		}
		if err := p.says(ctx, ready); err != nil {
			return nil, err
		}
	}
	out, err := t.net.a.run(ctx, 15*time.Minute, b.self, childWord, "travel", t.net.a.name, routerOf(t.net).name)
	if err != nil {
		return nil, err
	}
	var all []outage
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		return nil, err
	}
	return summary(all)
}

// summary are the percentiles of outages, of all of them and of each way.
func summary(all []outage) (values, error) {
	if len(all) < roamChanges {
		return nil, fmt.Errorf("only %d of %d changes were made", len(all), roamChanges)
	}
	var downloads, tunnels, calms []float64
	ways := map[string][]float64{}
	for _, o := range all {
		downloads, tunnels, calms = append(downloads, o.Download), append(tunnels, o.Tunnel), append(calms, o.Calm)
		ways[o.Way] = append(ways[o.Way], o.Download)
	}
	v := values{
		"download p50": percentile(downloads, 50), "download p95": percentile(downloads, 95), "download max": percentile(downloads, 100),
		"tunnel p50": percentile(tunnels, 50), "tunnel p95": percentile(tunnels, 95), "tunnel max": percentile(tunnels, 100),
		"calm p95": percentile(calms, 95),
	}
	for way, ms := range ways {
		v["download p95, "+way] = percentile(ms, 95)
	}
	return v, nil
}

// pace sends a slow download to who connects.
func pace(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println(ready)
	piece := make([]byte, roamPiece)
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			tick := time.NewTicker(roamPace)
			defer tick.Stop()
			for range tick.C {
				if _, err := c.Write(piece); err != nil {
					return
				}
			}
		}()
	}
}

// travel runs where the client is: it downloads, asks for echoes, changes the address, and
// prints the outages as JSON.
func travel(warrior, router string) error {
	download, err := net.DialTimeout("tcp", net.JoinHostPort(innerB, portSource), patience)
	if err != nil {
		return err
	}
	defer download.Close()
	// Not connected: a network that is away for a moment is no error of the socket.
	inside := download.LocalAddr().(*net.TCPAddr).IP
	echoes, err := net.ListenUDP("udp4", &net.UDPAddr{IP: inside})
	if err != nil {
		return err
	}
	defer echoes.Close()
	to, err := net.ResolveUDPAddr("udp4", net.JoinHostPort(innerB, echoPort))
	if err != nil {
		return err
	}
	t := &traveller{roads: roads{warrior: &host{name: warrior}, router: &host{name: router}, links: 1, at: home}, failed: make(chan error, 2)}
	go func() { t.failed <- t.download.noteReads(download) }()
	go func() { t.failed <- t.echoes.noteReads(echoes) }()
	go func() {
		tick := time.NewTicker(roamPace)
		defer tick.Stop()
		for range tick.C {
			_, _ = echoes.WriteTo([]byte("?"), to) // there may be no way at the moment
		}
	}()
	all, err := t.travel(context.Background())
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(all)
}

// noteReads reads and notes when.
func (a *arrivals) noteReads(r io.Reader) error {
	buf := make([]byte, 64<<10)
	for {
		if _, err := r.Read(buf); err != nil {
			return err
		}
		a.note()
	}
}

// traveller is a warrior on the roads with something that comes all the time.
type traveller struct {
	roads
	download, echoes arrivals
	failed           chan error
}

func (t *traveller) travel(ctx context.Context) ([]outage, error) {
	if err := t.steady(ctx, time.Now()); err != nil {
		return nil, err
	}
	var all []outage
	for i := range roamChanges {
		l, from := journey[i%len(journey)], t.at
		if err := t.prepare(ctx, l); err != nil {
			return nil, err
		}
		if err := pause(ctx, roamQuiet); err != nil {
			return nil, err
		}
		began := time.Now()
		if err := t.change(ctx, l); err != nil {
			return nil, err
		}
		if err := t.steady(ctx, began); err != nil {
			return nil, fmt.Errorf("change %d (%s, from %s10 to %s10): %w", i+1, l.way, from, l.to, err)
		}
		now := time.Now()
		all = append(all, outage{
			Way: l.way, Download: milliseconds(t.download.gap(began, now)), Tunnel: milliseconds(t.echoes.gap(began, now)),
			Calm: milliseconds(t.echoes.gap(began.Add(-roamSteady), began)),
		})
		if err := t.leave(ctx, l, from); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// steady waits until a second behind a change has passed in which data and echoes came without a
// long gap.
func (t *traveller) steady(ctx context.Context, change time.Time) error {
	deadline := change.Add(roamPatience)
	for {
		if err := pause(ctx, roamPace); err != nil {
			return err
		}
		now := time.Now()
		from := now.Add(-roamSteady)
		download, echoes := t.download.gap(from, now), t.echoes.gap(from, now)
		select {
		case err := <-t.failed:
			return fmt.Errorf("what should come has ended: %w", err)
		default:
		}
		switch {
		case from.After(change) && max(download, echoes) < roamLongGap:
			return nil
		case now.After(deadline):
			return fmt.Errorf("it is not over after %v: of the last %v, the download did not come for %v and the echoes for %v", roamPatience, roamSteady, download, echoes)
		}
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
