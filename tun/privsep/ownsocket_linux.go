package privsep

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownSocket has the file of a unix socket made for its owner only, whatever the umask: Linux makes it
// with the socket's own mode. Until it is changed others may connect, if the folder lets them in.
func ownSocket(_, _ string, c syscall.RawConn) (err error) {
	return errors.Join(c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }), err)
}
