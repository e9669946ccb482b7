package eap

import "slices"

// What goes on inside TTLS and PEAP is a conversation of its own, without further tunnels.

// insideOnly tells whether a type means something without EAP inside TTLS.
func (t Type) insideOnly() bool { return t == TypePAP || t == TypePlainMSCHAPv2 }

// ableInside tells whether we can do the method inside a tunnel.
func (p *Peer) ableInside(tunnel, t Type) bool {
	if t.insideOnly() {
		return tunnel == TypeTTLS && len(p.config.Password) > 0
	}
	return !t.tunnels() && p.able(t)
}

// innerPeer is the client's conversation inside a tunnel.
func (p *Peer) innerPeer(tunnel Type) *Peer {
	config := p.config
	config.Identity = config.Username
	config.Methods = slices.DeleteFunc(slices.Clone(config.Inner), func(t Type) bool { return t.insideOnly() || !p.ableInside(tunnel, t) })
	return &Peer{config: config}
}

// complete tells whether EAP-Success may come.
func (p *Peer) complete() bool {
	return p.succeeded() || p.end == nil && p.method != nil && p.method.complete()
}

// why is what is known about a failure to come, or nil.
func (p *Peer) why() *Error {
	if p.method == nil {
		return nil
	}
	return p.method.failure()
}

// innerServer is the server's conversation inside a tunnel; identity, where it is not
// empty, was said already.
func (s *Server) innerServer(identity string) *Server {
	config := s.config
	config.Methods = slices.DeleteFunc(slices.Clone(config.Inner), func(t Type) bool { return t.insideOnly() || t.tunnels() })
	config.SkipIdentity = identity
	return NewServer(config)
}
