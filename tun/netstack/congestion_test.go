package netstack

import (
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"martlet/tun"
)

// path is one direction of a network between two stacks: it loses one packet in so many
// (0: none), lets rate octets a second through (0: all) with a buffer of so many octets before, and
// takes delay.
type path struct {
	loses        int
	rate, buffer int
	delay        time.Duration
	random       *rand.Rand
}

type travelling struct {
	packet []byte
	due    time.Time
}

// carry takes packets over until from is closed.
func (p path) carry(b *testing.B, from, to *Stack) {
	road := make(chan travelling, 1<<16)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(road)
	wg.Go(func() { arrive(b, road, to) })
	frames := make([]tun.Frame, from.Batch())
	var packets [][]byte
	var free time.Time // when what waits before the narrow place is through
	for {
		n, err := from.Read(frames)
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				b.Errorf("read: %v", err)
			}
			return
		}
		packets = packets[:0]
		for _, f := range frames[:n] {
			packets = cut(packets, f)
		}
		for _, packet := range packets {
			now := time.Now()
			if p.loses > 0 && p.random.IntN(p.loses) == 0 {
				continue
			}
			if p.rate > 0 {
				if free.Before(now) {
					free = now
				}
				if int(free.Sub(now).Seconds()*float64(p.rate)) > p.buffer {
					continue
				}
				free = free.Add(time.Duration(len(packet)) * time.Second / time.Duration(p.rate))
				now = free
			}
			road <- travelling{packet, now.Add(p.delay)}
		}
	}
}

// arrive writes packets when they are due.
func arrive(b *testing.B, road <-chan travelling, to *Stack) {
	var batch []tun.Frame
	write := func() {
		if _, err := to.Write(batch); err != nil && !errors.Is(err, os.ErrClosed) {
			b.Errorf("write: %v", err)
		}
		batch = batch[:0]
	}
	for t := range road {
		if wait := time.Until(t.due); wait > 0 || len(batch) == 64 {
			write()
			<-time.After(wait)
		}
		batch = append(batch, tun.Frame{Pieces: [][]byte{t.packet}})
		if len(road) == 0 {
			write()
		}
	}
}

// Reno and Cubic on several networks; configure has the figures.
func BenchmarkCongestion(b *testing.B) {
	for _, network := range []struct {
		name   string
		octets int
		path   path
	}{
		{"near", 16 << 20, path{}},
		{"far", 16 << 20, path{delay: 10 * time.Millisecond}},
		{"lossy", 2 << 20, path{delay: 10 * time.Millisecond, loses: 100}},
		{"narrow", 16 << 20, path{delay: 10 * time.Millisecond, rate: 25e6, buffer: 256 << 10}},
		{"long", 16 << 20, path{delay: 50 * time.Millisecond, rate: 25e6, buffer: 512 << 10}},
	} {
		for _, algorithm := range []tcpip.CongestionControlOption{"reno", "cubic"} {
			b.Run(network.name+"/"+string(algorithm), func(b *testing.B) {
				out, back := network.path, network.path
				out.random, back.random = rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(3, 4))
				client, server := joined(b,
					func(from, to *Stack) { out.carry(b, from, to) },
					func(from, to *Stack) { back.carry(b, from, to) })
				if err := server.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &algorithm); err != nil {
					b.Fatal(err)
				}
				rounds(b, client, server, network.octets, 256<<10, false)
			})
		}
	}
}
