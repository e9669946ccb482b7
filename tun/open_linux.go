package tun

import (
	"errors"
	"io/fs"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	wgtun "golang.zx2c4.com/wireguard/tun"
)

const cloneDevice = "/dev/net/tun"

// create opens the interface without the library's two listener goroutines,
// which would outlive Close by a second.
func create(name string, mtu int) (wgtun.Device, error) {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open(cloneDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: cloneDevice, Err: err}
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("TUNSETIFF", err)
	}
	native, actual, err := wgtun.CreateUnmonitoredTUNFromFD(fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	if err := setMTU(native, actual, mtu); err != nil {
		native.Close()
		return nil, err
	}
	return native, nil
}

func setMTU(_ wgtun.Device, name string, mtu int) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetMTU(link, mtu)
}

func hint(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return "the kernel has no TUN driver here: load it with \"modprobe tun\", pass " + cloneDevice + " into the container"
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return "another program has an interface of that name: end it, or choose another name"
	case errors.Is(err, fs.ErrPermission):
		return "needs CAP_NET_ADMIN and " + cloneDevice + ": run as root"
	case errors.Is(err, unix.EINVAL):
		return "an interface name has 1 to 15 characters, no slash and no space, and must not be that of an interface of another kind"
	}
	return ""
}
