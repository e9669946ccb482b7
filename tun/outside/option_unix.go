//go:build linux || darwin || freebsd || openbsd

package outside

import "golang.org/x/sys/unix"

func (o option) set(fd uintptr) error {
	return unix.SetsockoptInt(int(fd), o.level, o.name, o.value)
}
