package ike

import "martlet/ike/message"

// The notifies of IKE_AUTH that announce or impose something: what goes out and what is
// read of them stands here, for all extensions. An exchange has as many rounds as
// the methods take (RFC 7296 §2.16, RFC 4739).

// authOffers is what an initiator adds to its first IKE_AUTH request.
func (s *ikeSA) authOffers() []message.Payload {
	ps := s.ticketRequest()
	if s.saidMethods {
		ps = append(ps, announceMethods([]*Connection{s.conn})...)
	}
	if s.conn.Local.Next != nil {
		ps = append(ps, notify(message.MultipleAuthSupported))
	}
	if s.conn.EAPOnly && s.conn.Local.Method == AuthEAP {
		ps = append(ps, notify(message.EAPOnlyAuthentication))
	}
	if !s.conn.NoMOBIKE {
		ps = append(ps, s.announceMOBIKE()...)
	}
	return ps
}

// readAuthOffers notes, on the responder, what the first request says.
func (s *ikeSA) readAuthOffers(ps []message.Payload) {
	for _, p := range ps {
		n, ok := p.(*message.Notify)
		if !ok {
			continue
		}
		switch n.Notify {
		case message.MOBIKESupported:
			s.exts |= extMOBIKE
		case message.EAPOnlyAuthentication:
			s.exts |= extEAPOnly
		case message.SupportedAuthMethods:
			s.readMethods(n)
		case message.TicketRequest:
			s.wantsTicket = true
		case message.MultipleAuthSupported:
			s.exts |= extMultipleAuth
		}
	}
}

// authAnswers is what a responder adds to an answer that has no error. The first
// answer has our IDr; the last one opens the SA; with one round it is the same.
func (s *ikeSA) authAnswers(_, last bool) []message.Payload {
	var ps []message.Payload
	if last {
		ps = append(ps, s.announceLifetime()...)
	}
	if s.ppk.unsaid {
		s.ppk.unsaid = false
		ps = append(ps, notify(message.PPKIdentity))
	}
	if last && s.mobike() {
		ps = append(ps, s.announceMOBIKE()...)
	}
	if last {
		ps = append(ps, s.ticketAnswer()...)
		ps = append(ps, s.e.crashToken(s.own(), s.initiator)...)
	}
	return ps
}

// readAuthAnswers notes, on the initiator, what an answer says. The peer's AUTH was
// verified before the last answer is read, but not always before the first.
func (s *ikeSA) readAuthAnswers(ps []message.Payload, _, last bool) {
	if last {
		s.authLifetime, _ = readLifetime(ps)
		s.takeCrashToken(ps)
		s.takeTicket(ps)
	}
	if last && message.FindNotify(ps, message.MOBIKESupported) != nil {
		s.exts |= extMOBIKE
		s.learnAddresses(ps)
	}
}
