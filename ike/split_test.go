package ike

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// splitPair is a client whose child has two networks on each side, with a gateway that takes
// all of it.
func splitPair(t testing.TB) (client, gateway *Connection) {
	client, gateway = pskPair(t)
	client.Children[0].Local = selectors("10.1.0.0/16", "10.11.0.0/16")
	client.Children[0].Remote = selectors("10.2.0.0/16", "10.12.0.0/16")
	gateway.Children[0].Local, gateway.Children[0].Remote = client.Children[0].Remote, client.Children[0].Local
	return client, gateway
}

// asked opens a child's request of one host, as the other one reads it.
func asked(t testing.TB, to *host, raw []byte) (sa *message.SA, tsi, tsr []message.Selector) {
	t.Helper()
	_, enc, text, err := message.Open(slices.Clone(raw), engineOf(to).open)
	if err != nil {
		t.Fatal(err)
	}
	ps, err := message.ParsePayloads(enc.First, text)
	if err != nil {
		t.Fatal(err)
	}
	r, ok := readChildRequest(ps, false)
	if !ok {
		t.Fatal("no request for a child")
	}
	return r.sa, r.tsi, r.tsr
}

// strict makes b refuse those requests of a for a child for which no returns an error, as
// other people's gateways do.
func strict(t testing.TB, w *world, a, b *host, no func(tsi, tsr []message.Selector) message.NotifyType) {
	w.fate = func(from *host, s Send) int {
		h, err := message.ParseHeader(s.Data)
		if err != nil || from != a || h.Exchange != message.CreateChildSA || h.IsResponse() || len(b.e.sas) == 0 {
			return 1
		}
		sa, tsi, tsr := asked(t, b, s.Data)
		n := no(tsi, tsr)
		if n == 0 || sa.Proposals[0].Protocol != suite.ProtocolESP {
			return 1
		}
		sb := engineOf(b)
		sb.expectID = h.MessageID + 1
		w.post(w.delay, a, Datagram{Path: a.path(b, true), Data: craft(t, sb, message.CreateChildSA, h.MessageID, message.FlagResponse, notify(n))})
		return 0
	}
}

// refusesFirst makes a gateway refuse the child of IKE_AUTH and no other.
func refusesFirst(b *host) {
	b.admit = func(Admit) Admission {
		s := engineOf(b)
		all := s.conn.Children
		s.conn.Children = nil
		b.watch = func(x Action) {
			if r, ok := x.(Report); ok {
				if _, up := r.What.(Established); up {
					s.conn.Children, b.watch = all, nil
				}
			}
		}
		return Admission{}
	}
}

func onePair(why message.NotifyType) func(tsi, tsr []message.Selector) message.NotifyType {
	return func(tsi, tsr []message.Selector) message.NotifyType {
		if len(tsi) > 1 || len(tsr) > 1 {
			return why
		}
		return 0
	}
}

// pairsOf are the selectors of a host's children.
func pairsOf(h *host) []string {
	var out []string
	for _, c := range h.installed {
		out = append(out, fmt.Sprintf("%s %v %v", c.Name, c.Local, c.Remote))
	}
	slices.Sort(out)
	return out
}

var allPairs = []string{
	"net [10.1.0.0/16] [10.12.0.0/16]", "net [10.1.0.0/16] [10.2.0.0/16]",
	"net [10.11.0.0/16] [10.12.0.0/16]", "net [10.11.0.0/16] [10.2.0.0/16]",
}

// TestManySelectorsInOneChild: where the peer takes them.
func TestManySelectorsInOneChild(t *testing.T) {
	client, gateway := splitPair(t)
	w, a, b := up(t, client, gateway)
	w.run(time.Minute)
	agree(t, a, b, 1)
	if n := len(sentOf(a, message.CreateChildSA, false)); n != 0 {
		t.Errorf("%d further requests", n)
	}
}

