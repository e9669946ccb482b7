//go:build darwin || windows || freebsd || openbsd

package tun

import wgtun "golang.zx2c4.com/wireguard/tun"

// create opens the interface and throws the library's events away; the channel
// is closed by Close.
func create(name string, mtu int) (wgtun.Device, error) {
	native, err := wgtun.CreateTUN(name, mtu)
	if err != nil {
		return nil, err
	}
	go func() {
		for range native.Events() {
		}
	}()
	return native, nil
}
