package level2

import (
	"errors"
	"strings"
	"testing"
	"time"

	"martlet"
	"martlet/ike"
	"martlet/test/simnet"
)

func TestClientComesBackAfterTheGatewayCrashed(t *testing.T) {
	inBubble(t, 30, func(w *world) {
		gateway, client := w.pair()
		talk(gateway, client)
		events := client.watch()
		gateway.crash()
		next := w.start(gateway.host, gatewayConfig(), true)
		pass(2 * time.Minute)
		client.clean()
		all := events()
		if last := all[len(all)-1]; last.Err == nil || last.Err.Code != ike.CodePeerDead {
			w.Errorf("the client was told %+v", last)
		}
		client.connect()
		talk(next, client)
		closesCleanly(next, client)
	})
}

func TestNewClientReplacesTheOneThatCrashed(t *testing.T) {
	inBubble(t, 31, func(w *world) {
		gateway, client := w.pair()
		talk(gateway, client)
		address := client.address()
		client.crash()
		again := w.start(client.host, clientConfig(), false)
		again.connect()
		if got := again.address(); got != address {
			w.Errorf("the same identity got %v, had %v", got, address)
		}
		// The server may speak first: what is sent to the address goes to the new SA at once.
		server := flow{gateway, again, serverAddr, address}
		server.send(0, 3)
		pass(time.Second)
		if n := len(server.arrived(3)); n != 3 {
			w.Errorf("%d of 3 packets found the new client", n)
		}
		pass(time.Minute)
		gateway.sa()
		talk(gateway, again)
		closesCleanly(gateway, again)
	})
}

func TestInitialContactOfOneIdentityLeavesOthersAlone(t *testing.T) {
	inBubble(t, 32, func(w *world) {
		gateway, alice := w.pair()
		bob := w.start(w.net.Host("bob", usual, privateAddr), clientConfigOf("bob@test"), false)
		bob.connect()
		pass(time.Minute)
		if n := len(gateway.Status().SAs); n != 2 {
			w.Fatalf("the gateway has %d SAs, want two", n)
		}
		if alice.address() == bob.address() {
			w.Errorf("both have the address %v", bob.address())
		}
		talk(gateway, alice)
		talk(gateway, bob)
	})
}

func TestAddressStaysWithTheIdentity(t *testing.T) {
	inBubble(t, 33, func(w *world) {
		gateway, alice := w.pair()
		address := alice.address()
		alice.close()
		pass(time.Second)
		for i := range 3 {
			other := w.start(w.net.Host(clientName(i), usual, addressOf(i)), clientConfigOf(clientName(i)), false)
			other.connect()
			if other.address() == address {
				w.Errorf("%s got the address of another", clientName(i))
			}
		}
		again := w.start(alice.host, clientConfig(), false)
		again.connect()
		if got := again.address(); got != address {
			w.Errorf("came back and got %v, had %v", got, address)
		}
		talk(gateway, again)
	})
}

func TestExhaustedPoolIsAClearRefusal(t *testing.T) {
	inBubble(t, 34, func(w *world) {
		g := gatewayConfig()
		g.Pools["v4"].Addresses = []string{"10.77.0.8-10.77.0.8"}
		gateway := w.gateway(g)
		alice := w.client(clientConfig())
		alice.connect()
		bob := w.start(w.net.Host("bob", usual, privateAddr), clientConfigOf("bob@test"), false)
		err := bob.Connect(w.Context(), "")
		e, ok := errors.AsType[*martlet.Error](err)
		if !ok || e.Code != ike.CodeAddress || e.Code.Class() != martlet.ClassPolicy || !e.Remote {
			w.Fatalf("got %#v", err)
		}
		if !strings.Contains(e.Hint, "exhausted") {
			w.Errorf("the hint is %q", e.Hint)
		}
		pass(time.Second)
		bob.clean()
		if sa := gateway.sa(); sa.RemoteID != "alice@test" {
			w.Errorf("the gateway has the SA of %s", sa.RemoteID)
		}
		if lines := gateway.warnings(); len(lines) != 1 || !strings.Contains(lines[0], "pool") {
			w.Errorf("the gateway's log says:\n%s", strings.Join(lines, "\n"))
		}
		talk(gateway, alice)

		alice.close()
		pass(time.Second)
		bob.connect()
		talk(gateway, bob)
	})
}

func TestClientsBehindOneNATAllComeUp(t *testing.T) {
	const clients = 200
	inBubble(t, 35, func(w *world) {
		gateway := w.gateway(gatewayConfig())
		nat := w.net.NAT(natAddr, simnet.NATConfig{Filtering: simnet.AddressAndPortDependent})
		all := make([]*end, clients)
		failed := make(chan error, clients)
		for i := range all {
			host := w.net.Host(clientName(i), usual, addressOf(i)).Behind(nat)
			all[i] = w.start(host, clientConfigOf(clientName(i)), false)
		}
		begin := time.Now()
		for _, c := range all {
			go func() { failed <- c.Connect(w.Context(), "") }()
		}
		for range all {
			if err := <-failed; err != nil {
				w.Error(err)
			}
		}
		if took := time.Since(begin); took > 20*time.Second {
			w.Errorf("the last one was up after %v", took)
		}
		w.apart(gateway, all)
	})
}

// apart checks that clients have SAs, engines, addresses and traffic of their own.
func (w *world) apart(gateway *end, clients []*end) {
	w.Helper()
	if n := len(gateway.Status().SAs); n != len(clients) {
		w.Fatalf("the gateway has %d SAs, want %d", n, len(clients))
	}
	addresses := map[string]bool{}
	for i, c := range clients {
		at := c.address()
		addresses[at.String()] = true
		flow{c, gateway, at, serverAddr}.send(i, 1)
		flow{gateway, c, serverAddr, at}.send(i, 1)
	}
	pass(time.Second)
	if len(addresses) != len(clients) {
		w.Errorf("%d clients have %d addresses", len(clients), len(addresses))
	}
	if n := len(gateway.take()); n != len(clients) {
		w.Errorf("%d packets of %d arrived at the gateway", n, len(clients))
	}
	for i, c := range clients {
		got := c.take()
		if len(got) != 1 || string(got[0]) != string(packet(serverAddr, c.address(), i)) {
			w.Errorf("%d packets arrived at client %d, want its own", len(got), i)
		}
	}
}

func TestClientsFromEverywhereUseEveryEngine(t *testing.T) {
	const clients = 40
	inBubble(t, 36, func(w *world) {
		gateway := w.gateway(gatewayConfig())
		all := make([]*end, clients)
		for i := range all {
			all[i] = w.start(w.net.Host(clientName(i), usual, addressOf(i)), clientConfigOf(clientName(i)), false)
			all[i].connect()
		}
		w.apart(gateway, all)
		shards := map[byte]bool{}
		for _, sa := range gateway.Status().SAs {
			shards[sa.SPIr[len(sa.SPIr)-1]&3] = true // four engines: the two low bits
		}
		if len(shards) < 2 {
			w.Errorf("%d clients are all on %d engine", clients, len(shards))
		}
		// One that comes again from elsewhere lands on any engine; its old SA goes all the same.
		for i := range 10 {
			all[i].crash()
			again := w.start(w.net.Host("again", usual, addressOf(clients+i)), clientConfigOf(clientName(i)), false)
			again.connect()
			all[i] = again
		}
		pass(time.Minute)
		for range 2 {
			w.apart(gateway, all)
		}
	})
}
