package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"martlet"
	"martlet/config"
)

// shown is what a command has written so far.
type shown struct {
	mu   sync.Mutex
	b    bytes.Buffer
	more chan struct{} // full: something came
}

func (s *shown) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
	return s.b.Write(b)
}

// await waits until the text stands there.
func (s *shown) await(t *testing.T, text string) {
	t.Helper()
	for {
		s.mu.Lock()
		found := strings.Contains(s.b.String(), text)
		s.mu.Unlock()
		if found {
			return
		}
		select {
		case <-s.more:
		case <-t.Context().Done():
			t.Fatalf("never said %q", text)
		}
	}
}

// TestWatchStatus: the status at first, then what happens, until the one that is watched ends.
func TestWatchStatus(t *testing.T) {
	for name, asJSON := range map[string]bool{"lines": false, "JSON": true} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "c.sock")
			c, err := config.Parse("test.toml", []byte(`
node.control = "`+socket+`"
[connection.office]
remote = ["nowhere.invalid"]
local = { auth = "psk", id = "a", secret = "k9Xw2mTqZ7bR4vLs8NcJ3yHf6GdP1aUe" }
peer = { auth = "psk", id = "b" }
`), t.TempDir(), nil)
			if err != nil {
				t.Fatal(err)
			}
			node := &martlet.Node{Config: c}
			if err := node.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer node.Close()
			if err := node.ServeControl(t.Context(), func() {}); err != nil {
				t.Fatal(err)
			}
			out, errs := &shown{more: make(chan struct{}, 1)}, &shown{more: make(chan struct{}, 1)}
			cmd := &cobra.Command{}
			cmd.SetOut(out)
			cmd.SetErr(errs)
			cmd.SetContext(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- watchStatus(cmd, martlet.NewControl(socket), asJSON) }()
			out.await(t, "office")
			go node.Keep(t.Context(), "office") //nolint:errcheck // it never comes up
			if asJSON {
				out.await(t, `"waiting":[{"connection":"office"`)
			} else {
				out.await(t, " office: retry: the gateway's name has no address: nowhere.invalid; again in ")
			}
			if err := node.Close(); err != nil {
				t.Error(err)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
			errs.await(t, "the one that was watched has ended")
			if asJSON {
				for line := range strings.Lines(out.b.String()) {
					if !json.Valid([]byte(line)) {
						t.Errorf("not JSON: %s", line)
					}
				}
			}
		})
	}
}

// TestEventLines: each kind of event on one line, whatever a peer sent.
func TestEventLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the bubble's clock stands
		now := time.Now()
		at := now.Format("15:04:05") + " "
		for _, c := range []struct {
			ev   martlet.Event
			want string
		}{
			{martlet.Event{Kind: martlet.EventStage, Connection: "a", Stage: "IKE_AUTH", Took: 12300 * time.Microsecond}, "a: stage IKE_AUTH, 12.3ms"},
			{martlet.Event{Kind: martlet.EventEstablished, Connection: "a", Peer: "gw.test"}, "a: established, peer gw.test"},
			{martlet.Event{Kind: martlet.EventChildUp, Connection: "a", Child: "net", Text: "x === y"}, "a child net: child up: x === y"},
			{martlet.Event{Kind: martlet.EventRetry, Connection: "a", Err: &martlet.Error{What: "no answer"}, Took: time.Second}, "a: retry: no answer; again in 1s"},
			{martlet.Event{Kind: martlet.EventDown, Connection: "a", Text: "line\ninjected"}, `a: down: line\ninjected`},
		} {
			c.ev.Time = now
			if diff := cmp.Diff(at+c.want, eventLine(c.ev)); diff != "" {
				t.Error(diff)
			}
		}
	})
}