// TestOnePairPeers: Cisco's ASA and MikroTik take one pair of selectors for an SA, and refuse
// what comes with others.
func TestOnePairPeers(t *testing.T) {
	for _, why := range []message.NotifyType{message.TSUnacceptable, message.SinglePairRequired} {
		client, gateway := splitPair(t)
		w, a, b := pair(t, client, gateway)
		refusesFirst(b)
		strict(t, w, a, b, onePair(why))
		a.initiate("home", b)
		w.run(time.Second)
		agree(t, a, b, 4)
		if got := pairsOf(a); !slices.Equal(got, allPairs) {
			t.Errorf("%v: %v", why, got)
		}
		if f := found[ChildFailed](a); len(f) != 0 {
			t.Errorf("%v: reports %+v", why, f)
		}
		if st := a.established()[0]; len(st.Incomplete) != 0 {
			t.Errorf("incomplete: %v", st.Incomplete)
		}
		// Rekeying keeps each as it is.
		w.run(3 * time.Hour)
		agree(t, a, b, 4)
		if got := pairsOf(a); !slices.Equal(got, allPairs) {
			t.Errorf("%v, after rekeying: %v", why, got)
		}
		a.handle(Terminate{})
		w.run(time.Hour)
		empty(t, a, b)
	}
}

// TestPeerWithPolicyOfPairs: a peer that narrows each request to its first pair gives the rest
// for further requests, in either role.
func TestPeerWithPolicyOfPairs(t *testing.T) {
	client, gateway := splitPair(t)
	gateway.Children = nil
	for _, l := range []string{"10.2.0.0/16", "10.12.0.0/16"} {
		for _, r := range []string{"10.1.0.0/16", "10.11.0.0/16"} {
			gateway.Children = append(gateway.Children, &ChildConfig{Name: l + r, OnRequest: true, Proposals: espProposals(t, "aes256gcm16"), Local: selectors(l), Remote: selectors(r)})
		}
	}
	w, a, b := pair(t, client, gateway)
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 4)
	if got := pairsOf(a); !slices.Equal(got, allPairs) {
		t.Errorf("%v", got)
	}

	// The other way around the peer opens a child for each of its policies.
	client, gateway = splitPair(t)
	client.Children = nil
	for _, l := range []string{"10.1.0.0/16", "10.11.0.0/16"} {
		for _, r := range []string{"10.2.0.0/16", "10.12.0.0/16"} {
			client.Children = append(client.Children, &ChildConfig{Name: l + r, Proposals: espProposals(t, "aes256gcm16"), Local: selectors(l), Remote: selectors(r)})
		}
	}
	w, a, b = pair(t, client, gateway)
	a.initiate("home", b)
	w.run(3 * time.Hour)
	agree(t, a, b, 4)
	for _, c := range b.installed {
		if c.Name != "net" {
			t.Errorf("as responder: child %s", c.Name)
		}
	}
}

// TestPartIsRefused: what a peer does not take is asked for a few times and no more, and told.
func TestPartIsRefused(t *testing.T) {
	client, gateway := splitPair(t)
	client.Children[0].Remote = append(client.Children[0].Remote, selectors("172.16.0.0/12")...)
	w, a, b := up(t, client, gateway)
	w.run(time.Hour / 2)
	agree(t, a, b, 1)
	if n := len(sentOf(a, message.CreateChildSA, false)); n != 3 {
		t.Errorf("%d requests, want that for the rest and one for each pair of it", n)
	}
	warned := found[Warned](a)
	if len(warned) != 1 || !strings.Contains(warned[0].Text, "172.16.0.0/12") || len(found[ChildFailed](a)) != 0 {
		t.Errorf("told: %v", warned)
	}
	if n := len(a.e.inbound); n != 1 {
		t.Errorf("%d SPIs reserved", n)
	}
}

// TestLostPartIsMissed: the peer closes one of the SAs of a child; it is told as incomplete, and
// Acquire opens just that.
func TestLostPartIsMissed(t *testing.T) {
	client, gateway := splitPair(t)
	w, a, b := pair(t, client, gateway)
	refusesFirst(b)
	strict(t, w, a, b, onePair(message.TSUnacceptable))
	a.initiate("home", b)
	w.run(time.Second)
	for id := range b.installed {
		b.handle(CloseChild{Child: id})
		break
	}
	w.run(time.Second)
	agree(t, a, b, 3)
	if st := a.established()[0]; !slices.Equal(st.Incomplete, []string{"net"}) {
		t.Errorf("incomplete: %v", st.Incomplete)
	}
	before := len(found[ChildUp](a))
	a.handle(Acquire{Connection: "home", Child: "net"})
	w.run(time.Second)
	agree(t, a, b, 4)
	if got := pairsOf(a); !slices.Equal(got, allPairs) || len(found[ChildUp](a)) != before+1 {
		t.Errorf("%v", got)
	}
	a.handle(Acquire{Connection: "home", Child: "net"})
	w.run(time.Second)
	if len(found[ChildStands](a)) != 1 {
		t.Error("what is complete is not told to stand")
	}
	agree(t, a, b, 4)
}

