package martlet

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"martlet/crypto/suite"
	"martlet/esp/udpencap"
	"martlet/ike"
	"martlet/ike/message"
	"martlet/tun"
)

// still is a socket, a reader, a device and a queue that do nothing.
type still struct {
	udpencap.Socket
	tun.Device
}

func (still) Close() error              { return nil }
func (still) Encap() bool               { return true }
func (still) LocalAddr() netip.AddrPort { return netip.MustParseAddrPort("192.0.2.1:4500") }

func (s still) Readers() []udpencap.Reader                 { return []udpencap.Reader{stillReader{}} }
func (still) Write(packets []udpencap.Packet) (int, error) { return len(packets), nil }
func (s still) Queues() []tun.Queue                        { return []tun.Queue{stillQueue{}} }

type stillReader struct{ udpencap.Reader }

func (stillReader) Read(packets []udpencap.Packet) (int, error)     { return len(packets), nil }
func (stillReader) ReadMore(packets []udpencap.Packet) (int, error) { return 0, nil }

type stillQueue struct{ tun.Queue }

func (stillQueue) Read(frames []tun.Frame) (int, error)    { return len(frames), nil }
func (stillQueue) TryRead(frames []tun.Frame) (int, error) { return 0, nil }
func (stillQueue) Write(frames []tun.Frame) (int, error)   { return len(frames), nil }

// taps is what a batch passes: from a socket to a device, and back.
type taps struct {
	socket udpencap.Socket
	reader udpencap.Reader
	queue  tun.Queue

	packets []udpencap.Packet
	frames  []tun.Frame
}

