package esp

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	gvisor "gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// plainSum is the sum as RFC 1071 §1 tells it.
func plainSum(b []byte) uint16 {
	sum := 0
	for i, c := range b {
		if i%2 == 0 {
			sum += int(c) << 8
		} else {
			sum += int(c)
		}
		if sum > 0xffff {
			sum -= 0xffff
		}
	}
	return uint16(sum)
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = binary.LittleEndian.AppendUint64(b, r.Uint64())
	}
	return b[:n:n]
}

// TestSum: of all short lengths and many long ones at all offsets, of octets that carry
// as much and as little as there is.
func TestSum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random, ones, zeros := randomBytes(r, 66000), slices.Repeat([]byte{0xff}, 66000), make([]byte, 66000)
	few := make([]byte, 66000)
	for i := range few {
		few[i] = byte(0 - r.Uint32()&1)
	}
	check := func(b []byte) {
		t.Helper()
		want := plainSum(b)
		if got := fold(sumOf(b, 0)); got != want {
			t.Fatalf("%d octets: %#x, want %#x", len(b), got, want)
		}
		if got := gvisor.Checksum(b, 0); got != want {
			t.Fatalf("%d octets: gVisor has %#x, want %#x", len(b), got, want)
		}
	}
	for _, b := range [][]byte{random, ones, zeros, few} {
		for at := range 9 {
			for n := range 300 {
				check(b[at : at+n])
			}
		}
		for range 50 {
			at := r.IntN(100)
			check(b[at : at+r.IntN(65536)])
		}
	}
}

// TestSumOfPieces: a sum may be continued behind an even number of octets, from any sum
// that there is; what begins at an odd offset can be turned.
func TestSumOfPieces(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 10_000 {
		b := randomBytes(r, r.IntN(300))
		if r.IntN(4) == 0 {
			b = slices.Repeat([]byte{0xff}, len(b))
		}
		want, initial := plainSum(b), uint64(0)
		for rest := b; ; {
			n := r.IntN(len(rest) + 1)
			if n < len(rest) {
				n &^= 1
			}
			initial = sumOf(rest[:n], initial)
			if rest = rest[n:]; len(rest) == 0 {
				break
			}
		}
		if got := fold(initial); got != want {
			t.Fatalf("%d octets in pieces: %#x, want %#x", len(b), got, want)
		}
		odd := min(len(b), r.IntN(50)*2+1)
		sum := sumOf(b[odd:], 0)
		if odd&1 == 1 {
			sum = bits.RotateLeft64(sum, 8)
		}
		if got := fold(addSums(sumOf(b[:odd], 0), sum)); got != want {
			t.Fatalf("%d octets, cut at %d: %#x, want %#x", len(b), odd, got, want)
		}
	}
	for _, start := range []uint64{0, 1, 0xffff, 1 << 63, 1<<64 - 2, 1<<64 - 1} {
		for n := range 200 {
			b := append(binary.LittleEndian.AppendUint64(nil, start), slices.Repeat([]byte{0xff}, n)...)
			if got, want := fold(sumOf(b[8:], start)), plainSum(b); got != want {
				t.Fatalf("%#x and %d octets: %#x, want %#x", start, n, got, want)
			}
		}
	}
}

func TestFold(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for i := range 100_000 {
		sum := r.Uint64()
		switch {
		case i < 4:
			sum = [4]uint64{0, 1, 1<<64 - 1, 1 << 32}[i]
		case i%2 == 0: // halves that sum up to all ones and one more
			sum = sum&0xffffffff | (0xffffffff-sum&0xffffffff+uint64(i)/2%2)<<32
		}
		if got, want := fold(sum), plainSum(binary.LittleEndian.AppendUint64(nil, sum)); got != want {
			t.Fatalf("%#x: %#x, want %#x", sum, got, want)
		}
	}
}

