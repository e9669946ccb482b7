//go:build darwin || freebsd

package martlet

import (
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// peerOf tells who is at the other end of a unix socket.
func peerOf(conn net.Conn) string {
	var cred *unix.Xucred
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { cred, _ = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED) })
		}
	}
	if cred == nil {
		return unknownPeer
	}
	return fmt.Sprintf("user %d", cred.Uid)
}
