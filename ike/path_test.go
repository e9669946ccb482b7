package ike

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/ike/message"
)

// TestNAT: each side behind a real NAT knows it, and the other side does.
func TestNAT(t *testing.T) {
	for _, c := range []struct {
		name            string
		behind          func(w *world, a, b *host)
		client, gateway []string
	}{
		{"client", func(w *world, a, _ *host) { masquerade(w, a, "203.0.113.7", 20000) }, []string{"nat-here"}, []string{"nat-there"}},
		{"gateway", func(w *world, _, b *host) { masquerade(w, b, "203.0.113.8", 0) }, []string{"nat-there"}, []string{"nat-here"}},
		{"both", func(w *world, a, b *host) {
			masquerade(w, a, "203.0.113.7", 20000)
			masquerade(w, b, "203.0.113.8", 0)
		}, []string{"nat-here", "nat-there"}, []string{"nat-here", "nat-there"}},
		{"none", func(*world, *host, *host) {}, []string{"encap-forced"}, []string{"encap-forced"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, gateway := pskPair(t)
			w, a, b := pair(t, client, gateway)
			c.behind(w, a, b)
			to := b.addr
			if outside, ok := w.nat[netip.AddrPortFrom(b.addr, 500)]; ok {
				to = outside.Addr()
			}
			local := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(a.addr, port) }
			a.handle(Initiate{
				Connection: "home",
				Path:       Path{Local: local(500), Remote: netip.AddrPortFrom(to, 500)},
				Encap:      Path{Local: local(4500), Remote: netip.AddrPortFrom(to, 4500), Encap: true},
			})
			w.run(time.Second)
			agree(t, a, b, 1)
			if got := a.established()[0].Conditions; !slices.Equal(got, c.client) {
				t.Errorf("client: %v, want %v", got, c.client)
			}
			if got := b.established()[0].Conditions; !slices.Equal(got, c.gateway) {
				t.Errorf("gateway: %v, want %v", got, c.gateway)
			}
			if p := b.established()[0].Path; p != b.onlyChild().Path || p.Remote.Port() == 500 || !p.Encap {
				t.Errorf("gateway's path %v, the child's %v", p, b.onlyChild().Path)
			}
		})
	}
}

// masquerade puts both ports of h behind another address; shift changes the ports.
func masquerade(w *world, h *host, outside string, shift uint16) {
	for _, port := range []uint16{500, 4500} {
		w.nat[netip.AddrPortFrom(h.addr, port)] = netip.AddrPortFrom(netip.MustParseAddr(outside), port+shift)
	}
}

// TestEncapFromTheStart: an Initiate with an encapsulating path stays on it.
func TestEncapFromTheStart(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := pair(t, client, gateway)
	a.handle(Initiate{Connection: "home", Path: a.path(b, true)})
	w.run(time.Second)
	agree(t, a, b, 1)
	for _, s := range a.sent {
		if !s.Path.Encap {
			t.Errorf("sent on %v", s.Path)
		}
	}
}

func TestKeepalive(t *testing.T) {
	client, gateway := pskPair(t)
	client.Liveness, gateway.Liveness = -1, -1
	w, a, b := pair(t, client, gateway)
	masquerade(w, a, "203.0.113.7", 20000)
	a.initiate("home", b)
	w.run(time.Second)
	keepalives := func(h *host) (n int) {
		for _, s := range h.sent {
			if s.Keepalive {
				n++
			}
		}
		return n
	}
	w.run(100 * time.Second)
	if n := keepalives(a); n < 4 || n > 5 {
		t.Errorf("%d keepalives in 100 s, want one each 20 s", n)
	}
	if n := keepalives(b); n != 0 {
		t.Errorf("the gateway, not behind a NAT, sent %d", n)
	}
	// ESP keeps the mapping.
	a.sent = nil
	a.usage = func(Usage) UsageReply { return UsageReply{Heard: 0, Sent: int64(time.Second)} }
	w.run(100 * time.Second)
	if n := keepalives(a); n != 0 {
		t.Errorf("%d keepalives while ESP was sent", n)
	}
}

// TestRebinding: a NAT changes the client's port. The gateway follows the next
// authentic message, and nothing else (security.md row 64).
func TestRebinding(t *testing.T) {
	client, gateway := pskPair(t)
	client.Liveness, gateway.Liveness = 10*time.Second, -1
	w, a, b := pair(t, client, gateway)
	masquerade(w, a, "203.0.113.7", 20000)
	a.initiate("home", b)
	w.run(time.Second)
	before := b.onlyChild().Path
	stale := sentOf(a, message.IKEAuth, false)[0]
	moved := Path{Local: before.Local, Remote: netip.MustParseAddrPort("203.0.113.66:6666"), Encap: true}
	b.deliverOn(moved, stale) // a replay
	forged := slices.Clone(stale)
	forged[len(forged)-1] ^= 1
	b.deliverOn(moved, forged)
	if p := b.onlyChild().Path; p != before || engineOf(b).path != before {
		t.Fatalf("moved to %v by a replay or a forgery", p)
	}
	w.nat[netip.AddrPortFrom(a.addr, 4500)] = netip.MustParseAddrPort("203.0.113.7:33333")
	w.run(15 * time.Second) // the client's liveness check
	if p := b.onlyChild().Path; p.Remote.Port() != 33333 {
		t.Errorf("path %v, want the new port", p)
	}
	if st := b.established()[0]; st.Path.Remote.Port() != 33333 {
		t.Errorf("SA's path %v", st.Path)
	}
}

