package tun

import (
	"golang.org/x/sys/unix"
)

func setMTU(_ library, name string, mtu int) error {
	var request unix.IfreqMTU
	copy(request.Name[:unix.IFNAMSIZ-1], name)
	request.MTU = int32(mtu)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	unix.CloseOnExec(fd)
	defer unix.Close(fd)
	return unix.IoctlSetIfreqMTU(fd, &request)
}
