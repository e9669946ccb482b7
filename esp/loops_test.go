package esp

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"martlet/esp/udpencap"
	"martlet/tun"
)

// lossyWire carries packets from one plane to another: it loses, repeats, damages and
// reorders, and knows what it did. One goroutine sends.
type lossyWire struct {
	r    *rand.Rand
	to   *memorySocket
	from netip.AddrPort
	held []udpencap.Packet
	all  chan struct{} // closed when total packets were sent
	left int

	whole    int // distinct packets that arrive undamaged
	repeated int // further copies of those
	damaged  int
}

func (w *lossyWire) send(p udpencap.Packet) error {
	p.Data = slices.Clone(p.Data)
	p.Local, p.Remote = p.Remote, w.from
	switch n := w.r.IntN(100); {
	case n < 10: // lost
	case n < 15: // damaged
		p.Data[8+w.r.IntN(len(p.Data)-8)] ^= 1 << w.r.IntN(8)
		w.held = append(w.held, p)
		w.damaged++
	case n < 25: // repeated
		again := p
		again.Data = slices.Clone(p.Data)
		w.held = append(w.held, p, again)
		w.whole++
		w.repeated++
	default:
		w.held = append(w.held, p)
		w.whole++
	}
	if w.left--; w.left == 0 || len(w.held) >= 512 {
		w.r.Shuffle(len(w.held), func(i, j int) { w.held[i], w.held[j] = w.held[j], w.held[i] })
		for batch := range slices.Chunk(w.held, w.to.batch) {
			w.to.arrived <- batch
		}
		w.held = nil
	}
	if w.left == 0 {
		close(w.all)
	}
	return nil
}

// receiverHost collects packets by the number in their payload.
type receiverHost struct {
	mu   sync.Mutex
	seen map[uint32]int
	want int
	done chan struct{}
}

func (h *receiverHost) sink(pkt []byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen[binary.BigEndian.Uint32(pkt[len(pkt)-4:])]++
	h.check()
	return true
}

func (h *receiverHost) expect(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.want = n
	h.check()
}

func (h *receiverHost) check() {
	if len(h.seen) == h.want {
		close(h.done)
		h.want = -1
	}
}

