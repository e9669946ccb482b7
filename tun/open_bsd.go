//go:build darwin || freebsd || openbsd

package tun

import (
	"errors"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
	wgtun "golang.zx2c4.com/wireguard/tun"
)

func hint(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "needs root: run with sudo or doas, or use --userspace, which needs no right"
	case errors.Is(err, unix.EBUSY):
		return "another program has an interface of that name: end it, or choose another name"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENXIO):
		return "the kernel has no such TUN interface: load the driver, or choose another name"
	}
	return ""
}

// setMTU is ifconfig's SIOCSIFMTU: the name in 16 octets, then the number.
func setMTU(_ wgtun.Device, name string, mtu int) error {
	var request struct {
		name [unix.IFNAMSIZ]byte
		mtu  int32
		_    [12]byte
	}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	request.mtu = int32(mtu)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	unix.CloseOnExec(fd)
	defer unix.Close(fd)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFMTU, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return os.NewSyscallError("SIOCSIFMTU", errno)
	}
	return nil
}