// TestNoRebindingWithoutNAT: a peer that is not behind a NAT does not move.
func TestNoRebindingWithoutNAT(t *testing.T) {
	client, gateway := pskPair(t)
	_, a, b := up(t, client, gateway)
	before := b.onlyChild().Path
	elsewhere := Path{Local: before.Local, Remote: netip.MustParseAddrPort("203.0.113.66:6666"), Encap: true}
	b.sent = nil
	sa := engineOf(a)
	b.deliverOn(elsewhere, craft(t, sa, message.Informational, sa.nextID, 0))
	if len(b.sent) != 1 || b.sent[0].Path != elsewhere {
		t.Error("the answer did not go where the request came from")
	}
	if b.onlyChild().Path != before || engineOf(b).path != before {
		t.Error("moved")
	}
}

func TestFragments(t *testing.T) {
	for _, size := range []int{100, 300, 576, 0} {
		client, gateway := certPair(t, pki.RSA2048, pki.RSA2048)
		client.FragmentSize, gateway.FragmentSize = size, size
		w, a, b := pair(t, client, gateway)
		a.initiate("home", b)
		w.run(time.Second)
		agree(t, a, b, 1)
		limit := size
		if size == 0 {
			limit = 1252
		}
		most := 0
		for _, s := range slices.Concat(a.sent, b.sent) {
			if m, err := message.ParseHeader(s.Data); err == nil && m.Exchange == message.IKEAuth {
				most = max(most, len(s.Data)+4)
			}
		}
		// Below 200 octets the least fragment wins.
		if most > max(limit, 200) {
			t.Errorf("size %d: a message of %d octets", size, most)
		}
		if n := len(sentOf(a, message.IKEAuth, false)); size > 0 && n < 3 {
			t.Errorf("size %d: %d fragments", size, n)
		}
	}
}

// TestFragmentsOff: neither announced nor used, and the other side gets one datagram.
func TestFragmentsOff(t *testing.T) {
	client, gateway := certPair(t, pki.RSA2048, pki.RSA2048)
	client.FragmentSize = -1
	w, a, b := pair(t, client, gateway)
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 1)
	if len(sentOf(a, message.IKEAuth, false)) != 1 || len(sentOf(b, message.IKEAuth, true)) != 1 {
		t.Error("fragments were sent")
	}
}

// TestFragmentsLost: every fragment is lost once, each in its turn, and repeated; the
// answer is sent once for a repeated request, not once for each fragment.
func TestFragmentsLost(t *testing.T) {
	client, gateway := certPair(t, pki.RSA2048, pki.RSA2048)
	client.FragmentSize, gateway.FragmentSize = 400, 400
	w, a, b := pair(t, client, gateway)
	seen := map[string]bool{}
	w.fate = func(_ *host, s Send) int {
		if !seen[string(s.Data)] {
			seen[string(s.Data)] = true
			return 0
		}
		return 1
	}
	a.initiate("home", b)
	w.run(10 * time.Second)
	agree(t, a, b, 1)
	// The request, all of its fragments, once more: one answer.
	b.sent = nil
	for _, f := range sentOf(a, message.IKEAuth, false)[:3] {
		b.deliver(a, f)
	}
	fragments := len(engineOf(b).reply)
	if len(b.sent) != fragments {
		t.Errorf("%d datagrams sent for a repeated request, want %d", len(b.sent), fragments)
	}
}

// TestReassemblyForgotten: incomplete fragments do not stay longer than 30 s.
func TestReassemblyForgotten(t *testing.T) {
	client, gateway := certPair(t, pki.RSA2048, pki.RSA2048)
	client.Liveness, gateway.Liveness = -1, -1
	w, a, b := up(t, client, gateway)
	sa, sb := engineOf(a), engineOf(b)
	grams := message.Seal(sa.header(message.Informational, sa.nextID, 0), []message.Payload{&message.VendorID{Data: make([]byte, 2000)}}, sa.seal, sa.nextIV, 500)
	b.deliver(a, grams[0])
	if _, pending := sb.requests.Pending(); !pending {
		t.Fatal("no reassembly")
	}
	w.run(31 * time.Second)
	if _, pending := sb.requests.Pending(); pending {
		t.Error("the fragment is still kept")
	}
	for _, g := range grams {
		b.deliver(a, g)
	}
	if sb.expectID != sa.nextID+1 {
		t.Error("the message was not taken when it came whole")
	}
}