func newTaps(c *captures) *taps {
	inner := appendUDP(nil, netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:2"), 0, make([]byte, 1000))
	w := &taps{socket: still{}, reader: stillReader{}, queue: stillQueue{}}
	if c != nil {
		w.socket, w.queue = c.socket(still{}), c.device(still{}).Queues()[0]
		w.reader = w.socket.Readers()[0]
	}
	for range 8 {
		w.packets = append(w.packets, udpencap.Packet{
			Kind: udpencap.ESP, Data: make([]byte, 1200), Local: still{}.LocalAddr(), Remote: netip.MustParseAddrPort("198.51.100.1:4500"),
		})
		w.frames = append(w.frames, tun.Frame{Pieces: [][]byte{inner}})
	}
	return w
}

func (w *taps) pass() {
	_, _ = w.reader.Read(w.packets)
	_, _ = w.reader.ReadMore(w.packets)
	_, _ = w.queue.Write(w.frames)
	_, _ = w.queue.Read(w.frames)
	_, _ = w.queue.TryRead(w.frames)
	_, _ = w.socket.Write(w.packets)
}

// BenchmarkTaps is what a batch of eight packets pays in each direction: bare, tapped by nobody,
// and captured.
func BenchmarkTaps(b *testing.B) {
	var idle, busy captures
	c, queue := newQueuedCapture()
	busy.outer.add(c)
	busy.inner.add(c)
	for _, of := range []struct {
		name string
		way  *taps
	}{{"bare", newTaps(nil)}, {"idle", newTaps(&idle)}, {"captured", newTaps(&busy)}} {
		b.Run(of.name, func(b *testing.B) {
			b.ReportAllocs()
			var parts []byte
			for b.Loop() {
				of.way.pass()
				if queue.count().Packets%1024 == 0 {
					parts = queue.take(parts)
				}
			}
		})
	}
}

func TestTapsAllocateNothing(t *testing.T) {
	var c captures
	w := newTaps(&c)
	if n := testing.AllocsPerRun(100, w.pass); n != 0 {
		t.Errorf("%v allocations while no capture runs", n)
	}
}

// TestTaps: a capture gets what passes while it is there, and nothing after.
func TestTaps(t *testing.T) {
	var all captures
	w := newTaps(&all)
	c, queue := newQueuedCapture()
	d, other := newQueuedCapture()
	w.pass()
	all.outer.add(c)
	all.outer.add(d)
	w.pass()
	all.outer.remove(d)
	all.inner.add(d)
	w.pass()
	all.outer.remove(c)
	all.inner.remove(d)
	w.pass()
	if got := queue.count(); got != (Captured{Packets: 32}) {
		t.Errorf("outer packets twice: %+v, want 32", got)
	}
	if got := other.count(); got != (Captured{Packets: 32}) {
		t.Errorf("outer packets and inner ones: %+v, want 32", got)
	}
	if all.outer.running.Load() != nil || all.inner.running.Load() != nil {
		t.Error("something is left")
	}
}

// TestCaptureQueueIsBounded: whoever writes does not wait for who reads; what is lost is counted,
// and the keys have a place when packets have none.
func TestCaptureQueueIsBounded(t *testing.T) {
	c, queue := newQueuedCapture()
	packet := netip.MustParseAddrPort("192.0.2.1:4500")
	const sent = 5000
	flood := func() {
		for range sent {
			c.packet(packet, packet, &udpencap.Packet{Kind: udpencap.ESP, Data: make([]byte, 1400)}, true)
		}
	}
	flood()
	entry := ike.KeyLogEntry{SPIi: 1, SPIr: 2, Suite: suite.Suite{
		Encr: suite.Transform{ID: suite.EncrAESGCM16, KeyLen: 256}, Integ: suite.Transform{ID: suite.IntegNone},
	}}
	queue.keys(entry, nil)
	got := queue.count()
	if got.Lost == 0 || got.Packets == 0 || got.Packets+got.Lost != sent || got.LostKeys != 0 {
		t.Fatalf("of %d packets: %+v", sent, got)
	}
	for range 100000 {
		queue.keys(entry, nil)
	}
	if got = queue.count(); got.LostKeys == 0 || len(queue.parts) > queuedPackets+queuedKeys {
		t.Fatalf("%d octets wait, %+v", len(queue.parts), got)
	}
	packets, keys, counts := readParts(t, queue.take(nil))
	if records := countRecords(t, packets); records != got.Packets || keys == 0 {
		t.Errorf("%d packets and %d keys are read, want %d", records, keys, got.Packets)
	}
	if counts != got {
		t.Errorf("told are %+v, want %+v", counts, got)
	}
	flood()
	if more := queue.count(); more.Packets <= got.Packets {
		t.Error("nothing is taken after there is room again")
	}
}

// readParts takes parts apart: octets of packets, how many keys, and the last counts.
func readParts(t *testing.T, parts []byte) (packets []byte, keys int, counts Captured) {
	t.Helper()
	r := bytes.NewReader(parts)
	for r.Len() > 0 {
		kind, payload, err := readPart(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		switch kind {
		case partPackets:
			packets = append(packets, payload...)
		case partIKEKeys:
			keys++
		case partCounts:
			counts = Captured{binary.BigEndian.Uint64(payload), binary.BigEndian.Uint64(payload[8:]), binary.BigEndian.Uint64(payload[16:])}
		}
	}
	return packets, keys, counts
}

func countRecords(t *testing.T, file []byte) (n uint64) {
	t.Helper()
	for file = file[24:]; len(file) > 0; n++ {
		file = file[16+binary.LittleEndian.Uint32(file[8:]):]
	}
	return n
}

func TestCaptureFilter(t *testing.T) {
	addr := netip.MustParseAddr
	selectors := func(from, to string) []ike.ChildInfo {
		return []ike.ChildInfo{{Remote: []message.Selector{{From: addr(from), To: addr(to)}}}}
	}
	sas := []ike.Status{
		{Connection: "office", Path: ike.Path{Remote: netip.MustParseAddrPort("198.51.100.1:4500")}, Children: selectors("10.1.0.0", "10.1.255.255")},
		{Connection: "other", Path: ike.Path{Remote: netip.MustParseAddrPort("198.51.100.2:4500")}, Children: selectors("10.77.0.9", "10.77.0.9")},
		{Connection: "other", Path: ike.Path{Remote: netip.MustParseAddrPort("198.51.100.1:4501")}, Children: selectors("10.0.0.0", "10.255.255.255")},
	}
	for _, tt := range []struct {
		inner bool
		a, b  string
		want  bool
	}{
		{false, "198.51.100.1", "198.51.100.1", true}, // ours, and another's behind the same NAT
		{false, "::ffff:198.51.100.1", "198.51.100.1", true},
		{false, "198.51.100.2", "198.51.100.2", false},
		{false, "198.51.100.3", "198.51.100.3", true}, // of somebody who has not said who he is
		{true, "10.1.2.3", "192.168.0.1", true},
		{true, "192.168.0.1", "10.1.2.3", true},
		{true, "192.168.0.1", "10.77.0.9", false},
		{true, "10.2.0.1", "192.168.0.1", false},
		{true, "192.168.0.1", "192.168.0.2", true},
		{true, "::a01:203", "fd00::1", true},
	} {
		f := &captureFilter{connection: "office"}
		f.learn(sas, tt.inner)
		if got := f.passes(addr(tt.a), addr(tt.b)); got != tt.want {
			t.Errorf("inner %v, %s and %s: %v, want %v", tt.inner, tt.a, tt.b, got, tt.want)
		}
	}
	f := &captureFilter{connection: "office"}
	for name, want := range map[string]bool{"office": true, "": true, "other": false} {
		if f.ofConnection(name) != want {
			t.Errorf("keys of %q: %v", name, !want)
		}
	}
}

func TestEndsOf(t *testing.T) {
	four := appendUDP(nil, netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:2"), 0, nil)
	six := appendUDP(nil, netip.MustParseAddrPort("[fd00::1]:1"), netip.MustParseAddrPort("[fd00::2]:2"), 0, nil)
	for _, tt := range []struct {
		packet []byte
		want   string
	}{{four, "10.0.0.2"}, {six, "fd00::2"}, {six[:39], ""}, {four[:19], ""}, {slices.Repeat([]byte{0}, 60), ""}} {
		_, dst, ok := endsOf([][]byte{tt.packet})
		if ok != (tt.want != "") || ok && dst.String() != tt.want {
			t.Errorf("%x: %v, %v", tt.packet, dst, ok)
		}
	}
	if _, _, ok := endsOf(nil); ok {
		t.Error("nothing has addresses")
	}
}

// FuzzCaptureParts: whatever the control socket says, a part is as long as it says and no longer
// than it may be.
func FuzzCaptureParts(f *testing.F) {
	_, queue := newQueuedCapture()
	f.Add(queue.take(nil))
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{1, 0, 0, 0, 1, 7, 2, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		for read := 0; ; {
			_, payload, err := readPart(r, nil)
			if err != nil {
				return
			}
			if read += partHead + len(payload); read > len(b) || len(payload) > maxPart {
				t.Fatalf("%d octets out of %d", read, len(b))
			}
		}
	})
}
