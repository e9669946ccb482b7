package personas

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// fortiGate has one pair of networks in each phase 2, and PFS on in each: the first child hides it, a
// second one or a replacement without KE is answered NO_PROPOSAL_CHOSEN [S]. Its lists are what is
// configured. Phase 1 lives 86,400 s and phase 2 43,200 s, liveness after 20 s [K]; when it replaces them is
// not told: nine tenths.
func fortiGate() *device {
	return withVendor(device{
		name: "fortigate", vendors: []string{"1d6e178f6c2c0be284985465450fe9d4"}, // [S]
		ike: []string{"aes256gcm16-prfsha384-ecp384"}, esp: []string{"aes256gcm16-ecp384"},
		pfs: true, ikeAge: 1296 * time.Minute, childAge: 648 * time.Minute, liveness: 20 * time.Second,
		narrow: accessList,
	})
}

// withVendor is a router whose vendor ID goes last.
func withVendor(d device) *device {
	out := cloud(d)
	out.init += " V"
	return out
}

func TestFortiGate(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) { bothRoles(w, w.router(fortiGate(), w.site(oneChild))) })
}

// The second phase 2 takes PFS, which is ours by default.
func TestFortiGateDemandsPFSOnTheSecondChild(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		p := w.router(fortiGate(), w.site(twoChildren))
		p.called()
		p.live(24 * time.Hour)
		if len(p.kids) != 2 || slices.ContainsFunc(p.kids, func(c *child) bool { return c.suite.KE.ID != suite.KEECP384 }) {
			t.Fatalf("%d children", len(p.kids))
		}
		p.talks(branchHost, serverAddr)
		p.talks(secondHost, serverAddr)
	})
	// Without PFS on our side the first child is up, and nothing else; a person is told why.
	inBubble(t, func(w *world) {
		g := w.site(strings.ReplaceAll(twoChildren, "remote", "proposals = [\"aes256gcm16\"]\nremote"))
		p := w.router(fortiGate(), g)
		p.called()
		if len(p.kids) != 1 {
			t.Fatalf("%d children", len(p.kids))
		}
		p.browses()
		if g.hint("PFS") == "" {
			t.Errorf("nobody is told of PFS: %v", g.failures())
		}
		done := make(chan error, 1)
		go func() { done <- g.Rekey(w.Context(), "branch", "net") }()
		p.live(10 * time.Second)
		err, ok := errors.AsType[*martlet.Error](<-done)
		if !ok || err.Notify != message.NoProposalChosen || !strings.Contains(err.Hint, "PFS") {
			t.Errorf("a rekey without PFS: %+v", err)
		}
	})
}
