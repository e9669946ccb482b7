package esp

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"martlet/crypto/suite"
	"martlet/esp/udpencap"
	"martlet/tun"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The suites that the tests go through.
var (
	gcm256  = suite.Transform{Type: suite.TypeEncr, ID: suite.EncrAESGCM16, KeyLen: 256}
	gcm128  = suite.Transform{Type: suite.TypeEncr, ID: suite.EncrAESGCM16, KeyLen: 128}
	gcm12   = suite.Transform{Type: suite.TypeEncr, ID: suite.EncrAESGCM12, KeyLen: 128}
	gcm8    = suite.Transform{Type: suite.TypeEncr, ID: suite.EncrAESGCM8, KeyLen: 128}
	chacha  = suite.Transform{Type: suite.TypeEncr, ID: suite.EncrChaCha20Poly1305}
	cbc128  = suite.Transform{Type: suite.TypeEncr, ID: suite.EncrAESCBC, KeyLen: 128}
	cbc256  = suite.Transform{Type: suite.TypeEncr, ID: suite.EncrAESCBC, KeyLen: 256}
	ctr128  = suite.Transform{Type: suite.TypeEncr, ID: suite.EncrAESCTR, KeyLen: 128}
	gcmIIV  = suite.Transform{Type: suite.TypeEncr, ID: suite.EncrAESGCM16IIV, KeyLen: 256}
	chaIIV  = suite.Transform{Type: suite.TypeEncr, ID: suite.EncrChaCha20Poly1305IIV}
	none    = suite.Transform{}
	sha1    = suite.Transform{Type: suite.TypeInteg, ID: suite.IntegHMACSHA1_96}
	sha256t = suite.Transform{Type: suite.TypeInteg, ID: suite.IntegHMACSHA2_256_128}
	sha384t = suite.Transform{Type: suite.TypeInteg, ID: suite.IntegHMACSHA2_384_192}
	sha512t = suite.Transform{Type: suite.TypeInteg, ID: suite.IntegHMACSHA2_512_256}
)

var algorithms = []struct {
	name        string
	encr, integ suite.Transform
}{
	{"aes256gcm16", gcm256, none},
	{"aes128gcm12", gcm12, none},
	{"aes128gcm8", gcm8, none},
	{"chacha20poly1305", chacha, none},
	{"aes256gcm16iiv", gcmIIV, none},
	{"chacha20poly1305iiv", chaIIV, none},
	{"aes128-sha1", cbc128, sha1},
	{"aes256-sha256", cbc256, sha256t},
	{"aes256-sha384", cbc256, sha384t},
	{"aes256-sha512", cbc256, sha512t},
	{"aes128ctr-sha256", ctr128, sha256t},
}

// newKeys makes keys of the right lengths; equal SPIs give equal keys.
func newKeys(t testing.TB, spi uint32, encr, integ suite.Transform, esn bool) Keys {
	t.Helper()
	encrLen, integLen, err := suite.Suite{Encr: encr, Integ: integ}.KeyLens()
	if err != nil {
		t.Fatal(err)
	}
	r := rand.NewChaCha8([32]byte{byte(spi), byte(spi >> 8), byte(spi >> 16), byte(spi >> 24)})
	k := Keys{SPI: spi, Encr: encr, Integ: integ, ESN: esn, EncrKey: make([]byte, encrLen), IntegKey: make([]byte, integLen)}
	r.Read(k.EncrKey)
	r.Read(k.IntegKey)
	return k
}

func newPair(t testing.TB, encr, integ suite.Transform, esn bool, window int) (*Outbound, *Inbound) {
	t.Helper()
	k := newKeys(t, 0x1234abcd, encr, integ, esn)
	out, err := NewOutbound(k)
	if err != nil {
		t.Fatal(err)
	}
	in, err := NewInbound(k, window)
	if err != nil {
		t.Fatal(err)
	}
	return out, in
}

// ip makes an IP packet with a UDP header and so many octets of payload.
func ip(src, dst string, payload int) []byte {
	return packet(netip.MustParseAddr(src), netip.MustParseAddr(dst), protoUDP, udpHeader(4000, 5000, payload))
}

func udpHeader(src, dst uint16, payload int) []byte {
	b := make([]byte, 8+payload)
	binary.BigEndian.PutUint16(b, src)
	binary.BigEndian.PutUint16(b[2:], dst)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	for i := range payload {
		b[8+i] = byte(i)
	}
	return b
}

func packet(src, dst netip.Addr, proto uint8, body []byte) []byte {
	if src.Is6() {
		b := make([]byte, 40, 40+len(body))
		b[0], b[6], b[7] = 0x60, proto, 64
		binary.BigEndian.PutUint16(b[4:], uint16(len(body)))
		copy(b[8:], src.AsSlice())
		copy(b[24:], dst.AsSlice())
		return append(b, body...)
	}
	b := make([]byte, 20, 20+len(body))
	b[0], b[8], b[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(body)))
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	binary.BigEndian.PutUint16(b[10:], ^checksum(b))
	return append(b, body...)
}

