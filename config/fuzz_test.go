package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// FuzzParse: any text gives a Config that is complete, or faults with reasons.
func FuzzParse(f *testing.F) {
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "psk"), []byte(psk), 0o600); err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		"", siteToSite, roadWarrior, "[node]\nlisten = [\"::\"]\nmark = 0x10", "a.b = {c = [1, {d = 2}]}\n[[x]]\n", "x = '''\n",
		"[connection.a]\nlocal = {auth=\"psk\", secret=\"file:psk\"}\npeer.auth=\"psk\"\npool=[\"p\"]\n[pool.p]\naddresses=[\"fd00::/120\"]\n",
	} {
		f.Add([]byte(seed))
	}
	env := func(name string) (string, bool) { return psk, name == "PSK" }
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse("fuzz.toml", text, dir, env)
		if err != nil {
			checkFaults(t, err)
			return
		}
		for name, conn := range c.Connections {
			if conn.Name != name || len(conn.IKE) == 0 || len(conn.Children) == 0 || conn.Liveness == 0 {
				t.Errorf("connection %q is not complete: %+v", name, conn)
			}
			for _, child := range conn.Children {
				if len(child.ESP) == 0 || len(child.LocalTS) == 0 && !child.LocalIsDyn || len(child.RemoteTS) == 0 && !child.RemoteIsDyn {
					t.Errorf("child %q is not complete: %+v", child.Name, child)
				}
			}
		}
		for name, p := range c.Pools {
			if p.Name != name || len(p.Ranges) == 0 {
				t.Errorf("pool %q is not complete: %+v", name, p)
			}
		}
		if err := c.Complete(); err != nil {
			t.Errorf("once more: %v", err)
		}
	})
}

func checkFaults(t *testing.T, err error) {
	var all Errors
	if !errors.As(err, &all) || len(all) == 0 {
		t.Fatalf("not Errors: %v", err)
	}
	for _, e := range all {
		if e.Reason == "" || e.File != "fuzz.toml" {
			t.Errorf("a fault without reason or file: %+v", e)
		}
	}
}

// TestTruncated cuts a file at each octet.
func TestTruncated(t *testing.T) {
	for i := range len(siteToSite) {
		if _, err := Parse("fuzz.toml", []byte(siteToSite[:i]), "", nil); err != nil {
			checkFaults(t, err)
		}
	}
}
