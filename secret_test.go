package martlet

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestOwnSecret(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	first, err := ownSecret(dir, "s")
	if err != nil || len(first) != secretLen {
		t.Fatalf("%d octets, %v", len(first), err)
	}
	if again, err := ownSecret(dir, "s"); err != nil || !bytes.Equal(first, again) {
		t.Errorf("not the same again: %v", err)
	}
	path := filepath.Join(dir, "s")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(path, first[:7], 0o600); err != nil {
		t.Fatal(err)
	}
	if other, err := ownSecret(dir, "s"); err != nil || len(other) != secretLen || bytes.Equal(other, first) {
		t.Errorf("a damaged one is not replaced: %v", err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := ownSecret(dir, "s"); err == nil {
		t.Error("one that others read is taken")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("%d files, %v", len(left), err)
	}
}
