package ike

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"martlet/ike/message"
)

// A cookie is the version of the secret, the time, the puzzle that goes with it, and a MAC
// over all that and the request (RFC 7296 §2.6, RFC 8019 §7.1.1): no state is kept for it.
const (
	cookieHead = 4 + 8 + 3
	cookieLen  = cookieHead + sha256.Size
	cookieLife = 10 * time.Second
	secretLife = 2 * time.Minute
)

// cookie makes the proof that a source can receive.
func (g *gate) cookie(now time.Time, v *visitor, p message.Puzzle) []byte {
	g.renew(now)
	b := binary.BigEndian.AppendUint32(make([]byte, 0, cookieLen), g.version)
	b = binary.BigEndian.AppendUint64(b, uint64(now.Unix()))
	b = p.Append(b)
	return append(b, g.mac(0, b, v)...)
}

// verify tells whether a visitor brought a good cookie, and which puzzle went with it.
func (g *gate) verify(now time.Time, v *visitor) (p message.Puzzle, ok bool) {
	g.renew(now)
	if len(v.cookie) != cookieLen {
		return p, false
	}
	var version uint32
	var seconds uint64
	var puzzle []byte
	s := cryptobyte.String(v.cookie)
	if !s.ReadUint32(&version) || !s.ReadUint64(&seconds) || !s.ReadBytes(&puzzle, 3) {
		return p, false
	}
	age := g.version - version
	if age >= uint32(len(g.secrets)) || age >= g.version {
		return p, false
	}
	made := time.Unix(int64(seconds), 0)
	if made.After(now) || now.Sub(made) > cookieLife+time.Second {
		return p, false
	}
	if !hmac.Equal(s, g.mac(int(age), v.cookie[:cookieHead], v)) {
		return p, false
	}
	return message.ParsePuzzle(puzzle)
}

func (g *gate) mac(age int, head []byte, v *visitor) []byte {
	h := hmac.New(sha256.New, g.secrets[age][:])
	h.Write(head)
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(v.spii)))
	addr := v.remote.Unmap().As16()
	h.Write(addr[:])
	h.Write(v.ni)
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

// proofID tells cookies apart.
type proofID [sha256.Size]byte

func proofIDOf(cookie []byte) proofID { return sha256.Sum256(cookie) }
