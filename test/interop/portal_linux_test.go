package interop

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// hotel is a network that holds everything back until somebody logs in at its page: it leads every
// name to its own server, which sends every request to that page, and takes no other packet.
type hotel struct {
	*closedHost
	gate *node
}

func newHotel(t *testing.T) *hotel {
	t.Helper()
	h := &hotel{closedHost: newClosedHost(t)}
	h.names.mu.Lock()
	for _, name := range []string{"login.hotel.test", "connectivitycheck.gstatic.com", "detectportal.firefox.com"} {
		h.names.zone[name] = []netip.Addr{netip.MustParseAddr(homeRouter)}
	}
	h.names.mu.Unlock()
	l := h.router.listen(homeRouter + ":80")
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "login.hotel.test" {
			http.Redirect(w, r, "http://login.hotel.test/?from="+r.Host, http.StatusFound)
			return
		}
		_, _ = w.Write([]byte("which room?"))
	})}
	go server.Serve(l) //nolint:errcheck // it ends with the test
	t.Cleanup(func() { _ = server.Close() })
	h.gate = h.gatewayNode("", "0.0.0.0/0")
	h.gate.serve()
	h.hold()
	return h
}

// hold has the router let nothing pass, and release what it is there for.
func (h *hotel) hold() {
	h.router.nft("table inet hold { chain forward { type filter hook forward priority 0; policy drop; }; }")
}

func (h *hotel) release() { h.router.run("nft", "delete", "table", "inet", "hold") }

func (h *hotel) login() (string, error) {
	return h.warrior.try("curl", "-sS", "--max-time", "10", "http://login.hotel.test/")
}

// TestCaptivePortal: a network that wants a login first is noticed when the gateway gives no answer;
// and the kill switch opens for the login, on request, until the tunnel stands.
func TestCaptivePortal(t *testing.T) {
	start(t)
	h := newHotel(t)
	open := h.warriorNode("")
	out, err := open.martlet("up", "-c", open.config, "--wait", "2s", "office")
	if err == nil || !strings.Contains(out, "is not up after 2s") || !strings.Contains(out, "this network wants a login first, at http://login.hotel.test/?from=") {
		t.Errorf("up in a hotel: %v\n%s", err, out)
	}
	if out, err := open.martlet("portal", "--control", h.warrior.dir+"/none.sock"); err != nil || !strings.Contains(out, "wants a login at http://login.hotel.test/?from=") {
		t.Errorf("portal: %v\n%s", err, out)
	}

	m := h.closedNode(secret)
	m.up("office")
	until(t, "the host is closed", h.isClosed)
	until(t, "somebody answers", func() bool { return m.status() != nil })
	if out, err := h.login(); err == nil {
		t.Fatalf("the kill switch is open: %s", out)
	}
	out, err = m.martlet(append([]string{"portal", "--hole", "10m"}, control(m)...)...)
	if err != nil || !strings.Contains(out, "wants a login at http://login.hotel.test/") || !strings.Contains(out, "lets names and pages through until ") {
		t.Fatalf("portal --hole: %v\n%s", err, out)
	}
	if out, err := h.login(); err != nil || out != "which room?" {
		t.Errorf("a browser in the hole: %v\n%s", err, out)
	}
	h.warrior.silent(homeAddr, homeRouter) // names and pages, and no more
	h.release()
	v4, _ := virtual(m.awaitUp(1))
	h.warrior.ping(v4, inB4)
	until(t, "the hole is closed", func() bool {
		_, err := h.warrior.try("curl", "-sS", "--max-time", "1", "--interface", "eth1", "http://"+homeRouter+"/")
		return err != nil
	})
	m.end()
	h.gate.end()
}
