package ike

import (
	"runtime"
	"testing"
	"time"

	"martlet/crypto/pki"
)

// benchmarkHandshake opens and forgets SAs, both ends counted.
func benchmarkHandshake(b *testing.B, client, gateway *Connection) {
	w, c, g := pair(b, client, gateway)
	w.delay = 0
	b.ReportAllocs()
	for b.Loop() {
		c.initiate("home", g)
		for w.step(w.now) {
		}
		if len(g.installed) != 1 {
			b.Fatal("not up")
		}
		for _, h := range []*host{c, g} {
			h.e.unlink(h.e.last)
			h.sent, h.reports, h.asked = nil, nil, nil
			clear(h.installed)
			clear(h.everSPI)
		}
		w.trace, w.wires = nil, nil
	}
}

func BenchmarkHandshakePSK(b *testing.B) {
	client, gateway := pskPair(b)
	benchmarkHandshake(b, client, gateway)
}

func BenchmarkHandshakeECDSA(b *testing.B) {
	client, gateway := certPair(b, pki.ECDSAP256, pki.ECDSAP256)
	benchmarkHandshake(b, client, gateway)
}

// BenchmarkHandshakeMLKEM is a handshake with the algorithms that are offered first by
// default: x25519 and ML-KEM-768.
func BenchmarkHandshakeMLKEM(b *testing.B) {
	client, gateway := hybridPair(b, "aes256gcm16-prfsha256-x25519-ke1_mlkem768")
	benchmarkHandshake(b, client, gateway)
}

// BenchmarkCookie is what an IKE_SA_INIT costs under load: no state, no key exchange.
func BenchmarkCookie(b *testing.B) {
	client, gateway := pskPair(b)
	w, c, g := pair(b, client, gateway)
	g.e.gate.cfg = HalfOpen{CookiePrefix: -1}
	raw := initRequest(b, c, g)
	p := g.path(c, false)
	b.ReportAllocs()
	for b.Loop() {
		g.e.Handle(w.now, Datagram{Path: p, Data: raw})
	}
}

// BenchmarkIdleMemory tells what an idle SA with a child holds, both ends and the
// test's own table of what is installed included.
func BenchmarkIdleMemory(b *testing.B) {
	for name, pair := range map[string]func(testing.TB) (client, gateway *Connection){
		"PSK": pskPair,
		"EAP": func(t testing.TB) (client, gateway *Connection) {
			client, gateway = eapPair(t)
			virtualPair(client, gateway)
			return client, gateway
		},
		"certificates,MLKEM": func(t testing.TB) (client, gateway *Connection) {
			client, gateway = certPair(t, pki.ECDSAP256, pki.ECDSAP256)
			client.Proposals = ikeProposals(t, "aes256gcm16-prfsha256-x25519-ke1_mlkem768")
			gateway.Proposals = client.Proposals
			return client, gateway
		},
	} {
		b.Run(name, func(b *testing.B) {
			client, gateway := pair(b)
			benchmarkIdleMemory(b, client, gateway)
		})
	}
}

func benchmarkIdleMemory(b *testing.B, client, gateway *Connection) {
	const pairs = 500
	for b.Loop() {
		w, c, g := eapHosts(b, client, gateway)
		g.admit = func(Admit) Admission { return Admission{Lease: testLease} }
		w.delay = 0
		g.e.gate.cfg = HalfOpen{CookiePrefix: 1 << 20, CookieTotal: 1 << 20}
		heap := func() uint64 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		before := heap()
		for range pairs {
			c.initiate("home", g)
			for w.step(w.now) {
			}
			for _, h := range w.nodes {
				h.sent, h.reports, h.asked = nil, nil, nil
				clear(h.installed)
				clear(h.everSPI)
				clear(h.e.acts)
			}
			w.trace, w.wires = nil, nil
		}
		if n := len(g.established()); n != pairs {
			b.Fatalf("%d SAs, want %d", n, pairs)
		}
		w.now = w.now.Add(time.Minute)
		b.ReportMetric(float64(heap()-before)/pairs/2, "B/SA")
		runtime.KeepAlive(w)
	}
}
