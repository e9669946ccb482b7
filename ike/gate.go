package ike

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"

	"martlet/ike/message"
)

// gate is the door of the responder: it decides about an IKE_SA_INIT before any state
// and any Diffie-Hellman (RFC 7296 §2.6).
type gate struct {
	cfg      HalfOpen
	total    int
	prefixes map[netip.Prefix]int
	busyTill time.Time // cookies stay on for a while after the load has gone

	secrets [2][sha256.Size]byte // newest first
	version uint32
	renewAt time.Time

	answers   float64 // tokens for errors that we send to strangers
	refilled  time.Time
	refilling bool
}

// ticket is the place that a half-open SA takes.
type ticket struct {
	prefix netip.Prefix
	held   bool
}

const (
	cookieLen     = 4 + 8 + sha256.Size // version of the secret, time, MAC
	cookieLife    = 10 * time.Second
	secretLife    = 2 * time.Minute
	cookiesStayOn = 10 * time.Second
	answersPerSec = 100
	answersBurst  = 200
)

func (g *gate) init(cfg HalfOpen) {
	g.cfg = cfg
	g.prefixes = map[netip.Prefix]int{}
}

// sourcePrefix is what counts as one source: an IPv4 address or an IPv6 /64.
func sourcePrefix(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}

// verdict is what the gate says about a request.
type verdict uint8

const (
	pass     verdict = iota
	demand           // send a cookie and forget the request
	badProof         // the same, but there was a cookie that is not good any more
	full
)

// judge decides about a request from remote that brought cookie, or nil.
func (g *gate) judge(now time.Time, remote netip.Addr, spii message.SPI, ni, cookie []byte) verdict {
	prefix := sourcePrefix(remote)
	n := g.prefixes[prefix]
	if g.total >= g.cfg.total() || n >= max(g.cfg.prefix(), g.cfg.prefixVerified()) {
		return full
	}
	if g.total >= g.cfg.cookieTotal() {
		g.busyTill = now.Add(cookiesStayOn)
	}
	load := now.Before(g.busyTill) || n >= g.cfg.cookiePrefix()
	verified := cookie != nil && g.verify(now, remote, spii, ni, cookie)
	switch {
	case verified && n >= g.cfg.prefixVerified(), !verified && !load && n >= g.cfg.prefix():
		return full
	case verified || !load:
		return pass
	case cookie != nil:
		return badProof
	}
	return demand
}

// take counts a half-open SA; release gives its place back, once.
func (g *gate) take(remote netip.Addr) ticket {
	t := ticket{prefix: sourcePrefix(remote), held: true}
	g.total++
	g.prefixes[t.prefix]++
	return t
}

func (g *gate) release(t *ticket) {
	if !t.held {
		return
	}
	t.held = false
	g.total--
	if g.prefixes[t.prefix]--; g.prefixes[t.prefix] == 0 {
		delete(g.prefixes, t.prefix)
	}
}

// cookie makes the proof that a source can receive: no state is kept for it.
func (g *gate) cookie(now time.Time, remote netip.Addr, spii message.SPI, ni []byte) []byte {
	g.renew(now)
	b := binary.BigEndian.AppendUint32(make([]byte, 0, cookieLen), g.version)
	b = binary.BigEndian.AppendUint64(b, uint64(now.Unix()))
	return append(b, g.mac(0, b, remote, spii, ni)...)
}

func (g *gate) verify(now time.Time, remote netip.Addr, spii message.SPI, ni, cookie []byte) bool {
	g.renew(now)
	if len(cookie) != cookieLen {
		return false
	}
	head, mac := cookie[:12], cookie[12:]
	age := g.version - binary.BigEndian.Uint32(head)
	if age >= uint32(len(g.secrets)) || age >= g.version {
		return false
	}
	made := time.Unix(int64(binary.BigEndian.Uint64(head[4:])), 0)
	if made.After(now) || now.Sub(made) > cookieLife+time.Second {
		return false
	}
	return hmac.Equal(mac, g.mac(int(age), head, remote, spii, ni))
}

func (g *gate) mac(age int, head []byte, remote netip.Addr, spii message.SPI, ni []byte) []byte {
	h := hmac.New(sha256.New, g.secrets[age][:])
	h.Write(head)
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(spii)))
	addr := remote.Unmap().As16()
	h.Write(addr[:])
	h.Write(ni)
	return h.Sum(nil)
}

// renew changes the secret now and then; the one before stays good for what is on its
// way.
func (g *gate) renew(now time.Time) {
	if g.version != 0 && now.Before(g.renewAt) {
		return
	}
	g.secrets[1] = g.secrets[0]
	rand.Read(g.secrets[0][:])
	g.version++
	g.renewAt = now.Add(secretLife)
}

// mayAnswer limits how many errors go to strangers.
func (g *gate) mayAnswer(now time.Time) bool {
	if !g.refilling {
		g.refilling, g.answers, g.refilled = true, answersBurst, now
	}
	g.answers = min(answersBurst, g.answers+now.Sub(g.refilled).Seconds()*answersPerSec)
	g.refilled = now
	if g.answers < 1 {
		return false
	}
	g.answers--
	return true
}
