package level2

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"martlet/test/simnet"
)

var natKinds = []struct {
	name   string
	config simnet.NATConfig
}{
	{"full cone", simnet.NATConfig{}},
	{"address restricted", simnet.NATConfig{Filtering: simnet.AddressDependent}},
	{"port restricted", simnet.NATConfig{Filtering: simnet.AddressAndPortDependent}},
	{"symmetric", simnet.NATConfig{Mapping: simnet.AddressAndPortDependent, Filtering: simnet.AddressAndPortDependent}},
}

func TestClientBehindEveryKindOfNAT(t *testing.T) {
	for _, kind := range natKinds {
		t.Run(kind.name, func(t *testing.T) {
			inBubble(t, 10, func(w *world) {
				kind.config.Timeout = 30 * time.Second
				gateway, client, _ := w.natted(kind.config)
				if got := client.sa().Conditions; !slices.Equal(got, []string{"nat-here"}) {
					w.Errorf("the client sees %v", got)
				}
				if got := gateway.sa().Conditions; !slices.Equal(got, []string{"nat-there"}) {
					w.Errorf("the gateway sees %v", got)
				}
				talk(gateway, client)
				// Keepalives hold the mapping, so that the server can begin after a long rest.
				pass(10 * time.Minute)
				server := both(gateway, client)[1]
				server.send(0, 3)
				pass(time.Second)
				if n := len(server.arrived(3)); n != 3 {
					w.Errorf("%d of 3 packets reached a client that had rested", n)
				}
				closesCleanly(gateway, client)
			})
		})
	}
}

func TestBothBehindNAT(t *testing.T) {
	inBubble(t, 11, func(w *world) {
		// The gateway's NAT forwards nothing by itself: a static mapping is made by what the
		// gateway sends, and a port of the NAT's choice is what the client calls.
		outer := w.net.NAT(gatewayAddr, simnet.NATConfig{})
		host := w.net.Host("gateway", usual, netip.MustParseAddr("172.16.0.2")).Behind(outer)
		gateway := w.start(host, gatewayConfig(), true)
		var port uint16
		probe := w.net.Host("probe", usual, attackerAddr)
		probe.OnReceive(func(d simnet.Datagram) { port = d.From.Port() })
		host.Send(simnet.Datagram{From: netip.AddrPortFrom(host.Addr(), 4500), To: netip.AddrPortFrom(attackerAddr, 9), Data: []byte{0xff}})
		pass(time.Second)

		nat := w.net.NAT(natAddr, simnet.NATConfig{Filtering: simnet.AddressDependent})
		c := clientConfig()
		c.Connections["office"].Port = port
		client := w.start(w.net.Host("client", usual, privateAddr).Behind(nat), c, false)
		client.connect()
		for _, e := range []*end{gateway, client} {
			if got := e.sa().Conditions; !slices.Equal(got, []string{"nat-here", "nat-there"}) {
				w.Errorf("%s sees %v", e.host.Name, got)
			}
		}
		talk(gateway, client)
		closesCleanly(gateway, client)
	})
}

// keepalives are the keepalives that the client sent.
func (w *world) keepalives() []simnet.Record {
	return w.records(func(r simnet.Record) bool {
		return r.Fate == simnet.Sent && len(r.Datagram.Data) == 1 && r.Datagram.Data[0] == 0xff
	})
}

func TestKeepalivesOnlyBehindARealNAT(t *testing.T) {
	inBubble(t, 12, func(w *world) {
		w.record()
		gateway, client := w.pair()
		pass(5 * time.Minute)
		if sent := w.keepalives(); len(sent) != 0 {
			w.Errorf("%d keepalives without a NAT, the first from %v", len(sent), sent[0].Datagram.From)
		}
		talk(gateway, client)
	})
}

