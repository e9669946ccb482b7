package main

import (
	"strings"
	"testing"
)

// TestNoticesOfAChild: systemd hears of a child's state, and takes no order from it.
func TestNoticesOfAChild(t *testing.T) {
	if err := checkNotice([]string{"READY=1", "STATUS=office: up", "RELOADING=1", "MONOTONIC_USEC=5", "WATCHDOG=1", "EXTEND_TIMEOUT_USEC=5", "STOPPING=1"}); err != nil {
		t.Error(err)
	}
	for _, line := range []string{"MAINPID=1", "FDSTORE=1", "NOTIFYACCESS=all", "STATUS=a\nMAINPID=1", "", "WATCHDOG_USEC=1", "STATUS=" + strings.Repeat("x", 5000)} {
		if err := checkNotice([]string{"READY=1", line}); err == nil {
			t.Errorf("systemd is told %q", line)
		}
	}
}
