//go:build freebsd || openbsd

package tun

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setMTU is ifconfig's SIOCSIFMTU: the name in 16 octets, then the number.
func setMTU(_ library, name string, mtu int) error {
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
