package level2

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"martlet/test/simnet"
)

// hostile is datagrams made of real ones: as they were, cut short, with bits changed, and
// noise.
func hostile(rng *rand.Rand, captured []simnet.Record, count int) []simnet.Datagram {
	var out []simnet.Datagram
	for range count {
		d := captured[rng.IntN(len(captured))].Datagram
		d.Data = slices.Clone(d.Data)
		switch rng.IntN(5) {
		case 0: // replayed
		case 1:
			d.Data = d.Data[:rng.IntN(len(d.Data))]
		case 2:
			for range 1 + rng.IntN(8) {
				d.Data[rng.IntN(len(d.Data))] ^= 1 << rng.IntN(8)
			}
		case 3: // everything behind the header of IKE or ESP
			for i := min(len(d.Data), 8+rng.IntN(30)); i < len(d.Data); i++ {
				d.Data[i] = byte(rng.Uint32())
			}
		case 4:
			d.Data = make([]byte, rng.IntN(1500))
			for i := range d.Data {
				d.Data[i] = byte(rng.Uint32())
			}
			if rng.IntN(2) == 0 && len(d.Data) > 4 {
				clear(d.Data[:4]) // so that it goes to IKE
			}
		}
		out = append(out, d)
	}
	return out
}

func TestHostileDatagramsAreCountedAndDropped(t *testing.T) {
	for seed := range uint64(4) {
		inBubble(t, 80+seed, func(w *world) {
			w.record()
			gateway, client := w.pair()
			talk(gateway, client)
			pass(2 * time.Minute) // liveness checks
			captured := w.records(func(r simnet.Record) bool { return r.Fate == simnet.Delivered })
			w.net.Trace(nil)
			before := client.sa()
			flows := both(gateway, client)
			attacker := w.net.Host("attacker", usual, attackerAddr)
			rng := rand.New(rand.NewPCG(seed, 80))
			sum := func(e *end) (n uint64) {
				for c := range maps.Values(e.Status().Drops) {
					n += c
				}
				return n
			}
			atGateway, atClient := sum(gateway), sum(client)
			const count = 2000
			for i, d := range hostile(rng, captured, count) {
				if i%3 == 0 { // from elsewhere; else from whom it came
					d.From = netip.AddrPortFrom(attackerAddr, uint16(1+rng.IntN(65535)))
				}
				attacker.Send(d)
				if i%10 == 0 {
					for _, f := range flows {
						f.send(i/10, 1)
					}
				}
			}
			pass(time.Second)
			for _, f := range flows {
				if n := len(f.arrived(count / 10)); n != count/10 {
					w.Errorf("seed %d: %d of %d packets arrived at %s", seed, n, count/10, f.to.host.Name)
				}
			}
			g, c := sum(gateway)-atGateway, sum(client)-atClient
			if g < count/4 || c < count/4 || gateway.Status().Drops["ike-panic"]+client.Status().Drops["ike-panic"] > 0 {
				w.Errorf("seed %d: of %d datagrams %d and %d were counted: %v %v", seed, count, g, c, gateway.Status().Drops, client.Status().Drops)
			}
			pass(2 * time.Minute)
			after := client.sa()
			if after.SPIi != before.SPIi || after.RemoteAddr != before.RemoteAddr || gateway.sa().RemoteAddr != before.LocalAddr && gateway.sa().RemoteAddr.Addr() != clientAddr {
				w.Errorf("seed %d: the tunnel changed:\n%+v\n%+v", seed, before, after)
			}
			talk(gateway, client)
			closesCleanly(gateway, client)
		})
	}
}

// TestHandshakeUnderInjectionCompletes has an attacker who reads everything and is faster than
// both ends. Only as one of them in IKE_SA_INIT he must not speak: it is not protected, and
// whoever replaces a message of it can keep any two IKEv2 peers apart.
func TestHandshakeUnderInjectionCompletes(t *testing.T) {
	for seed := range uint64(4) {
		inBubble(t, 90+seed, func(w *world) {
			gateway, client := w.gateway(gatewayConfig()), w.client(clientConfig())
			attacker := w.net.Host("attacker", simnet.Link{}, attackerAddr) // nearer than both ends
			rng := rand.New(rand.NewPCG(seed, 90))
			w.record()
			done := make(chan error, 1)
			go func() { done <- client.Connect(w.Context(), "") }()
			for range 100 {
				pass(time.Millisecond)
				sent := w.records(func(r simnet.Record) bool {
					return r.Fate == simnet.Sent && r.Host != "attacker" && r.Datagram.From.Port() != 500
				})
				if len(sent) == 0 {
					continue
				}
				for _, d := range hostile(rng, sent, 20) {
					if d.To.Port() == 500 {
						d.From = netip.AddrPortFrom(attackerAddr, 500)
					}
					attacker.Send(d)
				}
			}
			if err := <-done; err != nil {
				w.Fatalf("seed %d: %v", seed, err)
			}
			w.net.Trace(nil)
			talk(gateway, client)
			pass(time.Minute)
			gateway.sa()
			closesCleanly(gateway, client)
		})
	}
}

// TestInnerPacketsOutsideTheSelectorsAreDropped has an authentic client that seals what it
// likes.
func TestInnerPacketsOutsideTheSelectorsAreDropped(t *testing.T) {
	inBubble(t, 100, func(w *world) {
		c := clientConfig()
		c.Node.KeyLog = w.TempDir()
		gateway, client := w.gateway(gatewayConfig()), w.client(c)
		client.connect()
		forger, at := w.forger(client), client.address()
		other := w.start(w.net.Host("other", usual, privateAddr), clientConfigOf("other@test"), false)
		other.connect()
		for i, test := range []struct {
			src, dst netip.Addr
			what     string
		}{
			{other.address(), serverAddr, "another client's address"},
			{mustAddr("192.0.2.99"), serverAddr, "an address of nobody"},
			{gatewayAddr, serverAddr, "the gateway's own address"},
			{clientAddr, serverAddr, "the outer address"},
			{serverAddr, serverAddr, "the server's address"},
			{mustAddr("10.77.255.254"), serverAddr, "an address of the pool that nobody has"},
			{mustAddr("127.0.0.1"), serverAddr, "loopback as source"},
			{mustAddr("224.0.0.1"), serverAddr, "multicast as source"},
			{mustAddr("255.255.255.255"), serverAddr, "broadcast as source"},
			{mustAddr("0.0.0.0"), serverAddr, "no source"},
			{at, mustAddr("10.2.0.1"), "a network that is not the tunnel's"},
			{at, gatewayAddr, "to the gateway's outer address"},
			{at, other.address(), "to another client"},
			{at, at, "to itself"},
			{at, mustAddr("127.0.0.1"), "to loopback"},
			{at, mustAddr("255.255.255.255"), "to broadcast"},
		} {
			before := gateway.Status().Drops
			forger.send(packet(test.src, test.dst, i))
			pass(time.Second)
			if len(gateway.take()) != 0 {
				w.Errorf("%s: came through", test.what)
			}
			after := gateway.Status().Drops
			if after["esp-selector"]+after["esp-bad-inner"] != before["esp-selector"]+before["esp-bad-inner"]+1 {
				w.Errorf("%s: is not counted: %v", test.what, after)
			}
		}
		honest := packet(at, serverAddr, 1)
		forger.send(honest)
		pass(time.Second)
		if got := gateway.take(); len(got) != 1 || string(got[0]) != string(honest) {
			w.Errorf("an honest packet of the same making gave %d", len(got))
		}
		if len(other.take()) != 0 {
			w.Error("the other client got something")
		}
	})
}
