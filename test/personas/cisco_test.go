package personas

import (
	"slices"
	"testing"
	"time"

	"martlet/ike/message"
)

// ciscoASA has crypto maps: one pair of selectors in a child, exactly as its access list has it, and
// no narrowing [S]. Which algorithms it offers is a matter of its policy, and not told; AES-GCM
// and AES-CBC cannot be mixed in one [S]. The vendor IDs are those that Cisco is known by [S], the
// order of the first messages is not told. IKE SAs live 24 h and children 1 h [K], of which it takes 55
// minutes here; it knows no RFC 7383 [K].
func ciscoASA() *device {
	return &device{
		name: "cisco-asa", nonce: 32, init: "SA KE No V NATD",
		vendors: []string{
			"434953434f2d44454c4554452d524541534f4e", // CISCO-DELETE-REASON
			"4048b7d56ebce88525e7de7f00d6c2d3",       // FRAGMENTATION, their own
		},
		ike: []string{"aes256gcm16-prfsha384-ecp384"}, esp: []string{"aes256gcm16-ecp384"},
		auth:   "IDi AUTH IDr SA TSi TSr INITIAL_CONTACT",
		narrow: accessList, childAge: 55 * time.Minute, ikeEdge: 24 * time.Hour,
	}
}

// accessList takes what it has itself, to the last bit.
func accessList(_ *peer, own, other []message.Selector) (a, b []message.Selector, ok bool) {
	home := selectors("10.1.0.0/16")
	for _, net := range []string{"10.2.0.0/16", "10.3.0.0/16"} {
		if slices.Equal(own, selectors(net)) && slices.Equal(other, home) {
			return own, other, true
		}
	}
	return nil, nil, false
}

func TestCiscoASA(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) { bothRoles(w, w.router(ciscoASA(), w.site(oneChild))) })
}

// Two networks are two children, each replaced with its own selectors.
func TestCiscoASATwoNetworks(t *testing.T) {
	t.Parallel()
	both := func(p *peer) {
		p.w.Helper()
		for range 4 { // the whole day is TestCiscoASA's
			p.live(2 * time.Hour)
			p.talks(branchHost, serverAddr)
			p.talks(secondHost, serverAddr)
			if len(p.kids) != 2 || len(p.g.sa().Children) != 2 {
				p.fails("%d children, and %d at the gateway", len(p.kids), len(p.g.sa().Children))
			}
		}
	}
	for _, children := range []string{twoChildren, twoInOne} {
		inBubble(t, func(w *world) {
			p := w.router(ciscoASA(), w.site(children))
			p.called()
			p.live(time.Minute)
			both(p)
		})
	}
	// It begins, and our side has them in two children, or in one.
	for _, children := range []string{twoChildren, twoInOne} {
		inBubble(t, func(w *world) {
			p := w.router(ciscoASA(), w.site(children))
			p.connect()
			p.tsi = selectors("10.3.0.0/16")
			c, n := p.createChild(nil)
			if n != nil {
				p.fails("the second child is refused: %v", n.Notify)
			}
			p.adopt(c)
			both(p)
			p.hangUp()
			p.g.empty()
		})
	}
}
