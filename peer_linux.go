package martlet

import (
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// peerOf tells who is at the other end of a unix socket.
func peerOf(conn net.Conn) string {
	var cred *unix.Ucred
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { cred, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
		}
	}
	if cred == nil {
		return unknownPeer
	}
	return fmt.Sprintf("user %d, process %d", cred.Uid, cred.Pid)
}
