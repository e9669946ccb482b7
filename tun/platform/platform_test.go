//go:build unix

package platform

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	if out, err := Run("give\n", "cat"); err != nil || out != "give\n" {
		t.Errorf("%q, %v", out, err)
	}
	_, err := Run("", "sh", "-c", "echo nothing to do; exit 3")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || !strings.HasSuffix(err.Error(), ": nothing to do") {
		t.Errorf("%v", err)
	}
	if _, err := Run("", filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a program that is not there: %v", err)
	}
	// What it leaves behind has its output, and is not waited for.
	out, err := Run("", "sh", "-c", "read word < "+fifo(t)+" & echo done")
	if err != nil || out != "done\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// fifo is a pipe that nobody writes to before the test ends: who reads it ends then.
func fifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if out, err := exec.Command("mkfifo", path).CombinedOutput(); err != nil {
		t.Fatalf("mkfifo: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		f.Close()
	})
	return path
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var files [2]*os.File
	for i := range files {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	if err := Lock(files[0]); err != nil {
		t.Fatal(err)
	}
	if err := Lock(files[1]); !errors.Is(err, ErrLocked) {
		t.Errorf("the second: %v", err)
	}
	files[0].Close()
	if err := Lock(files[1]); err != nil {
		t.Errorf("after the first: %v", err)
	}
}
