package esp

import (
	"testing"

	"martlet/crypto/suite"
	"martlet/esp/udpencap"
)

// faulty is a cipher with a fault in it.
type faulty struct{ suite.Cipher }

func (faulty) Open([]byte, int, suite.ESN) ([]byte, error) { panic("planted") }
func (faulty) Seal([]byte, int, uint64, suite.ESN)         { panic("planted") }

// TestRow07PanicCostsOneBatch plants a panic in each place that a packet passes: one
// batch is lost and counted, another child and later packets of the same one are not.
func TestRow07PanicCostsOneBatch(t *testing.T) {
	b := newBench(t)
	sick := b.child(1, "10.0.0.0/24", "10.1.0.0/24")
	well := b.child(2, "10.0.0.0/24", "10.2.0.0/24")
	b.install(sick)
	b.install(well)
	ch := b.plane.children[1]
	in, out := ch.rx.in.cipher, ch.tx.out.cipher
	toSick, toWell := ip("10.0.0.1", "10.1.0.1", 100), ip("10.0.0.1", "10.2.0.1", 100)
	fromSick, fromWell := b.peerOf(sick), b.peerOf(well)
	esp := func(inner []byte, from *Outbound) udpencap.Packet {
		return udpencap.Packet{Kind: udpencap.ESP, Data: seal(t, from, inner), Local: sick.Path.Local, Remote: sick.Path.Remote}
	}
	arrive := func(p udpencap.Packet) int {
		return len(b.arrive(p))
	}
	leave := func(inner []byte) int {
		return len(b.host(inner))
	}
	sound := func(when string) {
		t.Helper()
		for _, p := range []udpencap.Packet{
			esp(ip("10.1.0.1", "10.0.0.1", 100), fromSick), esp(ip("10.2.0.1", "10.0.0.1", 100), fromWell),
		} {
			if arrive(p) != 1 {
				t.Errorf("after a panic %s a packet is not delivered", when)
			}
		}
		if leave(toSick) != 1 || leave(toWell) != 1 {
			t.Errorf("after a panic %s a packet is not sent", when)
		}
	}

	ch.rx.in.cipher, ch.tx.out.cipher = faulty{in}, faulty{out}
	if arrive(esp(ip("10.1.0.1", "10.0.0.1", 100), fromSick)) != 0 || leave(toSick) != 0 {
		t.Error("a packet passed a faulty cipher")
	}
	if arrive(esp(ip("10.2.0.1", "10.0.0.1", 100), fromWell)) != 1 || leave(toWell) != 1 {
		t.Error("another child suffers")
	}
	ch.rx.in.cipher, ch.tx.out.cipher = in, out
	sound("in a cipher")

	deliver := b.dev.sink
	b.dev.sink = func([]byte) bool { panic("planted") }
	arrive(esp(ip("10.2.0.1", "10.0.0.1", 100), fromWell))
	b.dev.sink = deliver
	sound("in the device")

	b.refuse = func(udpencap.Packet) error { panic("planted") }
	leave(toWell)
	b.refuse = nil
	sound("in a socket")

	b.plane.events = nil
	arrive(udpencap.Packet{Kind: udpencap.IKE, Data: []byte("any")})
	b.plane.events = b.events
	sound("in the control plane")

	b.wantDrops(map[Drop]uint64{DropPanic: 5})
}