// TestPeerForgotOnePart: it does not know the SA that we rekey; just that one is opened again
// (RFC 7296 §2.25).
func TestPeerForgotOnePart(t *testing.T) {
	client, gateway := splitPair(t)
	w, a, b := pair(t, client, gateway)
	refusesFirst(b)
	strict(t, w, a, b, onePair(message.TSUnacceptable))
	a.initiate("home", b)
	w.run(time.Second)
	sb := engineOf(b)
	gone := sb.children[1]
	b.poke(func(s *ikeSA) { s.removeChild(gone, "forgotten") })
	for _, c := range a.installed {
		if c.SPIOut == gone.SPIIn {
			a.handle(Rekey{Child: c.ID})
			break
		}
	}
	w.run(time.Minute)
	agree(t, a, b, 4)
	if got := pairsOf(a); !slices.Equal(got, allPairs) {
		t.Errorf("%v", got)
	}
}

// TestReauthOfParts: an SA that takes another's place has all SAs of each child.
func TestReauthOfParts(t *testing.T) {
	client, gateway := splitPair(t)
	client.Reauth = time.Hour
	w, a, b := pair(t, client, gateway)
	refusesFirst(b)
	strict(t, w, a, b, onePair(message.SinglePairRequired))
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 4)
	first := a.established()[0].SA
	w.fate = nil // the SA that comes is another one at the gateway
	gateway.Children = nil
	for i, p := range allPairs {
		l, r := strings.Fields(p)[1], strings.Fields(p)[2]
		gateway.Children = append(gateway.Children, &ChildConfig{Name: fmt.Sprint(i), Proposals: espProposals(t, "aes256gcm16"), Local: selectors(strings.Trim(r, "[]")), Remote: selectors(strings.Trim(l, "[]"))})
	}
	b.admit = nil
	w.run(time.Hour + time.Minute)
	agree(t, a, b, 4)
	if got := pairsOf(a); !slices.Equal(got, allPairs) || a.established()[0].SA == first {
		t.Errorf("%v", got)
	}
}

// TestPartsUnderLoss: whatever is lost or repeated, there is one SA for each pair in the end.
func TestPartsUnderLoss(t *testing.T) {
	for seed := range uint64(60) {
		client, gateway := splitPair(t)
		gateway.Children = nil
		for i, p := range allPairs {
			f := strings.Fields(p)
			gateway.Children = append(gateway.Children, &ChildConfig{Name: fmt.Sprint(i), OnRequest: true, Proposals: espProposals(t, "aes256gcm16"), Local: selectors(strings.Trim(f[2], "[]")), Remote: selectors(strings.Trim(f[1], "[]"))})
		}
		w, a, b := pair(t, client, gateway)
		r := rand.New(rand.NewPCG(seed, 9))
		w.fate = func(*host, Send) int { return []int{0, 1, 1, 2}[r.IntN(4)] }
		a.initiate("home", b)
		w.run(time.Second)
		if seed%2 == 0 {
			a.handle(Acquire{Connection: "home", Child: "net"})
		}
		w.run(30 * time.Second)
		w.fate = nil
		w.run(time.Minute)
		if len(a.established()) != 1 {
			continue // lost more than it may
		}
		agree(t, a, b, 4)
		if got := pairsOf(a); !slices.Equal(got, allPairs) {
			t.Errorf("seed %d: %v", seed, got)
		}
	}
}

// packet is one packet of TCP of 10.1.0.7 to port 443.
func packet(remote string) Packet {
	p := Packet{Local: selectors("10.1.0.7/32")[0], Remote: selectors(remote)[0]}
	p.Local.Protocol, p.Local.StartPort, p.Local.EndPort = 6, 40000, 40000
	p.Remote.Protocol, p.Remote.StartPort, p.Remote.EndPort = 6, 443, 443
	return p
}

