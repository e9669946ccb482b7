package level2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing/synctest"
	"time"
)

// packet is an inner IPv4 packet with UDP in it; n tells it from all others.
func packet(src, dst netip.Addr, n int) []byte {
	payload := fmt.Appendf(nil, "packet %d ", n)
	payload = append(payload, bytes.Repeat([]byte{byte(n)}, n%400)...)
	b := []byte{0x45, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(28+len(payload)))
	b = append(b, 0, 0, 0x40, 0, 64, 17, 0, 0)
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum>>16+sum&0xffff))
	b = binary.BigEndian.AppendUint16(b, 5000)
	b = binary.BigEndian.AppendUint16(b, 5001)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	return append(append(b, 0, 0), payload...)
}

// take returns what came out of a node's device so far.
func (e *end) take() [][]byte {
	synctest.Wait()
	var out [][]byte
	for {
		select {
		case p := <-e.tun.Packets():
			out = append(out, p)
		default:
			return out
		}
	}
}

// flow is packets from one node to another.
type flow struct {
	from, to *end
	src, dst netip.Addr
}

// both is the client's traffic with the server behind the gateway.
func both(gateway, client *end) []flow {
	at := client.address()
	return []flow{{client, gateway, at, serverAddr}, {gateway, client, serverAddr, at}}
}

// send injects count packets, one each 10 ms.
func (f flow) send(from, count int) {
	f.from.w.Helper()
	for n := from; n < from+count; n++ {
		if !f.from.tun.Inject(packet(f.src, f.dst, n)) {
			f.from.w.Fatal("no room in the device")
		}
		pass(10 * time.Millisecond)
	}
}

// arrived gives the numbers of the packets that came out at the other end. Each must be
// one that was sent, to the last bit, and must come once.
func (f flow) arrived(sent int) []int {
	f.to.w.Helper()
	want := make(map[string]int, sent)
	for n := range sent {
		want[string(packet(f.src, f.dst, n))] = n
	}
	var got []int
	for _, p := range f.to.take() {
		n, ok := want[string(p)]
		if !ok {
			f.to.w.Fatalf("at %s arrived what was never sent, or arrived before: %x", f.to.host.Name, p)
		}
		delete(want, string(p))
		got = append(got, n)
	}
	return got
}

// talk checks that traffic passes both ways, every packet of it, in order.
func talk(gateway, client *end) {
	client.w.Helper()
	const count = 20
	gateway.take()
	client.take()
	for _, f := range both(gateway, client) {
		f.send(0, count)
		pass(time.Second)
		got := f.arrived(count)
		if len(got) != count {
			f.to.w.Fatalf("%d of %d packets arrived at %s", len(got), count, f.to.host.Name)
		}
		for i, n := range got {
			if i != n {
				f.to.w.Fatalf("at %s packet %d arrived as number %d", f.to.host.Name, n, i)
			}
		}
	}
}

// silent checks that no traffic passes any more.
func silent(flows []flow) {
	for _, f := range flows {
		f.to.take()
		f.send(0, 3)
		pass(time.Second)
		if n := len(f.to.take()); n > 0 {
			f.to.w.Errorf("%d packets arrived at %s through a tunnel that is gone", n, f.to.host.Name)
		}
	}
}
