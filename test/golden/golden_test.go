package golden_test

import (
	"os"
	"path/filepath"
	"testing"

	"martlet/test/golden"
)

// TestGolden replays every recorded conversation of two strongSwan daemons: from the
// capture and the Diffie-Hellman secrets it recomputes every value that a daemon
// logged, with the functions of package ike, opens every SK payload and every ESP
// packet, and checks every AUTH.
func TestGolden(t *testing.T) {
	folder := filepath.Join(golden.Vectors(t), "captures", "strongswan6-golden")
	dirs, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	verified := 0
	for _, dir := range dirs {
		if !dir.IsDir() {
			continue
		}
		t.Run(dir.Name(), func(t *testing.T) { verified += replay(t, filepath.Join(folder, dir.Name())) })
	}
	if verified == 0 {
		t.Errorf("nothing in %s was verified", folder)
	}
}

// replay verifies one conversation and returns how many logged values it recomputed.
func replay(t *testing.T, dir string) (verified int) {
	transcript, err := golden.ReadTranscript(filepath.Join(dir, "golden.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	packets, err := golden.ReadCapture(filepath.Join(dir, "capture.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	c := newConversation(t, transcript)
	for _, p := range packets {
		if raw, ok := p.IKE(); ok {
			c.ike(p, raw)
		} else if raw, ok := p.ESP(); ok {
			c.esp(raw)
		}
	}
	c.tables(dir)
	c.natDetection()
	verified = c.log.finish()
	t.Logf("%s: %d values, %d AUTH, %d protected messages, %d ESP packets", transcript.Desc, verified, c.auths, c.opened, c.espPackets)
	if verified == 0 {
		t.Error("nothing was verified")
	}
	if len(c.children) > 0 && c.espPackets == 0 {
		t.Error("no ESP packet was opened")
	}
	return verified
}
