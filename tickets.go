package martlet

import (
	"maps"
	"time"

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
