//go:build darwin || freebsd || openbsd

package tun

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// driver is there: the kernel has it, or loads it when it is asked for an interface.
func driver() error { return nil }

func hint(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "needs root: run with sudo or doas"
	case errors.Is(err, unix.EBUSY):
		return "another program has an interface of that name: end it, or choose another name"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENXIO):
		return "the kernel has no such TUN interface: load the driver, or choose another name"
	}
	return ""
}
