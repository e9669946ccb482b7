package route

import (
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

var errKilled = errors.New("killed")

// killAfter is a logger that ends a Set, as SIGKILL would, after so many steps, of which
// each is logged.
func killAfter(steps int) *zap.Logger {
	return zap.New(zapcore.RegisterHooks(all{}, func(zapcore.Entry) error {
		if steps--; steps < 0 {
			panic(errKilled)
		}
		return nil
	}))
}

// all is a core that takes every entry and writes none.
type all struct{}

func (all) Enabled(zapcore.Level) bool                 { return true }
func (a all) With([]zapcore.Field) zapcore.Core        { return a }
func (all) Write(zapcore.Entry, []zapcore.Field) error { return nil }
func (all) Sync() error                                { return nil }
func (a all) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return c.AddCore(e, a)
}

// setUntilKilled reports whether the Sets were all done before the kill.
func setUntilKilled(r Router, configs ...Config) (done bool, err error) {
	defer func() {
		if x := recover(); x != nil && x != any(errKilled) {
			panic(x)
		}
	}()
	for _, c := range configs {
		if err := r.Set(c); err != nil {
			return false, err
		}
	}
	return true, nil
}

// Wherever a process is killed, the state file knows what Recover must undo.
func TestRecoverAfterKillAnywhere(t *testing.T) {
	host, _ := network(t)
	dir := t.TempDir()
	before := host.snapshot()
	other := warrior()
	other.Forward = true
	other.Routes = prefixes("10.1.0.0/16", "fd00:1::/48")
	other.Outside = prefixes("10.0.0.0/8", "192.0.2.0/24", "::/0")
	other.Unreachable = prefixes("0.0.0.0/0", "fd00::/8")
	steps := 0
	for done := false; !done; steps++ {
		device := host.open()
		killed := New(dir, killAfter(steps)).(*router)
		host.Do(func() (err error) {
			done, err = setUntilKilled(killed, warrior(), other, gateway(), warrior())
			return err
		})
		killed.file.file.Close() // as the kernel does for a killed process
		device.Close()
		host.Do(func() error { return Recover(dir, nil) })
		if diff := cmp.Diff(before, host.snapshot()); diff != "" {
			t.Fatalf("killed after %d steps (-before +after):\n%s", steps, diff)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Fatalf("killed after %d steps, left in the state folder: %v", steps, left)
		}
	}
	if steps < 20 {
		t.Errorf("only %d steps: the test shows little", steps)
	}
}

// What does not change is not written again.
func TestStateFileIsWrittenOnChange(t *testing.T) {
	host := newNamespace(t)
	host.open()
	dir := t.TempDir()
	r := New(dir, nil)
	set := func(c Config) os.FileInfo {
		t.Helper()
		host.Do(func() error { return r.Set(c) })
		info, err := os.Stat(stateFiles(dir)[0])
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	first := set(warrior())
	if !os.SameFile(first, set(warrior())) {
		t.Error("the same Config has another state file")
	}
	c := warrior()
	c.Routes = c.Routes[:1]
	if os.SameFile(first, set(c)) {
		t.Error("another Config has the same state file")
	}
	host.Do(r.Close)
}
