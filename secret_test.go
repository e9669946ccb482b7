package martlet

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"martlet/ike"
	"martlet/tun/privsep"
)

func TestOwnSecret(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	services := &privsep.Direct{Settings: privsep.Settings{State: dir}}
	first, err := ownSecret(services, "s")
	if err != nil || len(first) != secretLen {
		t.Fatalf("%d octets, %v", len(first), err)
	}
	if again, err := ownSecret(services, "s"); err != nil || !bytes.Equal(first, again) {
		t.Errorf("not the same again: %v", err)
	}
	path := filepath.Join(dir, "s")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(path, first[:7], 0o600); err != nil {
		t.Fatal(err)
	}
	if other, err := ownSecret(services, "s"); err != nil || len(other) != secretLen || bytes.Equal(other, first) {
		t.Errorf("a damaged one is not replaced: %v", err)
	}
	if err := os.Chmod(path, 0o640); err != nil { //nolint:gosec // too open on purpose
		t.Fatal(err)
	}
	if _, err := ownSecret(services, "s"); err == nil {
		t.Error("one that others read is taken")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("%d files, %v", len(left), err)
	}
}

// TestTicketKey: the key outlives the program, advances day by day, and what the file has
// does not lead back.
func TestTicketKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	services := &privsep.Direct{Settings: privsep.Settings{State: dir}}
	day := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	first, err := ticketKey(services, day)
	if err != nil || first.Epoch != ike.EpochOf(day) {
		t.Fatalf("%d, %v", first.Epoch, err)
	}
	for days := range 5 {
		k, err := ticketKey(services, day.AddDate(0, 0, days))
		want, ok := first.Advance(max(first.Epoch, first.Epoch+uint32(days)-1))
		if err != nil || !ok || k.Epoch != want.Epoch || !bytes.Equal(k.Key, want.Key) {
			t.Errorf("after %d days: epoch %d, %v", days, k.Epoch, err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "ticket-key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// A clock that was wrong: what is from the future is replaced.
	if k, err := ticketKey(services, day.AddDate(0, 0, -9)); err != nil || k.Epoch != ike.EpochOf(day)-9 {
		t.Errorf("epoch %d, %v", k.Epoch, err)
	}
}
