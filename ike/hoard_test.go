package ike

import (
	"testing"
	"time"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// A peer that replaces its child again and again, and never deletes the one before, does not
// fill the memory.
func TestHoardedChildren(t *testing.T) {
	for _, deletes := range []bool{false, true} {
		client, gateway := pskPair(t)
		w, a, b := up(t, client, gateway)
		s, sb := engineOf(a), engineOf(b)
		most := 0
		for i := range uint32(2000) {
			newest := sb.children[len(sb.children)-1]
			ps := childPayloads(t, false)
			ps[0] = wireProposals(client.Children[0].Proposals, spiBytes(0x10000+i))
			ps = append(ps, &message.Notify{Protocol: suite.ProtocolESP, SPI: spiBytes(newest.SPIOut), Notify: message.RekeySA})
			b.deliver(a, craft(t, s, message.CreateChildSA, sb.expectID, 0, ps...))
			if deletes && newest.successor != nil {
				b.deliver(a, craft(t, s, message.Informational, sb.expectID, 0, &message.Delete{Protocol: suite.ProtocolESP, SPIs: []uint32{newest.SPIOut}}))
			}
			w.run(time.Millisecond)
			most = max(most, len(b.installed)+len(b.retired))
		}
		if most > 2*maxChildren {
			t.Errorf("deletes %t: %d children at once", deletes, most)
		}
		if len(b.established()) != 1 {
			t.Error("the SA is gone")
		}
	}
}

// Nor does one that replaces its IKE SA.
func TestHoardedSAs(t *testing.T) {
	client, gateway := pskPair(t)
	client.Liveness, gateway.Liveness = -1, -1
	w, a, b := up(t, client, gateway)
	w.fate = func(_ *host, s Send) int {
		if h, err := message.ParseHeader(s.Data); err == nil && h.Exchange == message.Informational {
			return 0
		}
		return 1
	}
	most := 0
	for range 200 {
		if st := a.established(); len(st) > 0 {
			a.handle(Rekey{SA: st[len(st)-1].SA})
		}
		w.run(50 * time.Millisecond)
		most = max(most, len(b.e.sas))
	}
	if most > 10 {
		t.Errorf("%d IKE SAs at once", most)
	}
	w.fate = nil
	w.run(2 * time.Minute)
	agree(t, a, b, 1)
	a.handle(Rekey{SA: a.established()[0].SA})
	w.run(time.Minute)
	agree(t, a, b, 1)
	if len(b.e.sas) != 1 {
		t.Errorf("%d SAs are left", len(b.e.sas))
	}
}
