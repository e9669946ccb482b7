package tun_test

import (
	"errors"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"

	"martlet/tun"
)

// The packets of a flow all come from one queue, and all arrive.
func TestSeveralQueues(t *testing.T) {
	type flow struct {
		from   tun.Device
		packet [12]byte // IPv4 addresses and ports
	}
	var mu sync.Mutex
	queues, used := map[flow]int{}, map[int]bool{}
	a, b := pair(t, tun.Open, 4)
	relay(t, a.device, b.device, func(from tun.Device, queue int, f tun.Frame) {
		p := f.Pieces[0]
		if p[0] != 0x45 || p[9] != 6 {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		key := flow{from: from, packet: [12]byte(p[12:24])}
		if before, ok := queues[key]; ok && before != queue {
			t.Errorf("%v came from queue %d, then from %d", key.packet, before, queue)
		}
		queues[key] = queue
		used[queue] = true
	})
	var transfers sync.WaitGroup
	for range 16 {
		transfers.Go(func() { transfer(t, a, b, families[0].server, 1<<20) })
	}
	transfers.Wait()
	mu.Lock()
	defer mu.Unlock()
	if len(queues) != 32 || len(used) < 2 {
		t.Errorf("%d flows from %d queues", len(queues), len(used))
	}
}

// TryRead returns at once with nothing, and gives what is there.
func TestTryRead(t *testing.T) {
	s := newSite(t, tun.Open, 1, "10.9.0.1/24")
	q := s.device.Queues()[0]
	frames := make([]tun.Frame, 8)
	nothing := false
	for !nothing { // the kernel greets IPv6 routers
		n, err := q.TryRead(frames)
		if err != nil {
			t.Fatal(err)
		}
		nothing = n == 0
	}
	if n, err := q.TryRead(nil); n != 0 || err != nil {
		t.Errorf("no frames to fill: %d, %v", n, err)
	}
	out := s.udp(t, netip.MustParseAddrPort("10.9.0.1:0"))
	for i := range 20 {
		if _, err := out.WriteToUDPAddrPort([]byte{byte(i)}, netip.MustParseAddrPort("10.9.0.2:4000")); err != nil {
			t.Fatal(err)
		}
	}
	for next := byte(0); next < 20; runtime.Gosched() {
		n, err := q.TryRead(frames)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range frames[:n] {
			p := f.Pieces[0]
			if p[0] != 0x45 {
				continue
			}
			want := tun.Offload{Partial: true, Start: 20, Offset: 6}
			if len(p) != 29 || p[28] != next || f.Offload != want {
				t.Fatalf("packet %d: got %x, %+v", next, p, f.Offload)
			}
			next++
		}
	}
}

// Packets of one Read do not lie in each other's way.
func TestReadLendsRoom(t *testing.T) {
	s := newSite(t, tun.Open, 1, "10.9.0.1/24")
	out := s.udp(t, netip.MustParseAddrPort("10.9.0.1:0"))
	sent, got := 0, 0
	for ; sent < 200; sent++ {
		payload := make([]byte, 1+sent*6)
		for i := range payload {
			payload[i] = byte(sent)
		}
		if _, err := out.WriteToUDPAddrPort(payload, netip.MustParseAddrPort("10.9.0.2:4000")); err != nil {
			t.Fatal(err)
		}
	}
	q := s.device.Queues()[0]
	frames := make([]tun.Frame, q.Batch())
	for got < sent {
		n, err := q.Read(frames)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range frames[:n] {
			p := f.Pieces[0]
			if p[0] != 0x45 {
				continue
			}
			if len(p) != 28+1+got*6 {
				t.Fatalf("packet %d has %d octets", got, len(p))
			}
			for _, b := range p[28:] {
				if b != byte(got) {
					t.Fatalf("packet %d holds %d", got, b)
				}
			}
			if cap(p)-len(p) < 64 {
				t.Fatalf("packet %d has %d octets behind it", got, cap(p)-len(p))
			}
			for i := range p[:cap(p)] {
				p[:cap(p)][i] = 0xee
			}
			got++
		}
	}
}

// An interface that somebody deletes makes Read and Write end.
func TestDeleted(t *testing.T) {
	s := newSite(t, tun.Open, 2, "10.9.0.1/24")
	ended := make(chan error)
	for _, q := range s.device.Queues() {
		go func() {
			for frames := make([]tun.Frame, 8); ; {
				if _, err := q.Read(frames); err != nil {
					ended <- err
					return
				}
			}
		}()
	}
	if err := s.Try(func() error {
		link, err := netlink.LinkByName("martlet0")
		if err != nil {
			return err
		}
		return netlink.LinkDel(link)
	}); err != nil {
		t.Fatal(err)
	}
	for range s.device.Queues() {
		if err := <-ended; err == nil || errors.Is(err, os.ErrClosed) {
			t.Errorf("Read: got %v", err)
		}
	}
	if _, err := s.device.Queues()[0].Write([]tun.Frame{{Pieces: [][]byte{{0x45}}}}); err == nil || errors.Is(err, os.ErrClosed) {
		t.Errorf("Write: got %v", err)
	}
	if err := s.device.Close(); err != nil {
		t.Error(err)
	}
}

// No step of a relay makes an allocation, with packets and with super-packets.
func TestNoAllocation(t *testing.T) {
	a, b := pair(t, tun.Open, 1)
	step := newStep(t, a, b)
	for range 10 {
		step()
	}
	if n := testing.AllocsPerRun(100, func() { step() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// newStep returns what sends from a one packet and one super-packet, and carries them to b
// until nothing is left. It returns how many frames these were.
func newStep(t testing.TB, a, b *site) func() int {
	t.Helper()
	out := a.udp(t, netip.MustParseAddrPort("10.9.0.1:0"))
	to := netip.MustParseAddrPort("10.9.0.2:4000")
	control, data := segmented(1000), make([]byte, 30000)
	in, take := a.device.Queues()[0], b.device.Queues()[0]
	frames := make([]tun.Frame, in.Batch())
	return func() int {
		if _, err := out.WriteToUDPAddrPort(data[:100], to); err != nil {
			t.Fatal(err)
		}
		if _, _, err := out.WriteMsgUDPAddrPort(data, control, to); err != nil {
			t.Fatal(err)
		}
		total := 0
		n, err := in.Read(frames)
		for n > 0 && err == nil {
			total += n
			for i := range frames[:n] {
				if len(frames[i].Pieces[0]) > 2000 && len(frames[i].Pieces) == 1 {
					p := frames[i].Pieces[0]
					frames[i].Pieces = append(frames[i].Pieces[:0], p[:1000], p[1000:])
				}
			}
			if taken, err := take.Write(frames[:n]); taken != n || err != nil {
				t.Fatalf("%d of %d taken, %v", taken, n, err)
			}
			n, err = in.TryRead(frames)
		}
		if err != nil {
			t.Fatal(err)
		}
		return total
	}
}

func BenchmarkRelay(b *testing.B) {
	first, second := pair(b, tun.Open, 1)
	step := newStep(b, first, second)
	for b.Loop() {
		step()
	}
}
