package route

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/windows"
	"golang.zx2c4.com/wireguard/windows/tunnel/winipcfg"
)

// observe finds out what the system has.
func (s *surroundings) observe() error {
	names, err := interfaceNames()
	if err != nil {
		return err
	}
	s.Switches = map[string]string{}
	type key struct {
		family winipcfg.AddressFamily
		luid   winipcfg.LUID
	}
	metrics := map[key]uint32{}
	for _, family := range []winipcfg.AddressFamily{windows.AF_INET, windows.AF_INET6} {
		interfaces, err := winipcfg.GetIPInterfaceTable(family)
		if err != nil {
			return err
		}
		s.V6 = s.V6 || family == windows.AF_INET6 && len(interfaces) > 0
		for _, i := range interfaces {
			metrics[key{family, i.InterfaceLUID}] = i.Metric
			value := "Disabled"
			if i.ForwardingEnabled {
				value = "Enabled"
			}
			if name, ok := names[int(i.InterfaceIndex)]; ok {
				s.Switches[forwardSwitch(family == windows.AF_INET, name)] = value
			}
		}
		routes, err := winipcfg.GetIPForwardTable2(family)
		if err != nil {
			return err
		}
		for i := range routes {
			r := &routes[i]
			to, hop := r.DestinationPrefix.Prefix(), r.NextHop.Addr().WithZone("")
			if r.Loopback || !to.IsValid() {
				continue
			}
			present := row{Prefix: to.Masked(), Device: names[int(r.InterfaceIndex)], Metric: r.Metric + metrics[key{family, r.InterfaceLUID}]}
			if hop.IsValid() && !hop.IsUnspecified() {
				present.Gateway = hop
			}
			s.Table = append(s.Table, present)
		}
	}
	return nil
}

func carryOut(steps []step, log *zap.Logger) error {
	return each(steps, log, step.carryOut)
}

func (s step) carryOut() error {
	switch {
	case s.setting.Key != "":
		return s.unlessGone(s.setting.forward(s.verb))
	case s.route.Prefix.IsValid():
		luid, err := luidOf(s.route.Device)
		switch {
		case err == nil && s.removes():
			err = luid.DeleteRoute(s.route.Prefix, s.route.nextHop())
		case err == nil:
			err = luid.AddRoute(s.route.Prefix, s.route.nextHop(), 0)
		}
		return s.unlessGone(err)
	}
	luid, err := luidOf(s.device)
	switch {
	case err != nil:
	case s.link.up:
		err = s.link.set(luid)
	case s.removes():
		err = luid.DeleteIPAddress(s.address)
	default:
		err = luid.AddIPAddress(s.address)
	}
	return s.unlessGone(err)
}

func (s step) unlessGone(err error) error {
	if s.removes() {
		return ignore(err, windows.ERROR_NOT_FOUND, windows.ERROR_FILE_NOT_FOUND, errNoInterface)
	}
	return err
}

var errNoInterface = errors.New("there is no such interface")

func luidOf(device string) (winipcfg.LUID, error) {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", device, errNoInterface)
	}
	return winipcfg.LUIDFromIndex(uint32(i.Index))
}

// set makes the interface the preferred one, and stops what is for a link with routers and
// neighbours.
func (l link) set(luid winipcfg.LUID) error {
	row, err := interfaceRow(luid, !l.v6)
	if err != nil {
		return err
	}
	row.RouterDiscoveryBehavior = winipcfg.RouterDiscoveryDisabled
	row.DadTransmits = 0
	row.ManagedAddressConfigurationSupported = false
	row.OtherStatefulConfigurationSupported = false
	row.UseAutomaticMetric = false
	row.Metric = 0
	if l.mtu != 0 {
		row.NLMTU = uint32(l.mtu)
	}
	return row.Set()
}

// forward sets an interface's switch.
func (s setting) forward(v verb) error {
	v4, device := s.interfaceSwitch()
	luid, err := luidOf(device)
	if err != nil {
		return err
	}
	row, err := interfaceRow(luid, v4)
	if err != nil {
		return err
	}
	row.ForwardingEnabled = s.value(v) == "Enabled"
	return row.Set()
}

// interfaceRow is what an interface has of a family.
func interfaceRow(luid winipcfg.LUID, v4 bool) (*winipcfg.MibIPInterfaceRow, error) {
	if v4 {
		return luid.IPInterface(windows.AF_INET)
	}
	return luid.IPInterface(windows.AF_INET6)
}

func hint(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "needs Administrator: start from an elevated prompt"
	case errors.Is(err, errNoInterface):
		return "open the TUN first"
	case errors.Is(err, windows.ERROR_NOT_FOUND):
		return "the interface has none of that family: bind IPv6 to it, or take it from the whole host"
	case errors.Is(err, windows.ERROR_OBJECT_ALREADY_EXISTS):
		return "it is there already, maybe of another VPN: end that, or see \"route print\""
	}
	return ""
}

// sweep has nothing to do: the interface goes with its process.
func sweep(_, _ []Config, _ *zap.Logger) error { return nil }

func bootTime() (int64, error) {
	return time.Now().Add(-windows.DurationSinceBoot()).Unix(), nil
}
