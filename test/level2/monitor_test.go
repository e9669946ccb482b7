package level2

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"martlet/test/simnet"
)

// probe asks a node's monitor, which sends nothing to find out.
func (e *end) probe(path string) (status int, body string) {
	e.w.Helper()
	w := httptest.NewRecorder()
	e.MonitorHandler().ServeHTTP(w, httptest.NewRequestWithContext(e.w.Context(), http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

// wantReady checks what /readyz says.
func (e *end) wantReady(want bool, text string) {
	e.w.Helper()
	status, body := e.probe("/readyz")
	if (status == http.StatusOK) != want || !strings.Contains(body, text) {
		e.w.Errorf("after %v %s says %d %q, want ready %v and %q", time.Since(begin), e.host.Name, status, body, want, text)
	}
	if live, body := e.probe("/livez"); live != http.StatusOK {
		e.w.Errorf("%s is not alive: %q", e.host.Name, body)
	}
}

// begin is when a bubble's time begins.
var begin = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func TestReadinessWhileConnecting(t *testing.T) {
	inBubble(t, 70, func(w *world) {
		client := w.client(keptConfig()) // there is no gateway yet
		kept := make(chan error, 1)
		go func() { kept <- client.Keep(w.Context(), "office") }()
		pass(time.Second)
		client.wantReady(false, "office: no tunnel; one is being opened\n")
		if status, body := client.probe("/startupz"); status != http.StatusServiceUnavailable {
			w.Errorf("started: %q", body)
		}
		pass(time.Minute)
		client.wantReady(false, "office: no tunnel: no answer from 192.0.2.1:500")
		w.gateway(gatewayConfig())
		if err := <-kept; err != nil {
			w.Fatal(err)
		}
		client.wantReady(true, "1 of 1")
		if status, body := client.probe("/startupz"); status != http.StatusOK {
			w.Errorf("not started: %q", body)
		}
	})
}

// TestReadinessOfAQuietTunnel: nothing goes through it for hours, and its peer lives.
func TestReadinessOfAQuietTunnel(t *testing.T) {
	inBubble(t, 71, func(w *world) {
		_, client := w.pair()
		for range 4 * 360 {
			pass(10 * time.Second)
			client.wantReady(true, "office: up")
		}
	})
}

func TestReadinessEndsWithThePeer(t *testing.T) {
	inBubble(t, 72, func(w *world) {
		gateway, client := w.pair()
		pass(time.Minute)
		gateway.host.Blackout(true)
		client.wantReady(true, "up")
		pass(70 * time.Second) // 30 s, and 29 s for the check
		client.wantReady(false, "office: no tunnel")
		if status, body := client.probe("/startupz"); status != http.StatusOK {
			w.Errorf("what was started once is not any more: %q", body)
		}
		gateway.wantReady(true, "it listens")
		gateway.host.Blackout(false)
		client.connect()
		client.wantReady(true, "up")
	})
}

// TestReadinessWithoutANetwork: the tunnel is kept for when there is one again, and is of no use
// until then.
func TestReadinessWithoutANetwork(t *testing.T) {
	inBubble(t, 73, func(w *world) {
		_, client := w.pair()
		pass(time.Minute)
		client.roam(nil)
		pass(20 * time.Second)
		client.wantReady(true, "up")
		pass(70 * time.Second)
		if len(client.Status().SAs) != 1 {
			w.Fatal("the SA is gone: the test tests nothing")
		}
		client.wantReady(false, "office: nothing authentic was heard of the peer for 2m0s; of one that lives something is within 59s\n")
	})
}

// TestProbesSendNothing: they may come as often as they like.
func TestProbesSendNothing(t *testing.T) {
	inBubble(t, 74, func(w *world) {
		_, client := w.pair()
		pass(5 * time.Second)
		w.record()
		for range 100 {
			for _, path := range []string{"/startupz", "/livez", "/readyz", "/metrics", "/status"} {
				client.probe(path)
			}
		}
		pass(time.Second)
		if sent := w.records(func(simnet.Record) bool { return true }); len(sent) != 0 {
			w.Errorf("%d datagrams were sent", len(sent))
		}
	})
}