// checksum is the one's complement sum (RFC 1071); that of a right header is 0xffff.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

func protocolOf(inner []byte) uint8 {
	if inner[0]>>4 == 6 {
		return protoIPv6
	}
	return protoIPv4
}

func seal(t testing.TB, out *Outbound, inner []byte) []byte {
	t.Helper()
	pkt, err := out.Seal(nil, inner, protocolOf(inner))
	if err != nil {
		t.Fatal(err)
	}
	return pkt
}

// selector is the one of a prefix, for any protocol and port.
func selector(prefix string) Selector {
	p := netip.MustParsePrefix(prefix)
	return Selector{EndPort: 65535, From: p.Masked().Addr(), To: last(p)}
}

// channelDevice is a tun.Device: what the test puts into host comes out of Read, what
// is written goes to the function sink.
type channelDevice struct {
	batch  int
	host   chan [][]byte // batches
	sink   func(pkt []byte) bool
	closed chan struct{}
	once   sync.Once
}

func newDevice(batch int, sink func([]byte) bool) *channelDevice {
	return &channelDevice{batch: batch, host: make(chan [][]byte, 16), sink: sink, closed: make(chan struct{})}
}

func (d *channelDevice) Name() string     { return "test0" }
func (d *channelDevice) MTU() int         { return 1400 }
func (d *channelDevice) SetMTU(int) error { return nil }
func (d *channelDevice) Batch() int       { return d.batch }

func (d *channelDevice) Queues() []tun.Queue { return []tun.Queue{d} }

func (d *channelDevice) Takes(kind tun.GSO) bool { return kind == tun.GSONone }

func (d *channelDevice) TryRead([]tun.Frame) (int, error) { return 0, nil }

func (d *channelDevice) Read(frames []tun.Frame) (int, error) {
	select {
	case list := <-d.host:
		for i, pkt := range list {
			frames[i] = tun.Frame{Pieces: append(frames[i].Pieces[:0], pkt)}
		}
		return len(list), nil
	case <-d.closed:
		return 0, os.ErrClosed
	}
}

func (d *channelDevice) Write(frames []tun.Frame) (n int, err error) {
	for i := range frames {
		if d.sink(slices.Concat(frames[i].Pieces...)) {
			n++
		}
	}
	return n, nil
}

func (d *channelDevice) Close() error {
	d.once.Do(func() { close(d.closed) })
	return nil
}

// memorySocket is a udpencap.Socket: Write calls the function wire, and what the test
// puts into arrived comes out of Read.
type memorySocket struct {
	local   netip.AddrPort
	noEncap bool
	stream  bool
	batch   int
	arrived chan []udpencap.Packet
	wire    func(p udpencap.Packet) error
	closed  chan struct{}
	once    sync.Once
}

func newSocket(local string, batch int, wire func(udpencap.Packet) error) *memorySocket {
	return &memorySocket{
		local:   netip.MustParseAddrPort(local),
		batch:   batch,
		arrived: make(chan []udpencap.Packet, 16),
		wire:    wire,
		closed:  make(chan struct{}),
	}
}

func (s *memorySocket) LocalAddr() netip.AddrPort { return s.local }
func (s *memorySocket) Encap() bool               { return !s.noEncap }
func (s *memorySocket) Stream() bool              { return s.stream }
func (s *memorySocket) Batch() int                { return s.batch }

func (s *memorySocket) Readers() []udpencap.Reader { return []udpencap.Reader{s} }

func (s *memorySocket) ReadMore([]udpencap.Packet) (int, error) { return 0, nil }

func (s *memorySocket) Read(packets []udpencap.Packet) (int, error) {
	select {
	case list := <-s.arrived:
		return copy(packets, list), nil
	case <-s.closed:
	}
	select { // what had arrived before is read first
	case list := <-s.arrived:
		return copy(packets, list), nil
	default:
		return 0, fmt.Errorf("read: %w", net.ErrClosed)
	}
}

func (s *memorySocket) Write(packets []udpencap.Packet) (int, error) {
	select {
	case <-s.closed:
		return 0, fmt.Errorf("write: %w", net.ErrClosed)
	default:
	}
	for i, p := range packets {
		for data := range p.Datagrams() {
			one := p
			one.Data, one.Segment = data, 0
			if err := s.wire(one); err != nil {
				return i, err
			}
		}
	}
	return len(packets), nil
}

func (s *memorySocket) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// events collects what the plane tells.
type events struct {
	mu       sync.Mutex
	ike      [][]byte
	acquired []Flow
	unknown  []uint32
	remapped []Path
	expired  []string
}

