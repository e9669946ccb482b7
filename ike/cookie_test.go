package ike

import (
	"testing"
	"time"
)

// TestCookiesOnALongWay: requests are repeated before the first cookie is there, so that
// there are several cookies.
func TestCookiesOnALongWay(t *testing.T) {
	for _, way := range []time.Duration{100, 300, 500, 800, 1200, 1500} {
		client, gateway := pskPair(t)
		w := newWorld(t)
		a := w.add("client", "192.0.2.1", &Config{Connections: []*Connection{client}})
		b := w.add("gateway", "198.51.100.1", &Config{Connections: []*Connection{gateway}, HalfOpen: HalfOpen{CookieTotal: -1}})
		w.delay = way * time.Millisecond
		a.initiate("home", b)
		w.run(20 * time.Second)
		if len(a.established()) != 1 || len(b.established()) != 1 {
			t.Errorf("one way %v ms: %d and %d SAs, %s", int(way), len(a.established()), len(b.established()), a.downCode())
		}
	}
}
