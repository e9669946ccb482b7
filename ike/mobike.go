package ike

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"slices"

	"martlet/ike/message"
)

// MOBIKE: what is announced (RFC 4555 §3.1), and the side that is told of moves (§3.5).

// announceMOBIKE is what both sides add to IKE_AUTH. Only a responder lists its further
// addresses: what an initiator has at home is nobody's business, and it says where
// it is.
func (s *ikeSA) announceMOBIKE() []message.Payload {
	ps := []message.Payload{notify(message.MOBIKESupported)}
	if !s.opener {
		s.told = s.furtherAddresses()
		ps = append(ps, additionalAddresses(s.told)...)
	}
	return ps
}

// furtherAddresses are those of this host on which the peer could reach us too. What is
// private is of use only to a peer that came to a private address by itself.
func (s *ikeSA) furtherAddresses() []netip.Addr {
	local := s.path.Local.Addr().Unmap()
	private := local.IsPrivate() && !s.is(condNATHere)
	var out []netip.Addr
	for _, a := range s.e.addresses {
		if a != local && (private || !a.IsPrivate()) && len(out) < maxAddresses {
			out = append(out, a)
		}
	}
	return out
}

// has tells whether an address is one of this host's, as far as we were told.
func (e *Engine) has(a netip.Addr) bool {
	return len(e.addresses) == 0 || slices.Contains(e.addresses, a.Unmap())
}

// additionalAddresses lists addresses (RFC 4555 §4.2.2).
func additionalAddresses(addrs []netip.Addr) []message.Payload {
	var ps []message.Payload
	for _, a := range addrs {
		kind := message.AdditionalIP6Address
		if a.Is4() {
			kind = message.AdditionalIP4Address
		}
		ps = append(ps, notifyData(kind, a.AsSlice()))
	}
	return ps
}

// readAddresses finds the addresses that the peer lists, and whether it says anything
// about them at all.
func readAddresses(ps []message.Payload) (addrs []netip.Addr, said bool) {
	for _, p := range ps {
		n, ok := p.(*message.Notify)
		if !ok {
			continue
		}
		size := 4
		switch n.Notify {
		case message.NoAdditionalAddresses:
			said = true
			continue
		case message.AdditionalIP4Address:
		case message.AdditionalIP6Address:
			size = 16
		default:
			continue
		}
		said = true
		a, ok := netip.AddrFromSlice(n.Data)
		if ok && len(n.Data) == size && reachableAddr(a.Unmap()) && len(addrs) < maxAddresses {
			addrs = append(addrs, a.Unmap())
		}
	}
	return addrs, said
}

