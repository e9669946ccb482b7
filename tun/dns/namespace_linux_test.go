package dns

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// inNamespace runs f on a thread in a network namespace of its own, which ends with it. It is not
// the first thread: that one never ends, and stands for the process.
func inNamespace(t *testing.T, f func()) {
	t.Helper()
	var err error
	var onThread func()
	onThread = func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			var other sync.WaitGroup
			other.Go(onThread)
			other.Wait()
			return
		}
		// Never unlocked: the thread is not used again.
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			f()
		}
	}
	var task sync.WaitGroup
	task.Go(onThread)
	task.Wait()
	if err != nil {
		t.Skip("no namespaces without root: ", err)
	}
}

// nmText writes settings in order.
func nmText(s nmSettings) string {
	var out []string
	for _, group := range slices.Sorted(maps.Keys(s)) {
		for _, name := range slices.Sorted(maps.Keys(s[group])) {
			out = append(out, fmt.Sprintf("%s.%s=%s", group, name, s[group][name].String()))
		}
	}
	return strings.Join(out, "\n")
}
