package main

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"martlet"
)

// TestProfileDown: whoever ends with the first connection of a profile that was closed has closed the others too.
func TestProfileDown(t *testing.T) {
	unknown := &martlet.Error{Code: "internal", What: "no connection is called so"}
	ending := &martlet.Error{Code: codeTerminated, What: "it is ending"}
	for name, tt := range map[string]struct {
		answers []*martlet.Error // to orders, one after the other; then nobody answers
		want    string           // in the error
	}{
		"all closed":      {[]*martlet.Error{nil, nil}, ""},
		"it is ending":    {[]*martlet.Error{nil, ending}, ""},
		"it has ended":    {[]*martlet.Error{nil}, ""},
		"ending already":  {[]*martlet.Error{ending}, ""},
		"nobody is there": {nil, "no martlet answers"},
		"one is unknown":  {[]*martlet.Error{unknown, nil, nil}, "called so"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			listener, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			left := tt.answers
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet { // the status
					_ = json.NewEncoder(w).Encode(martlet.Status{})
					return
				}
				answer := left[0]
				if left = left[1:]; answer != nil {
					w.WriteHeader(http.StatusConflict)
				}
				_ = json.NewEncoder(w).Encode(answer)
				if len(left) == 0 {
					listener.Close()
				}
			}))
			server.Listener.Close()
			server.Listener = listener
			if len(left) == 0 {
				listener.Close()
			} else {
				server.Start()
				defer server.Close()
			}
			err = closeEach(t.Context(), martlet.NewControl(path), []string{"one", "two"})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}
