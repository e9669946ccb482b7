// Package golden reads the recorded conversations of the vectors folder for tests:
// packet captures, Wireshark's key tables, and the transcripts in which two
// strongSwan daemons logged every secret they used.
//
// The folder is named by the environment variable MARTLET_VECTORS; without it, it is
// ../shared/vectors beside the root of the module.
package golden

import (
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Vectors returns the vectors folder and skips the test where there is none.
func Vectors(tb testing.TB) string {
	tb.Helper()
	dir := os.Getenv("MARTLET_VECTORS")
	if dir == "" {
		root, err := moduleRoot()
		if err != nil {
			tb.Fatal(err)
		}
		dir = filepath.Join(root, "..", "shared", "vectors")
	}
	if _, err := os.Stat(dir); err != nil {
		tb.Skipf("no test vectors: %v; MARTLET_VECTORS names their folder", err)
	}
	return dir
}

// moduleRoot is the folder of go.mod above the working directory.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("golden: no go.mod above the working directory")
		}
		dir = parent
	}
}

// Transcript is what both daemons of one recorded conversation logged, in order.
type Transcript struct {
	Generator string  `json:"generator"`
	Desc      string  `json:"desc"`
	Initiator []Entry `json:"initiator"`
	Responder []Entry `json:"responder"`
}

// Entry is one line of a daemon's log: a text, or a labelled value of Len octets.
type Entry struct {
	Sub   string `json:"sub"` // the daemon's subsystem: IKE, CHD, CFG …
	Msg   string `json:"msg"`
	Label string `json:"label"`
	Len   int    `json:"len"`
	Hex   string `json:"hex"`
}

// Value is the value of a labelled entry.
func (e Entry) Value() ([]byte, error) {
	b, err := hex.DecodeString(e.Hex)
	if err == nil && len(b) != e.Len {
		err = fmt.Errorf("golden: %q has %d octets, its length says %d", e.Label, len(b), e.Len)
	}
	return b, err
}

// ReadTranscript reads a golden.json.gz.
func ReadTranscript(file string) (*Transcript, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("golden: %w", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("golden: %s: %w", file, err)
	}
	var t Transcript
	if err := json.NewDecoder(z).Decode(&t); err != nil {
		return nil, fmt.Errorf("golden: %s: %w", file, err)
	}
	return &t, nil
}