// TestPacketLeadsTheRequest: in IKE_AUTH and later (RFC 7296 §2.9).
func TestPacketLeadsTheRequest(t *testing.T) {
	client, gateway := withDMZ(t)
	client.Children[1].Remote = selectors("10.7.0.0/16", "10.3.0.0/16")
	client.Children = append(client.Children, &ChildConfig{Name: "late", OnRequest: true, Proposals: espProposals(t, "aes256gcm16"), Local: selectors("10.1.0.0/16"), Remote: selectors("10.3.0.0/16")})
	w, a, b := pair(t, client, gateway)
	p := packet("10.3.0.9/32")
	a.handle(Initiate{Connection: "home", Path: a.path(b, false), Encap: a.path(b, true), Child: "dmz", Packet: p})
	w.run(time.Second)
	first := sentOf(a, message.IKEAuth, false)[0]
	_, tsi, tsr := asked(t, b, first)
	if len(tsi) != 2 || tsi[0] != p.Local || len(tsr) != 3 || tsr[0] != p.Remote {
		t.Errorf("asks for %v and %v", tsi, tsr)
	}
	if got := pairsOf(a); !slices.Contains(got, "dmz [10.1.0.0/16] [10.3.0.0/16]") {
		t.Errorf("opened %v", got)
	}
	a.handle(Acquire{Connection: "home", Child: "dmz", Packet: p})
	if len(found[ChildStands](a)) != 1 {
		t.Error("a packet that a child takes opens another")
	}
	a.handle(Acquire{Connection: "home", Child: "late", Packet: p})
	w.run(time.Second)
	all := sentOf(a, message.CreateChildSA, false)
	_, tsi, tsr = asked(t, b, all[len(all)-1])
	if tsi[0] != p.Local || tsr[0] != p.Remote {
		t.Errorf("asks for %v and %v", tsi, tsr)
	}
}

// TestFirstSelectorsDecide: of two configured children that a request meets, the responder
// takes the one that has the packet's (RFC 7296 §2.9).
func TestFirstSelectorsDecide(t *testing.T) {
	client, gateway := withDMZ(t)
	client.Children[0].Remote = selectors("10.2.0.0/16", "10.3.0.0/16")
	for remote, want := range map[string]string{"10.3.0.9/32": "dmz", "10.2.0.9/32": "net"} {
		w, a, b := pair(t, client, gateway)
		a.handle(Initiate{Connection: "home", Path: a.path(b, false), Encap: a.path(b, true), Child: "net", Packet: packet(remote)})
		w.run(100 * time.Millisecond)
		if up := found[ChildUp](b); len(up) == 0 || up[0].Child.Name != want {
			t.Errorf("%s: opened %+v, want %s", remote, up, want)
		}
	}
}

// TestPeerNarrowsToThePacket: each packet that no SA takes gets one of its own, and one that
// the peer has no more for fails and leaves nothing.
func TestPeerNarrowsToThePacket(t *testing.T) {
	client, gateway := withDMZ(t)
	w, a, b := up(t, client, gateway)
	strict(t, w, a, b, func(tsi, tsr []message.Selector) message.NotifyType {
		if n := onePair(message.SinglePairRequired)(tsi, tsr); n != 0 {
			return n
		}
		if tsi[0].From != tsi[0].To || tsr[0].From != tsr[0].To {
			return message.SinglePairRequired
		}
		return 0
	})
	for i, remote := range []string{"10.3.0.1/32", "10.3.0.2/32", "10.3.0.1/32"} {
		a.handle(Acquire{Connection: "home", Child: "dmz", Packet: packet(remote)})
		w.run(time.Second)
		if want := 2 + min(i, 1); len(a.installed) != want {
			t.Fatalf("after packet %d: %v", i, pairsOf(a))
		}
	}
	agree(t, a, b, 3)

	client, gateway = withDMZ(t)
	gateway.Children[1].Local = selectors("10.3.1.0/24")
	w, a, b = up(t, client, gateway)
	for range 5 {
		a.handle(Acquire{Connection: "home", Child: "dmz", Packet: packet("10.3.9.9/32")})
		w.run(time.Second)
	}
	agree(t, a, b, 2)
	if f := found[ChildFailed](a); len(f) != 4 || f[0].Name != "dmz" || f[0].Err.Code != CodeSelectors {
		t.Errorf("reports %+v", f)
	}
	if len(a.e.inbound) != 2 || len(b.e.inbound) != 2 {
		t.Error("SPIs are left")
	}
}

