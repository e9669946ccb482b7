package martlet

import (
	"testing"
	"time"

	"martlet/ike"
)

func TestTickets(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	var void tickets
	for range 3 {
		if !void.use(ike.TicketID{}, now) {
			t.Error("no ticket is refused")
		}
	}
	id := ike.TicketID{1}
	if !void.use(id, now) || void.use(id, now) || void.use(id, now.Add(maxTicketLife-time.Second)) {
		t.Error("a ticket does not serve once")
	}
	void.end(ike.TicketID{2}, now)
	if void.use(ike.TicketID{2}, now) {
		t.Error("a ticket of an SA that was closed serves")
	}
	for i := range 3000 {
		void.end(ike.TicketID{3, byte(i), byte(i >> 8)}, now.Add(time.Duration(i)*time.Minute))
	}
	if n := len(void.void); n > 1440+1024+1 {
		t.Errorf("%d are remembered", n)
	}
}
