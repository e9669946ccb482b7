package tun

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/windows"
	"golang.zx2c4.com/wireguard/windows/tunnel/winipcfg"
)

// setMTU tells the library, which reports that MTU from then on, and the system, which keeps
// one for each of IPv4 and IPv6.
func setMTU(native library, name string, mtu int) error {
	adapter, ok := native.(interface {
		ForceMTU(mtu int)
		LUID() uint64
	})
	if !ok {
		return errors.ErrUnsupported
	}
	for _, family := range []winipcfg.AddressFamily{windows.AF_INET, windows.AF_INET6} {
		row, err := awaitFamily(winipcfg.LUID(adapter.LUID()), family)
		if err == nil && row != nil {
			row.NLMTU = uint32(mtu)
			err = row.Set()
		}
		if err != nil {
			return fmt.Errorf("interface %s: %w", name, err)
		}
	}
	adapter.ForceMTU(mtu)
	return nil
}

// awaitFamily waits until the system has bound IPv4 or IPv6 to a new interface, which it does
// soon after that is made. There is no row where the whole host has none of the family.
func awaitFamily(luid winipcfg.LUID, family winipcfg.AddressFamily) (*winipcfg.MibIPInterfaceRow, error) {
	const step, steps = 50 * time.Millisecond, 100
	row, err := luid.IPInterface(family)
	for i := 0; i < steps && errors.Is(err, windows.ERROR_NOT_FOUND); i++ {
		if all, err := winipcfg.GetIPInterfaceTable(family); err != nil || len(all) == 0 {
			return nil, err
		}
		time.Sleep(step)
		row, err = luid.IPInterface(family)
	}
	return row, err
}
