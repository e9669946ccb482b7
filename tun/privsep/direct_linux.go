package privsep

import (
	"errors"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Buffers implements Services. Only the forced form goes beyond net.core.[rw]mem_max.
func (d *Direct) Buffers(c syscall.RawConn, octets int) error {
	return onSocket(c, "setsockopt", func(fd int) error {
		return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, octets),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, octets))
	})
}

// Bind implements Services.
func (d *Direct) Bind(c syscall.RawConn, local netip.AddrPort) error {
	var to unix.Sockaddr = &unix.SockaddrInet6{Port: int(local.Port()), Addr: local.Addr().As16()}
	if local.Addr().Is4() {
		to = &unix.SockaddrInet4{Port: int(local.Port()), Addr: local.Addr().As4()}
	}
	return onSocket(c, "bind", func(fd int) error { return unix.Bind(fd, to) })
}

// onSocket does something to a socket.
func onSocket(c syscall.RawConn, call string, do func(fd int) error) (err error) {
	if e := c.Control(func(fd uintptr) { err = do(int(fd)) }); e != nil {
		return e
	}
	return os.NewSyscallError(call, err)
}
