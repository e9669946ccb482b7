package ike

import (
	"slices"
	"time"
)

// reloadGrace is how long a peer that opened an SA has to open another one, after what we
// demand of it changed.
const reloadGrace = time.Minute

// reload puts other connections in force.
func (e *Engine) reload(ev Reload) {
	cfg := *e.cfg
	cfg.Connections = ev.Connections
	e.cfg = &cfg
	for name, t := range e.tickets {
		switch next := e.connection(name); {
		case next == nil, slices.Contains(ev.Changed, name), slices.Contains(ev.Moved, name):
			delete(e.tickets, name)
		default:
			t.conn = next
		}
	}
	e.all(func(s *ikeSA) {
		if s.conn == nil || s.state == stateClosed {
			return
		}
		e.enter("reload", s)
		next := e.connection(s.conn.Name)
		switch {
		case next == nil:
			s.terminate("its connection is not configured any more")
		case slices.Contains(ev.Changed, next.Name):
			s.outdated(true)
		case slices.Contains(ev.Moved, next.Name):
			s.outdated(false)
		default:
			s.reconfigure(next)
		}
	})
}

// outdated has an SA replaced of which what was negotiated is not what is wanted any more; here
// tells that its peer is where it was.
func (s *ikeSA) outdated(here bool) {
	switch {
	case s.state == stateConnecting:
		s.terminate("the configuration changed meanwhile")
	case s.state != stateEstablished:
	case !s.opener:
		s.limit(reloadGrace)
	case here:
		s.reauthenticate()
	}
}

// reconfigure makes an SA go by a new version of its connection, in which what was
// negotiated is the same. A responder before AUTH may still find that it belongs to another.
func (s *ikeSA) reconfigure(next *Connection) {
	s.conn = next
	s.candidates = slices.DeleteFunc(s.candidates, func(c *Connection) bool { return s.e.connection(c.Name) == nil })
	for i, c := range s.candidates {
		s.candidates[i] = s.e.connection(c.Name)
	}
	relink := func(cfg **ChildConfig) {
		if now := s.configOf((*cfg).Name); now != nil {
			*cfg = now
		}
	}
	for _, c := range slices.Concat(s.children, s.retired) {
		relink(&c.cfg)
	}
	for _, t := range append(slices.Clone(s.queue), s.active) {
		if t, ok := t.(*createTask); ok {
			relink(&t.cfg)
			if t.offer != nil {
				relink(&t.offer.cfg)
			}
		}
	}
	for _, d := range s.delayed {
		if t, ok := d.task.(*createTask); ok {
			relink(&t.cfg)
		}
	}
}