// TestLoops moves packets between two planes, both ways at once, over a wire that
// loses, repeats, damages and reorders. Exactly those that arrived whole are
// delivered, each once, and the counters account for all.
func TestLoops(t *testing.T) {
	const perSide, children = 100_000, 3
	type side struct {
		plane  *Plane
		dev    *channelDevice
		socket *memorySocket
		wire   *lossyWire
		host   *receiverHost
	}
	addrs := []string{"192.0.2.1:4500", "198.51.100.7:4500"}
	nets := []string{"10.1.", "10.2."}
	sides := make([]side, 2)
	for i := range sides {
		s := &sides[i]
		s.host = &receiverHost{seen: make(map[uint32]int), want: -1, done: make(chan struct{})}
		s.dev = newDevice(64, s.host.sink)
		s.wire = &lossyWire{r: rand.New(rand.NewPCG(42, uint64(i))), from: netip.MustParseAddrPort(addrs[i]), all: make(chan struct{}), left: perSide}
		s.socket = newSocket(addrs[i], 64, s.wire.send)
		s.plane = New(s.dev, new(events), nil)
		s.plane.AddSocket(s.socket)
	}
	for i := range sides {
		s, o := &sides[i], 1-i
		s.wire.to = sides[o].socket
		for id := range uint32(children) {
			encr, integ := algorithms[id*3].encr, algorithms[id*3].integ
			octet := string('0' + rune(id))
			err := s.plane.Install(Child{
				ID:     uint64(id),
				In:     newKeys(t, 0x1000*uint32(1+o)+id, encr, integ, id != 1),
				Out:    newKeys(t, 0x1000*uint32(1+i)+id, encr, integ, id != 1),
				Local:  []Selector{selector(nets[i] + octet + ".0/24")},
				Remote: []Selector{selector(nets[o] + octet + ".0/24")},
				Path:   Path{Local: netip.MustParseAddrPort(addrs[i]), Remote: netip.MustParseAddrPort(addrs[o])},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		s.plane.Start()
	}
	var feeding sync.WaitGroup
	var strays [2]uint64 // packets that no child takes
	for i := range sides {
		feeding.Go(func() {
			r := rand.New(rand.NewPCG(43, uint64(i)))
			for number := uint32(0); number < perSide; {
				var batch [][]byte
				for range 1 + r.IntN(64) {
					if r.IntN(20) == 0 {
						batch = append(batch, ip(nets[i]+"0.1", "172.16.0.1", 4))
						strays[i]++
						continue
					}
					if number == perSide {
						break
					}
					octet := string('0' + rune(r.IntN(children)))
					pkt := ip(nets[i]+octet+".1", nets[1-i]+octet+".1", 4+r.IntN(100))
					binary.BigEndian.PutUint32(pkt[len(pkt)-4:], number)
					batch = append(batch, pkt)
					number++
				}
				sides[i].dev.host <- batch
			}
		})
	}
	feeding.Wait()
	for i := range sides {
		<-sides[i].wire.all
		sides[1-i].host.expect(sides[i].wire.whole)
	}
	for i := range sides {
		<-sides[i].host.done
	}
	for i := range sides {
		sides[i].plane.Close()
	}
	for i := range sides {
		s, w := &sides[i], sides[1-i].wire
		for number, n := range s.host.seen {
			if n != 1 {
				t.Fatalf("side %d: packet %d delivered %d times", i, number, n)
			}
		}
		st := s.plane.Stats()
		if st.In.Packets != uint64(w.whole) || st.Out.Packets != perSide {
			t.Errorf("side %d: %d in, %d out, want %d and %d", i, st.In.Packets, st.Out.Packets, w.whole, perSide)
		}
		if got := st.Drops[DropReplay]; got != uint64(w.repeated) {
			t.Errorf("side %d: %d replays, want %d", i, got, w.repeated)
		}
		if got := st.Drops[DropBadICV]; got != uint64(w.damaged) {
			t.Errorf("side %d: %d wrong ICVs, want %d", i, got, w.damaged)
		}
		if st.Drops[DropNoPolicy] == 0 || st.Drops[DropNoPolicy] > strays[i] {
			t.Errorf("side %d: %d packets without policy, want up to %d", i, st.Drops[DropNoPolicy], strays[i])
		}
		if rest := st.Drops.Total() - st.Drops[DropReplay] - st.Drops[DropBadICV] - st.Drops[DropNoPolicy]; rest != 0 {
			t.Errorf("side %d: drops for other reasons: %v", i, st.Drops)
		}
		var sum Counter
		var drops uint64
		for _, c := range st.Children {
			sum.Packets += c.In.Packets
			sum.Bytes += c.In.Bytes
			drops += c.Drops.Total()
		}
		if sum != st.In || drops != st.Drops.Total()-st.Drops[DropNoPolicy] {
			t.Errorf("side %d: the children's counters do not sum up: %+v", i, st)
		}
	}
}

// TestChangesUnderLoad: children come, switch and go while packets run; no packet is
// lost, and the race detector is content.
func TestChangesUnderLoad(t *testing.T) {
	var mu sync.Mutex
	sent := make(map[uint32]int) // by SPI
	total := 0
	const packets = 20_000
	all := make(chan struct{})
	dev := newDevice(16, func([]byte) bool { return true })
	socket := newSocket(ourAddr, 16, func(p udpencap.Packet) error {
		mu.Lock()
		defer mu.Unlock()
		sent[binary.BigEndian.Uint32(p.Data)]++
		if total++; total == packets {
			close(all)
		}
		return nil
	})
	p := New(dev, new(events), nil)
	p.AddSocket(socket)
	p.Start()
	b := &bench{t: t, plane: p}
	b.install(b.child(0, "10.1.0.0/16", "10.2.0.0/16"))
	var feeding sync.WaitGroup
	feeding.Go(func() {
		for range packets / 10 {
			var batch [][]byte
			for range 10 {
				batch = append(batch, ip("10.1.0.1", "10.2.0.1", 20))
			}
			dev.host <- batch
		}
	})
	feeding.Go(func() {
		c := b.child(0, "10.1.0.0/16", "10.2.0.0/16")
		for range 2000 { // replays, for the inbound loop to have work
			socket.arrived <- []udpencap.Packet{{Kind: udpencap.ESP, Data: seal(t, b.peerOf(c), ip("10.2.0.1", "10.1.0.1", 1)), Remote: c.Path.Remote}}
		}
	})
	for id := uint64(1); id <= 500; id++ {
		c := b.child(id, "10.1.0.0/16", "10.2.0.0/16")
		b.install(c)
		for _, err := range []error{p.Switch(id), p.Move(id, c.Path), p.Remove(id - 1)} {
			if err != nil {
				t.Error(err)
			}
		}
		p.Stats()
		p.Usage([]uint64{id, id - 1})
	}
	feeding.Wait()
	<-all
	p.Close()
	s := p.Stats()
	if n := s.Drops[DropNoPolicy] + s.Drops[DropSocket] + s.Drops[DropExhausted]; n != 0 {
		t.Errorf("%d packets lost while children changed", n)
	}
	if s.Out.Packets != packets {
		t.Errorf("%d packets counted in the end, want %d", s.Out.Packets, packets)
	}
	t.Logf("%d SAs sent", len(sent))
}

// nullDevice takes everything.
type nullDevice struct{ *channelDevice }

func (nullDevice) Write(frames []tun.Frame) (int, error) { return len(frames), nil }

// TestLoopsAllocateNothing is the bar of performance.md, for batches both ways, and
// goal B3 for packets that are dropped.
func TestLoopsAllocateNothing(t *testing.T) {
	b := newBench(t)
	b.in.queue.Queue = nullDevice{b.dev}
	b.socket.wire = func(udpencap.Packet) error { return nil }
	c := b.child(1, "10.1.0.0/16", "10.2.0.0/16")
	b.install(c)
	peer := b.peerOf(c)
	frames := make([]tun.Frame, 64)
	for i := range frames {
		dst := "10.2.0.1"
		if i%8 == 7 {
			dst = "10.3.0.1" // no policy
		}
		frames[i].Pieces = [][]byte{ip("10.1.0.1", dst, 1200)}
	}
	b.out.batch(frames)
	b.out.flush() // Acquire allocates, once a second
	if n := testing.AllocsPerRun(20, func() { b.out.batch(frames); b.out.flush() }); n != 0 {
		t.Errorf("a batch out allocates %v times", n)
	}
	inner, slab := ip("10.2.0.1", "10.1.0.1", 1200), make([]byte, 0, 64*2048)
	lie := ip("10.7.0.1", "10.1.0.1", 1200)
	packets := make([]udpencap.Packet, 64)
	batch := func() {
		rest := slab
		for i := range packets {
			text := inner
			if i%8 == 7 {
				text = lie
			}
			pkt, err := peer.Seal(rest[:0], text, protoIPv4)
			if err != nil {
				t.Fatal(err)
			}
			if i%8 == 6 {
				pkt[30] ^= 1
			}
			rest = rest[len(pkt):cap(rest)]
			packets[i] = udpencap.Packet{Kind: udpencap.ESP, Data: pkt, Local: c.Path.Local, Remote: c.Path.Remote}
		}
		b.in.batch(packets)
		b.in.flush()
	}
	if n := testing.AllocsPerRun(20, batch); n != 0 {
		t.Errorf("a batch in allocates %v times", n)
	}
	if s := b.plane.Stats(); s.In.Packets != 21*48 || s.Drops[DropSelector] != 21*8 || s.Drops[DropBadICV] != 21*8 {
		t.Errorf("the batches were not what they should be: %+v", s)
	}
}

// nullHost takes super-packets of all kinds.
type nullHost struct{ *channelDevice }

func (nullHost) Takes(tun.GSO) bool { return true }

func (nullHost) Write(frames []tun.Frame) (int, error) { return len(frames), nil }

// TestSuperPacketsAllocateNothing is the same for super-packets, cut, sent as slabs, opened, and
// joined.
func TestSuperPacketsAllocateNothing(t *testing.T) {
	b, _, c := newFast(t, 0)
	var arrived []udpencap.Packet
	socket := &slabSocket{memorySocket: b.socket, write: func(p udpencap.Packet) {
		if len(arrived) < cap(arrived) {
			n := len(arrived)
			arrived = arrived[:n+1]
			p.Data = append(arrived[n].Data[:0], p.Data...)
			arrived[n] = p
		}
	}}
	arrived = make([]udpencap.Packet, 0, 64)
	ch := b.plane.children[c.ID]
	r := *ch.route.Load()
	r.socket = socket
	ch.route.Store(&r)
	frames := []tun.Frame{tcpSuper("10.1.0.1", 1300, 60_000), tcpSuper("10.1.0.2", 700, 30_000)}
	pristine := [][]byte{slices.Clone(frames[0].Pieces[0]), slices.Clone(frames[1].Pieces[0])}

	far, _, back := newFast(t, 0)
	if err := far.plane.Remove(back.ID); err != nil {
		t.Fatal(err)
	}
	far.install(mirrored(c))
	far.in.queue = &queue{Queue: nullHost{far.dev}}
	if n := testing.AllocsPerRun(50, func() {
		arrived = arrived[:0]
		for i := range frames {
			copy(frames[i].Pieces[0], pristine[i])
		}
		b.out.batch(frames)
		b.out.flush()
		far.in.batch(arrived)
		far.in.flush()
	}); n != 0 {
		t.Errorf("two super-packets from end to end allocate %v times", n)
	}
	want := uint64(51 * (47 + 43))
	if s := far.plane.Stats(); s.In.Packets != want || s.Drops.Total() != 0 {
		t.Errorf("%d packets arrived, want %d: %+v", s.In.Packets, want, s.Drops)
	}
}