// TestBothOpenTheSamePart: the nonces decide, whichever parts there are.
func TestBothOpenTheSamePart(t *testing.T) {
	client, gateway := splitPair(t)
	w, a, b := pair(t, client, gateway)
	refusesFirst(b)
	strict(t, w, a, b, onePair(message.TSUnacceptable))
	a.initiate("home", b)
	w.run(time.Second)
	w.fate = nil
	for _, c := range a.installed {
		a.handle(CloseChild{Child: c.ID})
		break
	}
	w.run(time.Second)
	agree(t, a, b, 3)
	b.poke(func(s *ikeSA) { s.setOf(s.conn.Children[0]).want, s.setOf(s.conn.Children[0]).single = 4, true })
	a.handle(Acquire{Connection: "home", Child: "net"})
	b.handle(Acquire{Connection: "rw", Child: "net"})
	w.run(time.Minute)
	agree(t, a, b, 4)
	if got := pairsOf(a); !slices.Equal(got, allPairs) {
		t.Errorf("%v", got)
	}
}

func TestSubtract(t *testing.T) {
	sel := func(s string) message.Selector { return selectors(s)[0] }
	got := subtract(sel("0.0.0.0/0"), sel("10.0.0.0/8"))
	if len(got) != 2 || got[0].To.String() != "9.255.255.255" || got[1].From.String() != "11.0.0.0" {
		t.Errorf("%v", got)
	}
	if got := subtract(sel("10.0.0.0/8"), sel("10.0.0.0/8")); got != nil {
		t.Errorf("nothing is left, got %v", got)
	}
	port := sel("10.1.0.0/16")
	port.Protocol = 6
	if got := subtract(sel("10.0.0.0/8"), port); got != nil {
		t.Errorf("no selectors are all but TCP, got %v", got)
	}
}

// TestNoSelectorsThatWeKnow: a request all of whose selectors are of kinds that we do not know
// gets an error in place of a child.
func TestNoSelectorsThatWeKnow(t *testing.T) {
	client, gateway := pskPair(t)
	_, a, b := up(t, client, gateway)
	r := &childRequest{sa: &message.SA{}}
	for _, h := range []*host{a, b} {
		if _, _, err := engineOf(h).answerChild(r); err == nil || err.Notify != message.TSUnacceptable {
			t.Errorf("answered with %v", err)
		}
	}
}

// TestPeerThatCutsToPieces: what costs much to find out is not asked for.
func TestPeerThatCutsToPieces(t *testing.T) {
	client, gateway := pskPair(t)
	client.Children[0].Local, client.Children[0].Remote = selectors("10.0.0.0/8"), selectors("0.0.0.0/0")
	gateway.Children[0].Remote = selectors("10.0.0.0/8")
	_, a, _ := up(t, client, gateway)
	s := engineOf(a)
	crumbs := func(net byte) []message.Selector {
		var out []message.Selector
		for i := range byte(250) {
			out = append(out, hostSelector(netip.AddrFrom4([4]byte{10, net, i, 2 * i})))
		}
		return out
	}
	for i := range byte(20) {
		s.children = append(s.children, &child{sa: s, cfg: s.conn.Children[0], ChildInfo: ChildInfo{Local: crumbs(i), Remote: crumbs(100 + i)}})
	}
	if left := s.leftOver(s.conn.Children[0], true); left != nil {
		t.Errorf("%d regions", len(left))
	}
	s.children = s.children[:2]
	s.children[1].Local, s.children[1].Remote = s.children[1].Local[:3], s.children[1].Remote[:3]
	if left := s.leftOver(s.conn.Children[0], true); len(left) == 0 {
		t.Error("nothing is left over of what has a few holes")
	}
}
