package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// notifier tells systemd of the state of its service, as sd_notify(3) describes: a datagram of
// lines NAME=VALUE.
type notifier struct {
	conn     *net.UnixConn // nil: the parent tells it
	watchdog time.Duration // within which systemd wants to hear that we live; 0: it does not
}

// newNotifier connects to the socket that systemd names in the environment, and takes that out of
// it, so that no program which we start speaks in our place. Without one it returns nil. systemd hears
// the main process only, which is the parent of one without rights.
func newNotifier() (*notifier, error) {
	if parent != nil && parent.told.Notify {
		return &notifier{watchdog: parent.told.Watchdog}, nil
	}
	path, limit, pid := os.Getenv("NOTIFY_SOCKET"), os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID")
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		_ = os.Unsetenv(name) // it fails for names only that cannot be set
	}
	if path == "" {
		return nil, nil
	}
	if path[0] != '/' && path[0] != '@' {
		return nil, fmt.Errorf("NOTIFY_SOCKET is %q, which is neither a path nor an abstract name", path)
	}
	// Of an abstract name, net makes the @ the octet zero.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	return &notifier{conn: conn, watchdog: watchdogOf(limit, pid)}, nil
}

// watchdogOf reads WATCHDOG_USEC and WATCHDOG_PID: sd_watchdog_enabled(3).
func watchdogOf(limit, pid string) time.Duration {
	if pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0 // it is for who started us
	}
	const most = uint64(24 * time.Hour / time.Microsecond)
	n, err := strconv.ParseUint(limit, 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(min(n, most)) * time.Microsecond
}

// close ends it.
func (n *notifier) close() {
	if n.conn != nil {
		_ = n.conn.Close()
	}
}

// send sends lines together. What a peer said stands in them by oneLine alone.
func (n *notifier) send(lines ...string) error {
	if n.conn == nil {
		_, err := parent.call(askNotify, lines, nil)
		return err
	}
	_, err := n.conn.Write([]byte(strings.Join(lines, "\n")))
	return err
}

// monotonic is the time by which systemd orders a reload after the request for it, as a line.
func monotonic() (string, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return "", err
	}
	return fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/int64(time.Microsecond)), nil
}
