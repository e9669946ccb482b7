package level2

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"martlet"
	"martlet/config"
	"martlet/test/simnet"
	"martlet/tun/netmon"
)

var (
	awayAddr  = netip.MustParseAddr("198.51.100.99")
	thirdAddr = netip.MustParseAddr("203.0.113.200")
	sixthAddr = netip.MustParseAddr("2001:db8:2::7")
)

// outage sends a packet each way every 10 ms, calls f after half a second, and returns for how
// long packets did not arrive at the client and at the gateway.
func outage(gateway, client *end, f func()) (down, up time.Duration) {
	client.w.Helper()
	flows := both(gateway, client)
	gateway.take()
	client.take()
	const before, rounds = 50, 400
	for n := range rounds {
		if n == before {
			f()
		}
		for _, x := range flows {
			if !x.from.tun.Inject(packet(x.src, x.dst, n)) {
				x.from.w.Fatal("no room in the device")
			}
		}
		pass(10 * time.Millisecond)
	}
	pass(time.Second)
	lost := func(x flow) time.Duration {
		got := x.arrived(rounds)
		if len(got) == 0 || got[len(got)-1] != rounds-1 {
			x.to.w.Fatalf("at %s packets do not arrive any more", x.to.host.Name)
		}
		return time.Duration(rounds-len(got)) * 10 * time.Millisecond
	}
	return lost(flows[1]), lost(flows[0])
}

// stays checks that the client has the SA and the virtual address that it had.
func (e *end) stays(f func()) {
	e.w.Helper()
	spi, address := e.sa().SPIi, e.address()
	f()
	if e.sa().SPIi != spi {
		e.w.Error("the SA is another one")
	}
	if e.address() != address {
		e.w.Error("the virtual address is another one")
	}
}

func without(c *config.Config) *config.Config {
	for _, conn := range c.Connections {
		conn.NoMOBIKE = true
	}
	return c
}

// TestRoaming: the client goes from network to network, and the tunnel with it.
func TestRoaming(t *testing.T) {
	for _, c := range []struct {
		name            string
		gateway, client *config.Config
		limit           time.Duration // of an outage
	}{
		// Two round trips of 40 ms, and what was on its way.
		{"with MOBIKE", gatewayConfig(), clientConfig(), 150 * time.Millisecond},
		{"without MOBIKE on the client", gatewayConfig(), without(clientConfig()), 150 * time.Millisecond},
		{"without MOBIKE on the gateway", without(gatewayConfig()), clientConfig(), 150 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, 60, func(w *world) {
				gateway, client := w.gateway(c.gateway), w.client(c.client)
				client.connect()
				events := gateway.watch()
				hotel := w.net.NAT(natAddr, simnet.NATConfig{Filtering: simnet.AddressAndPortDependent})
				cafe := w.net.NAT(thirdAddr, simnet.NATConfig{Mapping: simnet.AddressAndPortDependent, Filtering: simnet.AddressAndPortDependent})
				for _, place := range []struct {
					name  string
					nat   *simnet.NAT
					addr  netip.Addr
					conds []string
				}{
					{"another address", nil, awayAddr, []string{"encap-forced"}},
					{"a hotel", hotel, privateAddr, []string{"nat-here"}},
					{"the same address in a cafe", cafe, privateAddr, []string{"nat-here"}},
					{"home", nil, clientAddr, []string{"encap-forced"}},
				} {
					client.stays(func() {
						down, up := outage(gateway, client, func() { client.roam(place.nat, place.addr) })
						if down > c.limit || up > c.limit {
							w.Errorf("to %s: %v without packets to the client, %v from it", place.name, down, up)
						}
					})
					if got := client.sa(); got.LocalAddr.Addr() != place.addr || c.gateway.Connections["clients"].NoMOBIKE == false &&
						!c.client.Connections["office"].NoMOBIKE && !slices.Equal(got.Conditions, place.conds) {
						w.Errorf("in %s the client says %v, %v", place.name, got.LocalAddr, got.Conditions)
					}
				}
				moves := 0
				for _, ev := range events() {
					if ev.Kind == martlet.EventMoved {
						moves++
					}
				}
				if moves < 4 {
					w.Errorf("the gateway tells of %d moves", moves)
				}
				talk(gateway, client)
				closesCleanly(gateway, client)
			})
		})
	}
}

// TestRoamingToTheOtherFamily: the gateway told its address of the other family, and the
// client goes where only that is.
func TestRoamingToTheOtherFamily(t *testing.T) {
	inBubble(t, 61, func(w *world) {
		g := gatewayConfig()
		g.Node.Listen = append(g.Node.Listen, netip.IPv6Unspecified())
		gateway := w.start(w.net.Host("gateway", usual, gatewayAddr, netip.MustParseAddr("2001:db8:1::1")), g, true)
		client := w.client(clientConfig())
		client.connect()
		client.stays(func() {
			down, up := outage(gateway, client, func() { client.roam(nil, sixthAddr) })
			if down > 200*time.Millisecond || up > 200*time.Millisecond {
				w.Errorf("%v without packets to the client, %v from it", down, up)
			}
		})
		if got := client.sa().RemoteAddr.Addr(); got.Is4() {
			w.Errorf("the client sends to %v", got)
		}
		closesCleanly(gateway, client)
	})
}