// reachableAddr tells whether an address can be another host's.
func reachableAddr(a netip.Addr) bool {
	return a.IsGlobalUnicast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// learnAddresses takes what the gateway's IKE_AUTH says of its addresses.
func (s *ikeSA) learnAddresses(ps []message.Payload) {
	if addrs, said := readAddresses(ps); said {
		s.remotes = append([]netip.Addr{s.path.Remote.Addr()}, addrs...)
	}
}

// tellAddresses tells a mover on which addresses it can reach us now, if they are others
// (RFC 4555 §3.6). Where our own end of the path is gone another address takes its place:
// the peer finds that the list lacks the old one, and moves.
func (s *ikeSA) tellAddresses() {
	if !s.mobike() || s.opener || len(s.e.addresses) == 0 {
		return
	}
	if local := s.path.Local.Addr().Unmap(); !s.path.Stream && !s.e.has(local) {
		i := slices.IndexFunc(s.e.addresses, func(a netip.Addr) bool { return a.Is4() == local.Is4() })
		if i < 0 {
			return
		}
		s.path.Local = netip.AddrPortFrom(s.e.addresses[i], s.path.Local.Port())
		s.hasten()
	}
	if s.path == s.espPath && slices.Equal(s.furtherAddresses(), s.told) {
		return
	}
	if !slices.ContainsFunc(s.queue, func(t task) bool { _, ok := t.(*addressesTask); return ok }) {
		s.enqueue(&addressesTask{})
	}
}

// addressesTask lists our further addresses.
type addressesTask struct{}

func (*addressesTask) priority() priority { return prioMOBIKE }

func (*addressesTask) start(s *ikeSA) {
	s.told = s.furtherAddresses()
	ps := additionalAddresses(s.told)
	if len(ps) == 0 {
		ps = []message.Payload{notify(message.NoAdditionalAddresses)}
	}
	s.request(message.Informational, ps...)
}

func (*addressesTask) response(s *ikeSA, _ []message.Payload) { s.done() }

func (*addressesTask) expired(s *ikeSA) { s.peerDead() }

// mobikeRequest takes the parts of an INFORMATIONAL request that are about addresses, and
// returns what the answer must have besides.
func (s *ikeSA) mobikeRequest(ps []message.Payload) []message.Payload {
	if !s.mobike() || s.state != stateEstablished {
		return nil
	}
	var answer []message.Payload
	p := s.serving.path
	if message.FindNotify(ps, message.UpdateSAAddresses) != nil && !s.opener {
		if n := s.objection(ps, p); n != 0 {
			return []message.Payload{notify(n)}
		}
		s.updateAddresses(ps, p)
	}
	if addrs, said := readAddresses(ps); said && s.opener {
		s.remotes = append([]netip.Addr{p.Remote.Addr()}, addrs...)
		if !slices.Contains(s.remotes, s.path.Remote.Addr()) {
			s.seek(false)
		}
	}
	if message.FindNotify(ps, message.NATDetectionSourceIP) != nil {
		answer = append(answer, natDetection(s.spii, s.spir, p)...)
	}
	if n := message.FindNotify(ps, message.Cookie2); n != nil {
		answer = append(answer, notifyData(message.Cookie2, n.Data))
	}
	return answer
}

// objection is why the peer may not be at the other end of p, 0 if it may.
func (s *ikeSA) objection(ps []message.Payload, p Path) message.NotifyType {
	switch n := message.FindNotify(ps, message.NoNATsAllowed); {
	case n != nil && !bytes.Equal(n.Data, bothEnds(p)):
		return message.UnexpectedNATDetected
	case !p.Encap, !s.conn.mayComeFrom(p.Remote.Addr()): // no ESP goes where there is no encapsulation
		return message.UnacceptableAddresses
	}
	return 0
}

// mayComeFrom tells whether a peer may be at an address.
func (c *Connection) mayComeFrom(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return len(c.From) == 0 || slices.ContainsFunc(c.From, func(f netip.Prefix) bool { return f.Contains(a) })
}

// bothEnds is the data of NO_NATS_ALLOWED that came by p (RFC 4555 §4.2.6): source and
// destination address, source and destination port.
func bothEnds(p Path) []byte {
	b := append(p.Remote.Addr().Unmap().AsSlice(), p.Local.Addr().Unmap().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, p.Remote.Port())
	return binary.BigEndian.AppendUint16(b, p.Local.Port())
}

// updateAddresses goes where the peer says that it is. IKE does so at once, so that it can
// be asked there; packets follow when it has answered.
func (s *ikeSA) updateAddresses(ps []message.Payload, p Path) {
	if conds, ok := detectNAT(ps, s.spii, s.spir, p); ok {
		s.setConditions(conds)
	}
	s.refuted = Path{}
	if p != s.path {
		s.path = p
		s.hasten()
	}
	s.wantCheck()
}

// wantCheck makes the peer show that it is where it says, unless that is about to happen.
func (s *ikeSA) wantCheck() {
	if s.path == s.espPath ||
		slices.ContainsFunc(s.queue, func(t task) bool { _, ok := t.(*routabilityTask); return ok }) {
		return
	}
	s.enqueue(&routabilityTask{})
}

// routabilityTask sends a cookie that only who is at the other end of the path can
// return (RFC 4555 §3.7). Until then no packet goes there.
type routabilityTask struct {
	path   Path
	cookie []byte
	rounds int // that have told nothing
}

func (*routabilityTask) priority() priority { return prioMOBIKE }

func (t *routabilityTask) start(s *ikeSA) {
	if s.path == s.espPath {
		s.done()
		return
	}
	t.path, t.cookie = s.path, make([]byte, cookie2Len)
	rand.Read(t.cookie)
	s.request(message.Informational, notifyData(message.Cookie2, t.cookie))
}

func (*routabilityTask) expired(s *ikeSA) { s.peerDead() }

func (t *routabilityTask) response(s *ikeSA, ps []message.Payload) {
	n := message.FindNotify(ps, message.Cookie2)
	switch {
	case s.path == s.espPath:
	case n == nil || !bytes.Equal(n.Data, t.cookie):
		s.e.report(Warned{SA: s.id(), Connection: s.conn.Name, Path: s.path, Text: "the peer says that it moved and does not return COOKIE2; its packets go on to " + s.espPath.Remote.String()})
	case s.path == t.path && s.answer.path == t.path && !s.strayed(t.path):
		s.moveTraffic()
	case s.path != t.path:
		s.wantCheck()
	case t.rounds < checkRounds:
		// A copy of the request went the old way, so that anybody between could have
		// sent the answer on: only a fresh cookie tells.
		s.enqueue(&routabilityTask{rounds: t.rounds + 1})
	default:
		s.path, s.refuted = s.espPath, t.path
		s.e.report(Warned{SA: s.id(), Connection: s.conn.Name, Path: t.path, Text: "the peer says that it moved and does not answer there; its packets go on to " + s.espPath.Remote.String()})
	}
	s.done()
}
