package privsep

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestGiven: what the parent read, the child has without a word, each time as often; what it forgets it asks for.
func TestGiven(t *testing.T) {
	folder := t.TempDir()
	path, missing := filepath.Join(folder, "a.toml"), filepath.Join(folder, "none")
	if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	var of Files
	for range 2 {
		f, err := of.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	_, err1 := of.Stat(path)
	_, err2 := of.EvalSymlinks(path)
	_, err3 := of.Lstat(missing)
	if err := errors.Join(err1, err2); err != nil || !errors.Is(err3, fs.ErrNotExist) {
		t.Fatal(err, err3)
	}
	start := func() *Client {
		ours, theirs, err := pair()
		if err != nil {
			t.Fatal(err)
		}
		theirs.Close() // a question is an error
		t.Cleanup(func() { ours.Close() })
		return &Client{wire: &wire{conn: ours}, calls: map[uint64]chan message{}}
	}

	c := start()
	answers, files := of.answers()
	if err := c.give(answers, files); err != nil {
		t.Fatal(err)
	}
	f, err := c.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if text, err := io.ReadAll(f); string(text) != "text" || err != nil {
		t.Errorf("it reads %q, %v", text, err)
	}
	if info, err := c.Stat(path); err != nil || info.Size() != 4 {
		t.Errorf("its size: %v, %v", info, err)
	}
	if got, err := c.EvalSymlinks(path); err != nil || filepath.Base(got) != "a.toml" {
		t.Errorf("it is %q, %v", got, err)
	}
	if _, err := c.Lstat(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
	second := c.given[asked{toRead, path}][0].file
	c.Forget()
	if _, err := second.Stat(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a file that was forgotten: %v", err)
	}
	if f, err := c.Open(path); err == nil {
		t.Errorf("%v was opened without asking", f.Name())
	}

	// Once there is a child nothing is kept for it.
	if _, err := of.Stat(path); err != nil {
		t.Fatal(err)
	}
	if answers, _ := of.answers(); len(answers) != 0 {
		t.Errorf("kept: %v", answers)
	}
	if err := start().give([]told{{File: true}}, nil); err == nil {
		t.Error("a file that did not come was taken")
	}
}

// TestRecoversOnce: what a killed program left is undone while the child starts, and not again when it asks.
func TestRecoversOnce(t *testing.T) {
	for name, tt := range map[string]struct {
		killSwitch bool
		early      int
	}{"open": {false, 1}, "kill switch": {true, 0}} {
		t.Run(name, func(t *testing.T) {
			m := &machine{}
			settings := testSettings
			settings.KillSwitch = tt.killSwitch
			s := m.server(settings)
			s.recoverEarly()
			s.working.Wait()
			if len(m.log) != tt.early {
				t.Errorf("before it is asked for: %v", m.log)
			}
			for n := range 2 {
				if err := s.recovered(); err != nil || len(m.log) != n+1 {
					t.Errorf("asked for %d times: %v, %v", n+1, m.log, err)
				}
			}
		})
	}
}