func (e *events) IKE(_ udpencap.Socket, p udpencap.Packet) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ike = append(e.ike, slices.Clone(p.Data))
}

func (e *events) Acquire(f Flow) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.acquired = append(e.acquired, f)
}

func (e *events) UnknownSPI(_ Path, spi uint32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unknown = append(e.unknown, spi)
}

func (e *events) Remapped(_ uint64, path Path) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.remapped = append(e.remapped, path)
}

func (e *events) Expire(child uint64, hard bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.expired = append(e.expired, fmt.Sprintf("child %d hard %t", child, hard))
}

// bench is a plane whose loops the test drives by hand, in its own goroutine: nothing
// is concurrent, so that each step's effect is there when it returns.
type bench struct {
	t      testing.TB
	plane  *Plane
	dev    *channelDevice
	socket *memorySocket
	events *events
	out    *outboundLoop
	in     *inboundLoop

	sent      []udpencap.Packet // to the peer, data copied
	delivered [][]byte          // to the host
	refuse    func(p udpencap.Packet) error
}

const (
	ourAddr  = "192.0.2.1:4500"
	peerAddr = "198.51.100.7:4500"
)

func newBench(t testing.TB) *bench {
	b := &bench{t: t, events: new(events)}
	b.dev = newDevice(64, func(pkt []byte) bool {
		b.delivered = append(b.delivered, pkt)
		return true
	})
	b.socket = newSocket(ourAddr, 64, func(p udpencap.Packet) error {
		if b.refuse != nil {
			if err := b.refuse(p); err != nil {
				return err
			}
		}
		p.Data = slices.Clone(p.Data)
		b.sent = append(b.sent, p)
		return nil
	})
	b.plane = New(b.dev, b.events, nil)
	b.plane.sockets[b.socket] = &boundSocket{socket: b.socket}
	b.out = newOutboundLoop(b.plane, b.plane.queues[0])
	b.in = newInboundLoop(b.plane, b.socket, b.socket, b.plane.queues[0])
	return b
}

// host sends packets as the host would, and returns what went to the peer.
func (b *bench) host(pkts ...[]byte) []udpencap.Packet {
	b.sent = nil
	frames := make([]tun.Frame, len(pkts))
	for i := range pkts {
		frames[i].Pieces = [][]byte{pkts[i]}
	}
	b.out.guarded(func() { b.out.batch(frames) })
	b.out.guarded(b.out.flush)
	return b.sent
}

// peer delivers ESP packets from the peer's usual address, and returns what went to the
// host.
func (b *bench) peer(pkts ...[]byte) [][]byte {
	return b.from(peerAddr, pkts...)
}

func (b *bench) from(addr string, pkts ...[]byte) [][]byte {
	list := make([]udpencap.Packet, len(pkts))
	for i := range pkts {
		list[i] = udpencap.Packet{
			Kind: udpencap.ESP, Data: slices.Clone(pkts[i]),
			Local: netip.MustParseAddrPort(ourAddr), Remote: netip.MustParseAddrPort(addr),
		}
	}
	return b.arrive(list...)
}

func (b *bench) arrive(list ...udpencap.Packet) [][]byte {
	b.delivered = nil
	b.in.guarded(func() { b.in.batch(list) })
	b.in.guarded(b.in.flush)
	return b.delivered
}

func (b *bench) install(c Child) {
	b.t.Helper()
	if err := b.plane.Install(c); err != nil {
		b.t.Fatal(err)
	}
}

// child makes a child with an SA in each direction: inbound SPI 0x1000+id, outbound
// 0x2000+id.
func (b *bench) child(id uint64, local, remote string) Child {
	return Child{
		ID:     id,
		In:     newKeys(b.t, 0x1000+uint32(id), gcm256, none, true),
		Out:    newKeys(b.t, 0x2000+uint32(id), gcm256, none, true),
		Local:  []Selector{selector(local)},
		Remote: []Selector{selector(remote)},
		Path:   Path{Local: netip.MustParseAddrPort(ourAddr), Remote: netip.MustParseAddrPort(peerAddr)},
	}
}

// peerOf is the peer's end of a child: it seals what it likes.
func (b *bench) peerOf(c Child) *Outbound {
	b.t.Helper()
	out, err := NewOutbound(c.In)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// openerOf is the peer's end that opens what we send.
func (b *bench) openerOf(c Child) *Inbound {
	b.t.Helper()
	in, err := NewInbound(c.Out, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	return in
}

// wantDrops checks the plane's counters: all but those named are zero.
func (b *bench) wantDrops(want map[Drop]uint64) {
	b.t.Helper()
	got := b.plane.Stats().Drops
	for reason, n := range got.All() {
		if n != want[reason] {
			b.t.Errorf("%v: %d packets dropped, want %d", reason, n, want[reason])
		}
	}
}
