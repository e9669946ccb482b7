package level2

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"martlet/test/simnet"
)

// initRequest waits for the first IKE_SA_INIT request that was sent, and returns it.
func (w *world) initRequest() []byte {
	w.Helper()
	sent := w.records(func(r simnet.Record) bool { return r.Fate == simnet.Sent && r.Datagram.To.Port() == 500 })
	if len(sent) == 0 {
		w.Fatal("no IKE_SA_INIT was sent")
	}
	return sent[0].Datagram.Data
}

// flood sends IKE_SA_INIT requests that are good but for their source, 1,000 a second.
// Each has another source, and SPI.
func (w *world) flood(from *simnet.Host, request []byte, count int) {
	for i := range count {
		data := slices.Clone(request)
		binary.BigEndian.PutUint64(data, 0xf100d<<32|uint64(i+1))
		source := netip.AddrFrom4([4]byte{100, byte(64 + i>>16), byte(i >> 8), byte(i)})
		from.Send(simnet.Datagram{From: netip.AddrPortFrom(source, 500), To: netip.AddrPortFrom(gatewayAddr, 500), Data: data})
		<-time.After(time.Millisecond)
	}
}

func TestFloodOfSpoofedSourcesHarmsNobody(t *testing.T) {
	inBubble(t, 70, func(w *world) {
		w.record()
		gateway, client := w.pair()
		request := w.initRequest()
		w.net.Trace(nil)

		attacker := w.net.Host("attacker", usual, attackerAddr)
		const count = 10000
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			w.flood(attacker, request, count)
		}()
		flows := both(gateway, client)
		const rounds = 100
		for n := range rounds { // 2 s
			for _, f := range flows {
				f.send(n, 1)
			}
		}
		pass(100 * time.Millisecond)
		for _, f := range flows {
			if n := len(f.arrived(rounds)); n != rounds {
				w.Errorf("%d of %d packets arrived at %s under the flood", n, rounds, f.to.host.Name)
			}
		}
		for i := range 5 {
			late := w.start(w.net.Host(clientName(i), usual, addressOf(i)), clientConfigOf(clientName(i)), false)
			begin := time.Now()
			late.connect()
			if took := time.Since(begin); took > 3*time.Second {
				w.Errorf("a new client needed %v", took)
			}
			talk(gateway, late)
		}
		<-ended
		drops := gateway.Status().Drops
		if drops["ike-cookie-required"] < count/2 {
			w.Errorf("cookies were asked for %d times only: %v", drops["ike-cookie-required"], drops)
		}
		// 100 half-open SAs in each engine and a little more.
		if n := len(gateway.Status().SAs); n > 1000 {
			w.Errorf("the flood made %d SAs", n)
		}
		if n := len(gateway.warnings()); n > 20 {
			w.Errorf("the log has %d warnings", n)
		}
		pass(time.Minute)
		if n := len(gateway.Status().SAs); n != 6 {
			w.Errorf("a minute later there are %d SAs, want those of six clients", n)
		}
		talk(gateway, client)
	})
}
