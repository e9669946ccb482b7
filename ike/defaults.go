package ike

import (
	"cmp"
	"time"
)

// Times and bounds that are not configured.
const (
	maxRestarts      = 5               // of IKE_SA_INIT by COOKIE and INVALID_KE_PAYLOAD
	unprotectedGrace = 2 * time.Second // how long an unprotected error waits for a better answer
	reassemblyLife   = 30 * time.Second
	oneWay           = 5 * time.Second  // of sending without an answer, before the peer is checked
	hintInterval     = 10 * time.Second // between liveness checks that unauthenticated hints cause
	deleteTries      = 5                // transmissions of a request that closes an SA
	maxCAHashes      = 50               // in a CERTREQ of ours: 1,000 octets
	maxInitLen       = 8 << 10          // octets of an IKE_SA_INIT request, which a half-open SA keeps
	maxEarlyDeletes  = 64               // deletes of children that are not there yet
	maxConversations = 256              // of EAP on TLS at once
	idleConversation = 10 * time.Second // after which one of those gives way to another
	maxAddresses     = 8                // of one host, told or believed
	cookie2Len       = 16               // of a return routability check
	checkTries       = 5                // transmissions of it before the old path is tried too
	checkRounds      = 3                // of it that may go wrong
	doubtTries       = 4                // transmissions before other paths are tried
	returnTries      = 3                // transmissions of a check whether UDP passes again
	returnFirst      = time.Minute      // on a stream, before that is tried
	returnMost       = 15 * time.Minute // between tries, which are ever rarer
	streamAgain      = 2 * time.Second  // between tries to open a stream
	streamsLost      = 3                // one after the other, while an SA is being opened
	wakeTries        = 5                // transmissions of a check after a sleep
	maxChildren      = 256              // of one SA, when the peer wants another
	maxForerunners   = 4                // IKE SAs that were replaced and not deleted, when the peer replaces another
	maxSelectors     = 255              // what a TS payload holds
	nonceLen         = 32               // at least half the key length of every PRF (RFC 7296 §2.10)
)

func (r Retransmit) first() time.Duration {
	return cmp.Or(max(r.First, 0), 500*time.Millisecond)
}

func (r Retransmit) maximum() time.Duration { return cmp.Or(max(r.Max, 0), 4*time.Second) }

func (r Retransmit) factor() float64 { return cmp.Or(max(r.Factor, 0), 1.5) }

func (r Retransmit) tries() int { return cmp.Or(max(r.Tries, 0), 10) }

// longest is the time from the first transmission until the request is given up, if the jitter of
// each wait is as bad as it can be.
func (r Retransmit) longest() time.Duration {
	total, wait := time.Duration(0), r.first()
	for range r.tries() {
		total += wait
		wait = min(time.Duration(float64(wait)*r.factor()), r.maximum())
	}
	return total + total/10
}

// Share is the part of one of n engines: sources are spread evenly over them, and each has its
// own all the time.
func (h HalfOpen) Share(n int) HalfOpen {
	part := func(total int) int {
		if total < 0 {
			return total
		}
		return max(1, total/n)
	}
	h.Total, h.CookieTotal, h.PuzzleTotal = part(h.total()), part(h.cookieTotal()), part(h.puzzleTotal())
	return h
}

func (h HalfOpen) total() int          { return cmp.Or(h.Total, 10000) }
func (h HalfOpen) cookieTotal() int    { return cmp.Or(h.CookieTotal, 100) }
func (h HalfOpen) cookiePrefix() int   { return cmp.Or(h.CookiePrefix, 3) }
func (h HalfOpen) puzzleTotal() int    { return cmp.Or(h.PuzzleTotal, 5000) }
func (h HalfOpen) puzzlePrefix() int   { return cmp.Or(h.PuzzlePrefix, 500) }
func (h HalfOpen) prefix() int         { return cmp.Or(h.Prefix, 50) }
func (h HalfOpen) prefixVerified() int { return cmp.Or(h.PrefixVerified, 1000) }
func (h HalfOpen) lifetime() time.Duration {
	return cmp.Or(max(h.Lifetime, 0), 30*time.Second)
}

func (h HalfOpen) eapLifetime() time.Duration {
	return cmp.Or(max(h.EAPLifetime, 0), 3*time.Minute)
}

func (c *Connection) liveness() time.Duration  { return cmp.Or(c.Liveness, 30*time.Second) }
func (c *Connection) keepalive() time.Duration { return cmp.Or(c.Keepalive, 20*time.Second) }

// maxDatagram is the largest IKE message on path p in octets; 0 is unlimited.
func (c *Connection) maxDatagram(p Path) int {
	size := c.FragmentSize
	switch {
	case size < 0, p.Stream: // RFC 9329 §7.5
		return 0
	case size == 0 && p.Remote.Addr().Unmap().Is4():
		size = 1252
	case size == 0:
		size = 1232
	}
	if p.Encap {
		size -= 4 // the non-ESP marker
	}
	return max(size, 1)
}