// TestAdjust is RFC 1624 §4, and then every difference at random.
func TestAdjust(t *testing.T) {
	if got := adjust(0xdd2f, 0x5555, 0x3285); got != 0 {
		t.Errorf("example: %#x, want 0", got)
	}
	r := rand.New(rand.NewPCG(7, 8))
	for range 30_000 {
		b := randomBytes(r, 64)
		at := r.IntN(63)
		check := ^fold(sumOf(b, 0))
		before := binary.BigEndian.Uint16(b[at:])
		after := uint16(r.Uint32())
		binary.BigEndian.PutUint16(b[at:], after)
		if at&1 == 1 {
			before, after = bits.ReverseBytes16(before), bits.ReverseBytes16(after)
		}
		if got, want := adjust(check, before, after), ^fold(sumOf(b, 0)); got != want {
			t.Fatalf("%#x to %#x at %d: %#x, want %#x", before, after, at, got, want)
		}
	}
}

// TestTransportValid: what others made is right, and one other bit anywhere is not.
func TestTransportValid(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for i := range 400 {
		var network gopacket.SerializableLayer
		var source gopacket.NetworkLayer
		proto := [2]layers.IPProtocol{layers.IPProtocolTCP, layers.IPProtocolUDP}[i&1]
		headerLen := 40
		if i&2 == 0 {
			v4 := &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: randomBytes(r, 4), DstIP: randomBytes(r, 4)}
			network, source, headerLen = v4, v4, 20
		} else {
			v6 := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: randomBytes(r, 16), DstIP: randomBytes(r, 16)}
			v6.SrcIP[0], v6.DstIP[0] = 0x20, 0x20
			network, source = v6, v6
		}
		transport := serialized(t, proto, source, uint16(r.Uint32()))
		buf := gopacket.NewSerializeBuffer()
		options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
		payload := gopacket.Payload(randomBytes(r, r.IntN(200)))
		if err := gopacket.SerializeLayers(buf, options, network, transport, payload); err != nil {
			t.Fatal(err)
		}
		pkt := buf.Bytes()
		if _, n, ok := parse(pkt); !ok || n != len(pkt) {
			t.Fatal("the packet is malformed")
		}
		if !transportValid(pkt, headerLen, uint8(proto)) {
			t.Fatalf("%v: %x is said to be wrong", proto, pkt)
		}
		for range 50 {
			bit := r.IntN((len(pkt) - headerLen) * 8)
			at := headerLen + bit/8
			pkt[at] ^= 1 << (bit % 8)
			// An empty checksum is none.
			none := proto == layers.IPProtocolUDP && headerLen == 20 && pkt[26] == 0 && pkt[27] == 0
			if transportValid(pkt, headerLen, uint8(proto)) != none {
				t.Fatalf("%v: another bit in octet %d is not seen", proto, at-headerLen)
			}
			pkt[at] ^= 1 << (bit % 8)
		}
		short := len(pkt)
		if proto == layers.IPProtocolTCP {
			short = headerLen + 20 // a longer one may be right by chance
		}
		for n := range short {
			if transportValid(pkt[:n], min(n, headerLen), uint8(proto)) {
				t.Fatalf("%v: %d octets of %d are said to be right", proto, n, len(pkt))
			}
		}
	}
}

func serialized(t *testing.T, proto layers.IPProtocol, source gopacket.NetworkLayer, port uint16) gopacket.SerializableLayer {
	t.Helper()
	if proto == layers.IPProtocolUDP {
		udp := &layers.UDP{SrcPort: layers.UDPPort(port), DstPort: 53}
		if err := udp.SetNetworkLayerForChecksum(source); err != nil {
			t.Fatal(err)
		}
		return udp
	}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(port), DstPort: 80, ACK: true, Window: 1000}
	if err := tcp.SetNetworkLayerForChecksum(source); err != nil {
		t.Fatal(err)
	}
	return tcp
}

