package ike

import (
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// KeyLogEntry is what Wireshark needs to decrypt an IKE SA or a child SA; Child is
// nil for an IKE SA.
type KeyLogEntry struct {
	// Connection is empty while the peer of a responder has not said whom it wants.
	Connection string
	SPIi, SPIr message.SPI
	Suite      suite.Suite
	SKei, SKer suite.Secret
	SKai, SKar suite.Secret
	Child      *Child
}

// Keys calls f with the secrets of each SA that stands or is being set up, as Config.KeyLog was
// with those that came since it was set.
func (e *Engine) Keys(f func(KeyLogEntry)) {
	e.all(func(s *ikeSA) {
		if len(s.keys.Ei) == 0 {
			return
		}
		f(s.keyLogEntry())
		for _, c := range s.children {
			f(c.keyLogEntry())
		}
	})
}

func (s *ikeSA) keyLogEntry() KeyLogEntry {
	e := KeyLogEntry{
		SPIi: s.spii, SPIr: s.spir, Suite: s.suite,
		SKei: s.keys.Ei, SKer: s.keys.Er, SKai: s.keys.Ai, SKar: s.keys.Ar,
	}
	if s.conn != nil && len(s.candidates) == 0 {
		e.Connection = s.conn.Name
	}
	return e
}

func (c *child) keyLogEntry() KeyLogEntry {
	return KeyLogEntry{
		Connection: c.Connection, SPIi: c.sa.spii, SPIr: c.sa.spir, Suite: c.Suite,
		Child: &Child{ChildInfo: c.ChildInfo, In: c.in, Out: c.out},
	}
}

// logKeys tells the key log of the SA's own keys.
func (s *ikeSA) logKeys() {
	if log := s.e.cfg.KeyLog; log != nil {
		log(s.keyLogEntry())
	}
}

// logKeys tells it of those of a child, on the path that it has now.
func (c *child) logKeys() {
	if log := c.sa.e.cfg.KeyLog; log != nil {
		log(c.keyLogEntry())
	}
}