func TestKeepalivesOnlyWhenIdle(t *testing.T) {
	inBubble(t, 13, func(w *world) {
		w.record()
		gateway, client, _ := w.natted(simnet.NATConfig{Timeout: 25 * time.Second})
		out := both(gateway, client)[0]
		for n := range 60 {
			out.send(n, 1)
			pass(5 * time.Second)
		}
		if sent := w.keepalives(); len(sent) != 0 {
			w.Errorf("%d keepalives though the client sent something each 5 s", len(sent))
		}
		pass(5 * time.Minute)
		idle := w.keepalives()
		// One each 20 s, fewer for the liveness checks in between.
		if n := len(idle); n < 5 || n > 15 {
			w.Errorf("%d keepalives in 5 minutes of rest", n)
		}
		for _, r := range idle {
			if r.Host != "client" {
				w.Errorf("a keepalive of %s, which is not behind the NAT", r.Host)
			}
		}
	})
}

// remote is where the gateway sends what is for its only peer.
func (e *end) remote() netip.AddrPort {
	e.w.Helper()
	for _, sa := range e.Status().SAs {
		if sa.State == "established" {
			return sa.RemoteAddr
		}
	}
	e.w.Fatalf("%s has no SA", e.host.Name)
	return netip.AddrPort{}
}

func TestRebindingIsFollowedWhileIdle(t *testing.T) {
	inBubble(t, 14, func(w *world) {
		gateway, client, nat := w.natted(simnet.NATConfig{Filtering: simnet.AddressAndPortDependent})
		before := gateway.remote()
		nat.Rebind()
		pass(65 * time.Second) // two intervals of liveness checks
		if after := gateway.remote(); after == before {
			w.Fatalf("the gateway still sends to %v", before)
		}
		server := both(gateway, client)[1]
		server.send(0, 5)
		pass(time.Second)
		if n := len(server.arrived(5)); n != 5 {
			w.Errorf("%d of 5 packets found the client", n)
		}
		talk(gateway, client)
	})
}

func TestRebindingIsFollowedUnderTraffic(t *testing.T) {
	inBubble(t, 15, func(w *world) {
		gateway, client, nat := w.natted(simnet.NATConfig{Filtering: simnet.AddressAndPortDependent})
		flows := both(gateway, client)
		before := gateway.remote()
		nat.Rebind()
		const rounds = 240 // a minute
		for n := range rounds {
			for _, f := range flows {
				f.send(n, 1)
			}
			pass(230 * time.Millisecond)
		}
		if after := gateway.remote(); after == before {
			w.Fatalf("the gateway still sends to %v", before)
		}
		if n := len(flows[0].arrived(rounds)); n != rounds {
			w.Errorf("%d of %d packets arrived at the gateway, which nothing hindered", n, rounds)
		}
		if n := len(flows[1].arrived(rounds)); n < rounds/3 {
			w.Errorf("%d of %d packets arrived at the client", n, rounds)
		}
		talk(gateway, client)
	})
}

func TestPathDoesNotFollowForgedOrReplayedPackets(t *testing.T) {
	inBubble(t, 16, func(w *world) {
		w.record()
		gateway, client, _ := w.natted(simnet.NATConfig{})
		talk(gateway, client)
		pass(2 * time.Minute) // liveness checks of both ends
		before := gateway.remote()
		captured := w.records(func(r simnet.Record) bool { return r.Fate == simnet.Delivered && r.Host == "gateway" })
		if len(captured) < 20 {
			w.Fatalf("only %d datagrams captured", len(captured))
		}
		// Bit for bit, and with a bit changed, from another address: the path stays.
		attacker := w.net.Host("attacker", usual, attackerAddr)
		answered := 0
		attacker.OnReceive(func(d simnet.Datagram) {
			if d.From.Port() == 4500 && len(d.Data) > 4 && [4]byte(d.Data) != [4]byte{} {
				answered++
			}
		})
		for _, r := range captured {
			for _, flip := range []byte{0, 1} {
				data := slices.Clone(r.Datagram.Data)
				data[len(data)-1] ^= flip
				attacker.Send(simnet.Datagram{From: netip.AddrPortFrom(attackerAddr, 4500), To: r.Datagram.To, Data: data})
			}
			pass(10 * time.Millisecond)
			if got := gateway.remote(); got != before {
				w.Fatalf("a packet of the attacker's moved the path from %v to %v", before, got)
			}
		}
		talk(gateway, client)
		if answered > 0 {
			w.Errorf("%d ESP packets went to the attacker", answered)
		}
	})
}
