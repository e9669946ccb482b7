package martlet

import (
	"context"
	"fmt"
	"net"
	"time"

	"go.uber.org/zap"

	"martlet/ike"
	"martlet/tun/firewall"
	"martlet/tun/netmon/portal"
)

// CheckPortal asks, past the tunnel, whether the network at hand wants a person to log in at a page of
// its own first. It asks servers of others for pages without TLS, and is therefore only for when a
// person wants to know, or a gateway did not answer.
func (n *Node) CheckPortal(ctx context.Context) PortalStatus {
	r := portal.Check(ctx, n.outsideDialer())
	if n.log != nil {
		n.log.Info("asked whether the network wants a login", zap.Stringer("state", r.State), zap.String("page", r.URL), zap.Error(r.Err))
	}
	return PortalStatus{State: r.State.String(), URL: r.URL}
}

// PortalStatus is what is known of a login that the network wants.
type PortalStatus struct {
	State string `json:"state"` // "open", "portal", or "unknown"
	// URL is the page to log in at, as the network says; it may be empty.
	URL string `json:"url,omitempty"`
	// HoleUntil is when a kill switch closes that lets names and pages through; zero if none does.
	HoleUntil time.Time `json:"hole_until,omitzero"`
}

// OpenHole lets this host ask for names and fetch pages past a kill switch for a while, so that a
// person can log in to a network; until the tunnel stands, at the longest. It returns the time at which that ends.
func (n *Node) OpenHole(d time.Duration) (until time.Time, err error) {
	switch {
	case n.host == nil || !n.conf().Node.KillSwitch:
		return time.Time{}, &Error{
			Code: ike.CodeHost, What: "there is no kill switch to open", Why: "nothing of this host is held back by martlet",
			Hint: "open a page in a browser as it is",
		}
	case d <= 0 || d > firewall.MaxHole:
		return time.Time{}, &Error{
			Code: ike.CodeHost, What: fmt.Sprintf("the kill switch does not open for %v", d), Why: "what is open too long is forgotten",
			Hint: fmt.Sprintf("take a time up to %v", firewall.MaxHole),
		}
	}
	return n.host.openHole(time.Now().Add(d))
}

// openHole opens the kill switch until then, or until a child is up.
func (h *host) openHole(until time.Time) (time.Time, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.restored {
		return time.Time{}, net.ErrClosed
	}
	h.holeUntil = until
	if err := h.apply(); err != nil {
		h.holeUntil = time.Time{}
		return time.Time{}, hostError(h.config, "the kill switch could not be opened", err)
	}
	h.log.Warn("the kill switch lets names and pages through, for a login", zap.Time("until", until))
	// Only Linux closes it by itself.
	time.AfterFunc(time.Until(until), func() { h.closeHole(until) })
	return until, nil
}

// closeHole closes a hole that was opened until then; a later one stays.
func (h *host) closeHole(until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.restored || !h.holeUntil.Equal(until) {
		return
	}
	h.holeUntil = time.Time{}
	h.log.Info("the kill switch is closed again")
	h.reapply()
}
