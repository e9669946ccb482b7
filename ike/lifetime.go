package ike

import (
	"cmp"
	"slices"
	"time"

	"martlet/crypto/suite"
)

// How long SAs live. Nothing of it is negotiated (RFC 7296 §2.8): who first finds an SA old
// replaces it, and one that nobody replaced ends at its hard limit.

// Volume is an amount of traffic in one direction; zero fields are no limit.
type Volume struct{ Bytes, Packets uint64 }

// Limits that hold where the configuration names none.
const (
	usualRekey      = 4 * time.Hour // of an IKE SA
	usualChildRekey = time.Hour
	usualPackets    = 1 << 31 // half of the sequence numbers (RFC 4303 §3.3.3)
	// What one key should encrypt with a cipher of 128-bit blocks: 2^24.5 records of
	// 2^14 octets keep an attacker's chance below 2^-60 (RFC 8446 §5.5).
	usualBytes = 1 << 38
)

// spans is the age at which an SA is replaced by us, and that at which it ends; 0 is
// never. Who opened the connection is a little early and the other side a little late, so
// that with equal configurations both seldom start at once.
func (s *ikeSA) spans(rekey, lifetime, usual time.Duration) (soft, hard time.Duration) {
	soft = max(cmp.Or(rekey, usual), 0)
	hard = max(cmp.Or(lifetime, soft+soft/10), 0)
	if s.opener {
		soft -= upTo(soft / 10)
	} else {
		soft += upTo(soft / 20)
	}
	return soft, hard
}

// upTo is a random part of d.
func upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(randomUint64() % uint64(d))
}

// backoff is the wait before try number n + 1: it doubles each time, from first to most, and
// varies by half so that two sides do not keep meeting.
func backoff(n int, first, most time.Duration) time.Duration {
	wait := first
	for i := 1; i < n && wait < most; i++ {
		wait *= 2
	}
	wait = min(wait, most)
	return wait/2 + upTo(wait)
}

// at is the time in which d has passed; never for 0.
func (s *ikeSA) at(d time.Duration) time.Time {
	if d <= 0 {
		return time.Time{}
	}
	return s.e.now.Add(d)
}

// grow sets the times of a fresh IKE SA.
func (s *ikeSA) grow() {
	soft, hard := s.spans(s.conn.Rekey, s.conn.Lifetime, usualRekey)
	s.set(dueRekey, s.at(soft))
	s.set(dueHard, s.at(hard))
}

// age sets the times of a fresh child. A Windows client ends a connection whose child is
// replaced by the gateway; it does that itself, often enough.
func (s *ikeSA) age(c *child) {
	if s.supports(extWindows) {
		c.rekeyAt, c.ends = time.Time{}, time.Time{}
	} else {
		soft, hard := s.spans(c.cfg.Rekey, c.cfg.Lifetime, usualChildRekey)
		c.rekeyAt, c.ends = s.at(soft), s.at(hard)
	}
	s.armChildren()
}

// volumes is the traffic after which a child is replaced, and that after which it ends.
func (s *ikeSA) volumes(c *child) (soft, hard Volume) {
	soft = Volume{Bytes: c.cfg.RekeyBytes, Packets: cmp.Or(c.cfg.RekeyPackets, usualPackets)}
	if soft.Bytes == 0 && c.Suite.Encr.ID != suite.EncrChaCha20Poly1305 {
		soft.Bytes = usualBytes
	}
	hard = Volume{Bytes: soft.Bytes + soft.Bytes/10, Packets: soft.Packets + soft.Packets/10}
	vary := func(n uint64) uint64 {
		if !s.opener {
			return n + randomUint64()%(n/20+1)
		}
		return n - randomUint64()%(n/10+1)
	}
	return Volume{vary(soft.Bytes), vary(soft.Packets)}, hard
}

// delayed is a task that waits for its time.
type delayed struct {
	at   time.Time
	task task
}

// later queues t in a while.
func (s *ikeSA) later(t task, wait time.Duration) {
	s.delayed = append(s.delayed, delayed{s.e.now.Add(wait), t})
	s.armChildren()
}

// armChildren sets the deadline to what is due first of all children and delayed tasks.
func (s *ikeSA) armChildren() {
	var due time.Time
	want := func(t time.Time) {
		if !t.IsZero() && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	for _, c := range s.children {
		want(c.rekeyAt)
		want(c.ends)
	}
	for _, c := range s.retired {
		want(c.ends)
	}
	for _, d := range s.delayed {
		want(d.at)
	}
	s.set(dueChildren, due)
}

// childrenDue does what is due of the children.
func (s *ikeSA) childrenDue() {
	past := func(t time.Time) bool { return !t.IsZero() && !t.After(s.e.now) }
	s.removeRetired(false)
	for _, c := range slices.Clone(s.children) {
		switch {
		case past(c.ends):
			c.rekeyAt, c.ends = time.Time{}, time.Time{}
			s.endOfLife(c)
		case past(c.rekeyAt):
			c.rekeyAt = time.Time{}
			s.rekeyChild(c, false)
		}
	}
	var now []task
	rest := s.delayed[:0]
	for _, d := range s.delayed {
		if past(d.at) {
			now = append(now, d.task)
		} else {
			rest = append(rest, d)
		}
	}
	s.delayed = rest
	for _, t := range now {
		s.enqueue(t)
	}
	s.armChildren()
}

// endOfLife deletes a child that is too old. One in whose place there is another should
// have been deleted by the peer.
func (s *ikeSA) endOfLife(c *child) {
	if c.deleting {
		return
	}
	t := &deleteChildTask{spi: c.SPIIn, child: c, superseded: true}
	if c.successor == nil {
		t.reason = "its lifetime is over and nobody replaced it"
	}
	s.enqueue(t)
}

// retryAt is when a rekey that failed n times in a row is tried again: before the SA ends,
// if that is possible.
func (s *ikeSA) retryAt(n int, busy bool, ends time.Time) time.Time {
	wait := backoff(n, failedWait, failedMost)
	if busy {
		wait = backoff(n, busyWait, busyMost)
	}
	if left := ends.Sub(s.e.now); !ends.IsZero() && wait > left/2 {
		wait = max(left/2, time.Second)
	}
	return s.e.now.Add(wait)
}
