//go:build darwin || windows || freebsd || openbsd

package tun

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"

	wgtun "golang.zx2c4.com/wireguard/tun"
)

// open makes the interface with one queue, whatever was asked for, and throws the
// library's events away; the channel is closed by Close. On Windows the library does no more
// with the MTU than to note it.
func open(name string, mtu, _ int) (Device, error) {
	native, err := wgtun.CreateTUN(name, mtu)
	if err != nil {
		// FreeBSD's part of the library has words for this only.
		if _, taken := net.InterfaceByName(name); taken == nil && !errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w: %w", syscall.EBUSY, err)
		}
		return nil, err
	}
	go func() {
		for range native.Events() {
		}
	}()
	d, err := newPortable(native, mtu, setMTU)
	if err != nil {
		return nil, err
	}
	if err := d.SetMTU(mtu); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}
