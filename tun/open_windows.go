package tun

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/windows"
	wgtun "golang.zx2c4.com/wireguard/tun"
)

func hint(err error) string {
	switch {
	case errors.Is(err, windows.ERROR_MOD_NOT_FOUND), errors.Is(err, fs.ErrNotExist):
		return "wintun.dll was not found: put the signed file of this processor type from https://www.wintun.net beside the program"
	case errors.Is(err, fs.ErrPermission):
		return "needs Administrator: start from an elevated prompt"
	}
	return ""
}

// setMTU tells the library, which reports that MTU from then on; the interface's
// own setting is a matter of address configuration.
func setMTU(native wgtun.Device, _ string, mtu int) error {
	forcer, ok := native.(interface{ ForceMTU(int) })
	if !ok {
		return errors.ErrUnsupported
	}
	forcer.ForceMTU(mtu)
	return nil
}