func TestTransportValidOfUDP(t *testing.T) {
	v4, v6 := ip("10.0.0.1", "10.0.0.2", 30), ip("2001:db8::1", "2001:db8::2", 30)
	if !transportValid(v4, 20, protoUDP) {
		t.Error("over IPv4 a datagram may have no checksum")
	}
	if transportValid(v6, 40, protoUDP) {
		t.Error("over IPv6 a datagram must have a checksum")
	}
	// A datagram in a longer packet.
	v4[25], v6[45] = 21, 21
	binary.BigEndian.PutUint16(v4[26:], ^fold(sumOf(v4[20:41], pseudoSum(v4, protoUDP, 21))))
	binary.BigEndian.PutUint16(v6[46:], ^fold(sumOf(v6[40:61], pseudoSum(v6, protoUDP, 21))))
	if !transportValid(v4, 20, protoUDP) || !transportValid(v6, 40, protoUDP) {
		t.Error("what follows a datagram counts")
	}
	for _, length := range []byte{0, 7, 39} {
		v4[25], v6[45] = length, length
		if transportValid(v4, 20, protoUDP) || transportValid(v6, 40, protoUDP) {
			t.Errorf("a datagram of %d octets in 38 is taken", length)
		}
	}
	if transportValid(v4, 20, protoICMP) {
		t.Error("ICMP has another checksum")
	}
}

// FuzzTransportValid: nothing is read outside, and what is valid is so by RFC 1071.
func FuzzTransportValid(f *testing.F) {
	f.Add(ip("10.0.0.1", "10.0.0.2", 3), 20, byte(protoUDP))
	f.Add(ip("2001:db8::1", "2001:db8::2", 3), 40, byte(protoUDP))
	f.Add(packet(addr("10.0.0.1"), addr("10.0.0.2"), protoTCP, make([]byte, 20)), 20, byte(protoTCP))
	f.Fuzz(func(t *testing.T, pkt []byte, headerLen int, proto byte) {
		_, n, ok := parse(pkt)
		if !ok || headerLen < 20 || pkt[0]>>4 == 6 && headerLen < 40 {
			return
		}
		pkt = pkt[:n]
		if !transportValid(pkt, headerLen, proto) {
			return
		}
		b, length := pkt[headerLen:], len(pkt)-headerLen
		if proto == protoUDP {
			if length = int(binary.BigEndian.Uint16(b[4:])); b[6] == 0 && b[7] == 0 && pkt[0]>>4 == 4 {
				return
			}
		}
		pseudo := slices.Clone(pkt[12:20])
		if pkt[0]>>4 == 6 {
			pseudo = slices.Clone(pkt[8:40])
		}
		pseudo = append(pseudo, 0, proto, byte(length>>8), byte(length))
		if got := plainSum(append(pseudo, b[:length]...)); got != 0xffff {
			t.Fatalf("sum %#x is said to be right", got)
		}
	})
}

func TestChecksumAllocates(t *testing.T) {
	pkt := tcpPacket("10.0.0.1", "10.0.0.2", flagACK, nil, make([]byte, 1400))
	var sum uint16
	if n := testing.AllocsPerRun(100, func() {
		if !transportValid(pkt, 20, protoTCP) {
			t.Fatal("wrong")
		}
		sum = adjust(fold(sumOf(pkt, wordSum(sum))), 1, 2)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkSum has gVisor's beside ours.
func BenchmarkSum(b *testing.B) {
	sums := []struct {
		name string
		sum  func(b []byte) uint16
	}{
		{"ours", func(b []byte) uint16 { return fold(sumOf(b, 0)) }},
		{"gvisor", func(b []byte) uint16 { return gvisor.Checksum(b, 0) }},
	}
	for _, n := range []int{20, 64, 1400, 65483} {
		data := randomBytes(rand.New(rand.NewPCG(1, 1)), n)
		for _, s := range sums {
			b.Run(fmt.Sprintf("%s/%d", s.name, n), func(b *testing.B) {
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					s.sum(data)
				}
			})
		}
	}
}

func BenchmarkTransportValid(b *testing.B) {
	pkt := ip("10.0.0.1", "10.0.0.2", 1400-28)
	binary.BigEndian.PutUint16(pkt[26:], ^fold(sumOf(pkt[20:], pseudoSum(pkt, protoUDP, 1380))))
	b.SetBytes(int64(len(pkt)))
	b.ReportAllocs()
	for b.Loop() {
		if !transportValid(pkt, 20, protoUDP) {
			b.Fatal("wrong")
		}
	}
}
