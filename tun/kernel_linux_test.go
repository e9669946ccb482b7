package tun

import "golang.org/x/sys/unix"

// OpenRefused opens on a kernel that refuses an ioctl where refuse returns an error. The
// value is the flags for TUNSETIFF, and the number for the others.
func OpenRefused(refuse func(request uint, value int) error) func(name string, mtu, queues int) (Device, error) {
	k := kernel{
		open: openClone, socket: openSocket,
		ifreq: func(fd int, request uint, ifreq *unix.Ifreq) error {
			value := int(ifreq.Uint32())
			if request == unix.TUNSETIFF {
				value = int(ifreq.Uint16())
			}
			if err := refuse(request, value); err != nil {
				return err
			}
			return unix.IoctlIfreq(fd, request, ifreq)
		},
		set: func(fd int, request uint, value int) error {
			if err := refuse(request, value); err != nil {
				return err
			}
			return unix.IoctlSetInt(fd, request, value)
		},
		setPoint: func(fd int, request uint, value int) error {
			if err := refuse(request, value); err != nil {
				return err
			}
			return unix.IoctlSetPointerInt(fd, request, value)
		},
	}
	return func(name string, mtu, queues int) (Device, error) {
		d, err := k.device(name, mtu, queues)
		if err != nil {
			return nil, err
		}
		return d, nil
	}
}
