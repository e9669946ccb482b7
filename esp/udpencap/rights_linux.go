package udpencap

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// bindByRight is bind for a port that only who has the right to gives a socket.
func (o options) bindByRight(local netip.AddrPort, prepare func(syscall.RawConn) error) (*net.UDPConn, error) {
	file, err := boundSocket(unix.SOCK_DGRAM, [2]int{unix.SOL_SOCKET, unix.SO_BROADCAST}, local, prepare, o.rights)
	if err != nil {
		return nil, err
	}
	pc, err := net.FilePacketConn(file) // of a descriptor of its own
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	return pc.(*net.UDPConn), nil
}

// listenByRight is net.ListenConfig's Listen for such a port.
func (t *TCP) listenByRight(_ context.Context, network, address string) (net.Listener, error) {
	local, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	file, err := boundSocket(unix.SOCK_STREAM, [2]int{unix.SOL_SOCKET, unix.SO_REUSEADDR}, local, func(c syscall.RawConn) error {
		if t.Control == nil {
			return nil
		}
		return t.Control(network, address, c)
	}, t.Rights)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := unix.Listen(int(file.Fd()), unix.SOMAXCONN); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	return net.FileListener(file)
}

// boundSocket is a socket as package net makes it, bound by who has the right to.
func boundSocket(kind int, option [2]int, local netip.AddrPort, prepare func(syscall.RawConn) error, by Rights) (_ *os.File, err error) {
	family := unix.AF_INET
	if local.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	file := os.NewFile(uintptr(fd), "socket")
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	if err := unix.SetsockoptInt(fd, option[0], option[1], 1); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return nil, os.NewSyscallError("setsockopt", err)
		}
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	if err := prepare(raw); err != nil {
		return nil, err
	}
	return file, by.Bind(raw, local)
}
