package ike

// acquire opens a child on demand. Of the SAs of a connection, the newest whose peer a packet is for gets it.
func (e *Engine) acquire(ev Acquire) {
	var found *ikeSA
	best := false
	e.all(func(s *ikeSA) {
		if s.conn == nil || s.conn.Name != ev.Connection || s.state != stateEstablished {
			return
		}
		cfg := s.configOf(ev.Child)
		fits := cfg != nil && !ev.Packet.isZero() && ev.Packet.in(s.localSelectors(cfg), s.remoteSelectors(cfg))
		if fits || !best {
			found, best = s, fits
		}
	})
	if found == nil {
		e.report(Warned{Connection: ev.Connection, Text: "child " + ev.Child + " is wanted, but its connection is not established"})
		return
	}
	e.enter("acquire", found)
	cfg := found.configOf(ev.Child)
	if cfg == nil {
		e.report(Warned{SA: found.id(), Connection: ev.Connection, Text: "child " + ev.Child + " is wanted, but not configured"})
		return
	}
	if found.queued(func(t task) bool {
		c, ok := t.(*createTask)
		return ok && c.cfg.Name == cfg.Name && c.old == nil && c.fixed == nil && c.packet == ev.Packet && !c.further
	}) {
		return
	}
	t := &createTask{cfg: cfg, packet: ev.Packet}
	if t.needless(found) {
		e.report(ChildStands{SA: found.id(), Connection: found.conn.Name, Name: cfg.Name})
		return
	}
	found.enqueue(t)
}
