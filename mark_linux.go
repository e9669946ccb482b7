package martlet

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// markControl marks a socket before it is used, so that its packets stay out of the
// tunnel.
func markControl(mark uint32) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark))
		})
		if err != nil {
			return err
		}
		return failed
	}
}
