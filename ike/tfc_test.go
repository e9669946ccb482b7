package ike

import (
	"testing"
	"time"

	"martlet/ike/message"
)

// Padding against traffic analysis is for each side to do, unless the other says in the
// exchange that opens the child that it takes none (RFC 7296 §1.3.1).
func TestTFCPadding(t *testing.T) {
	client, gateway := pskPair(t)
	client.Children[0].TFC, gateway.Children[0].TFC = 1300, -1
	w, a, b := up(t, client, gateway)
	for _, c := range a.installed {
		if c.TFC != 1300 {
			t.Errorf("the client pads to %d", c.TFC)
		}
	}
	for _, c := range b.installed {
		if c.TFC != -1 {
			t.Errorf("the gateway pads to %d", c.TFC)
		}
	}
	s := engineOf(a)
	b.deliver(a, craft(t, s, message.CreateChildSA, s.nextID, 0, append(childPayloads(t, false), notify(message.ESPTFCPaddingNotSupported))...))
	w.run(time.Millisecond)
	var unpadded int
	for _, c := range b.installed {
		if c.TFC == 0 {
			unpadded++
		}
	}
	if len(b.installed) != 2 || unpadded != 1 {
		t.Errorf("a peer that takes no padding: %d of %d children without", unpadded, len(b.installed))
	}
}
