package martlet

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"time"

	"martlet/config"
	"martlet/ike"
)

// tickets are those by which no SA can be resumed any more, though they are still good: each
// serves once (RFC 5723 §4.3.1), and not after its SA was closed in order. The zero value is
// ready.
type tickets struct{ void map[ike.TicketID]time.Time }

// maxVoid bounds what is remembered; beyond it no ticket is taken until some are too old.
const maxVoid = 1 << 20

// use tells whether a ticket still serves, and ends that. No ticket at all is all right.
func (t *tickets) use(id ike.TicketID, now time.Time) bool {
	if id == (ike.TicketID{}) {
		return true
	}
	if _, void := t.void[id]; void || len(t.void) >= maxVoid && !t.sweep(now) {
		return false
	}
	t.end(id, now)
	return true
}

// end makes a ticket void for as long as it could be good.
func (t *tickets) end(id ike.TicketID, now time.Time) {
	if id == (ike.TicketID{}) {
		return
	}
	if t.void == nil {
		t.void = map[ike.TicketID]time.Time{}
	}
	if len(t.void)%1024 == 1023 {
		t.sweep(now)
	}
	t.void[id] = now.Add(maxTicketLife)
}

// maxTicketLife is the longest that config lets a ticket be good.
const maxTicketLife = 24 * time.Hour

// sweep forgets those that are too old, and tells whether there is room.
func (t *tickets) sweep(now time.Time) bool {
	maps.DeleteFunc(t.void, func(_ ike.TicketID, until time.Time) bool { return !now.Before(until) })
	return len(t.void) < maxVoid
}

// binding is a digest of that by which a peer proves itself on a connection, as the file has it
// now: its account, with password, groups and addresses, or the pre-shared key. A ticket is bound
// to it: nobody comes in by the password of yesterday because of what it earned yesterday.
func (r *registry) binding(conn *config.Connection, q ike.Admit) (out [32]byte) {
	h := sha256.New()
	part := func(b []byte) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		h.Write(b)
	}
	for _, a := range []*config.Auth{&conn.Local, &conn.Peer, &conn.Local2, &conn.Peer2} {
		part([]byte(a.Auth))
		if a.Auth == "psk" {
			part(a.Secret.Value)
		}
	}
	name := q.EAPIdentity
	if name == "" {
		name = nameOf(q.Identity)
	}
	part([]byte(name))
	if u := r.conf().Users[name]; u != nil {
		part(u.Password.Value)
		for _, group := range u.Groups {
			part([]byte(group))
		}
		for _, addr := range u.Address {
			part(addr.AsSlice())
		}
	}
	return [32]byte(h.Sum(nil))
}