// TestRebindingIsFollowedAtOnce: the first packet from behind the NAT's new port opens the
// way back.
func TestRebindingIsFollowedAtOnce(t *testing.T) {
	inBubble(t, 62, func(w *world) {
		gateway, client, nat := w.natted(simnet.NATConfig{Filtering: simnet.AddressAndPortDependent})
		client.stays(func() {
			down, up := outage(gateway, client, nat.Rebind)
			// The packets that were on their way, and those of half a round trip.
			if down > 60*time.Millisecond || up > 0 {
				w.Errorf("%v without packets to the client, %v from it", down, up)
			}
		})
		closesCleanly(gateway, client)
	})
}

// TestOfflineForAWhile: the tunnel is kept without a network for as long as the gateway
// keeps it, and goes on when there is one.
func TestOfflineForAWhile(t *testing.T) {
	inBubble(t, 63, func(w *world) {
		g := gatewayConfig()
		g.Connections["clients"].Liveness = config.Never
		gateway, client := w.gateway(g), w.client(clientConfig())
		client.connect()
		client.stays(func() {
			client.roam(nil)
			pass(20 * time.Minute)
			client.roam(nil, awayAddr)
			pass(time.Second)
			talk(gateway, client)
		})
		closesCleanly(gateway, client)
	})
}

// TestWakeFromSleep: the gateway has given the client up meanwhile, and the client finds that
// out in seconds.
func TestWakeFromSleep(t *testing.T) {
	inBubble(t, 64, func(w *world) {
		c := clientConfig()
		c.Connections["office"].Liveness = config.Duration(time.Hour) // its clock stood still
		gateway, client := w.gateway(gatewayConfig()), w.client(c)
		client.connect()
		client.stays(func() {
			client.bind.changes <- netmon.Change{Woken: true}
			pass(time.Second)
		})
		client.host.Blackout(true)
		pass(2 * time.Minute)
		gateway.clean()
		client.host.Blackout(false)
		client.bind.changes <- netmon.Change{Woken: true}
		pass(15 * time.Second)
		client.clean()
		client.connect()
		talk(gateway, client)
		closesCleanly(gateway, client)
	})
}

// TestWakeInAnotherNetwork: after a night the gateway has forgotten the client, which wakes at
// another address, finds that out and connects again by itself.
func TestWakeInAnotherNetwork(t *testing.T) {
	inBubble(t, 65, func(w *world) {
		c := keptConfig()
		c.Connections["office"].Liveness = config.Duration(100 * time.Hour) // its clock stood still
		gateway, client := w.gateway(gatewayConfig()), w.client(c)
		client.connect()
		client.host.Blackout(true)
		pass(8 * time.Hour)
		gateway.clean()
		client.host.Blackout(false)
		client.host.Move(awayAddr)
		client.bind.changes <- netmon.Change{Woken: true}
		pass(45 * time.Second)
		talk(gateway, client)
		if got := client.sa().LocalAddr.Addr(); got != awayAddr {
			w.Errorf("the client is at %v", got)
		}
		closesCleanly(gateway, client)
	})
}

// TestNewNetworkEndsTheWait: a connection that failed on one network is tried at once on
// another.
func TestNewNetworkEndsTheWait(t *testing.T) {
	for seed := range uint64(5) {
		inBubble(t, 66+seed, func(w *world) {
			gateway, client := w.gateway(gatewayConfig()), w.client(keptConfig())
			client.connect()
			pass(5 * time.Minute)
			client.host.Blackout(true) // a network that leads nowhere
			pass(30*time.Minute + time.Duration(seed)*11*time.Second)
			if n := len(client.Status().SAs); n == 0 && len(client.Status().Waiting) != 1 {
				w.Error("the client has neither an SA nor a wait")
			}
			gateway.clean()
			client.host.Blackout(false)
			client.roam(nil, awayAddr)
			pass(3 * time.Second)
			talk(gateway, client)
		})
	}
}

// TestDeadAddressOfTheGatewayIsLeft: one of its two addresses is cut off, which it does not
// notice. The client does by what it sends in vain, and goes to the other one.
func TestDeadAddressOfTheGatewayIsLeft(t *testing.T) {
	inBubble(t, 75, func(w *world) {
		other := netip.MustParseAddr("192.0.2.2")
		gateway := w.start(w.net.Host("gateway", usual, gatewayAddr, other), gatewayConfig(), true)
		client := w.client(clientConfig())
		client.connect()
		client.stays(func() {
			gateway.host.Move(other)
			flows := both(gateway, client)
			gateway.take()
			const rounds = 200
			for n := range rounds {
				flows[0].send(n, 1)
				pass(90 * time.Millisecond)
			}
			got := flows[0].arrived(rounds)
			if len(got) == 0 || got[len(got)-1] != rounds-1 {
				w.Fatal("packets do not arrive any more")
			}
			if dead := time.Duration(rounds-len(got)) * 100 * time.Millisecond; dead > 15*time.Second {
				w.Errorf("packets were lost for %v", dead)
			}
		})
		if got := client.sa().RemoteAddr.Addr(); got != other {
			w.Errorf("the client sends to %v", got)
		}
		talk(gateway, client)
	})
}
