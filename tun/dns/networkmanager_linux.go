package dns

import (
	"encoding/binary"
	"net"
	"slices"

	"github.com/godbus/dbus/v5"
)

// networkManager is the manner of NetworkManager 1.26.0 to 1.26.5: what it applied to our link is
// read, given our resolvers and applied again. It forgets them with the link.
type networkManager struct {
	device  string
	connect func() (*dbus.Conn, error)
}

// nmSettings are those of a link, by group and name.
type nmSettings map[string]map[string]dbus.Variant

// Priorities: the lowest is asked, and a negative one keeps those above it from being asked at all.
const (
	nmAll   = int32(-10)
	nmSplit = int32(50) // what VPNs of its own have
)

func (m *networkManager) set(c Config) error {
	conn, err := m.connect()
	if err != nil {
		return &Error{"connect to the D-Bus", err, "see that the system's bus runs"}
	}
	defer conn.Close()
	return m.apply(conn, func(s nmSettings) { nmPut(s, c) })
}

func (m *networkManager) undo() error {
	conn, err := m.connect()
	if err != nil {
		return nil //nolint:nilerr // without a bus there is no service that knows anything
	}
	defer conn.Close()
	if !running(conn, nmName) {
		return nil
	}
	err = m.apply(conn, func(nmSettings) {})
	if isBusError(err, nmName+".UnknownDevice") {
		return nil // forgotten with the link
	}
	return err
}

// apply reads the settings of the link, without resolvers, has them changed and applies them.
func (m *networkManager) apply(conn *dbus.Conn, change func(nmSettings)) error {
	var path dbus.ObjectPath
	if err := call(conn.Object(nmName, nmPath), nmName+".GetDeviceByIpIface", []any{&path}, m.device); err != nil {
		return m.failed("GetDeviceByIpIface", err)
	}
	device := conn.Object(nmName, path)
	var settings nmSettings
	var version uint64
	if err := call(device, nmName+".Device.GetAppliedConnection", []any{&settings, &version}, uint32(0)); err != nil {
		return m.failed("GetAppliedConnection", err)
	}
	var addresses []net.Addr
	if link, err := net.InterfaceByName(m.device); err == nil {
		if addresses, err = link.Addrs(); err != nil {
			return m.failed("addresses of the link", err)
		}
	}
	nmBare(settings, addresses)
	change(settings)
	// The version keeps us from undoing what another did to the link meanwhile.
	if err := call(device, nmName+".Device.Reapply", nil, settings, version, uint32(0)); err != nil {
		return m.failed("Reapply", err)
	}
	return nil
}

func (m *networkManager) failed(method string, err error) error {
	hint := "see nmcli device show " + m.device + ", or update NetworkManager: from 1.26.6 it need not be asked"
	if isBusError(err, nmName+".PermissionDenied") || isBusError(err, "org.freedesktop.DBus.Error.AccessDenied") {
		hint = "run as root"
	}
	return &Error{"set the resolvers of " + m.device + " (" + method + " of NetworkManager)", err, hint}
}

// nmPut puts the resolvers into the families that have some: in one without servers domains would
// be for nothing.
func nmPut(s nmSettings, c Config) {
	var v4 []uint32
	var v6 [][]byte
	for _, a := range c.Servers {
		if a.Is4() {
			v4 = append(v4, binary.NativeEndian.Uint32(a.AsSlice())) // in network order, whatever the type says
		} else {
			v6 = append(v6, a.AsSlice())
		}
	}
	// A domain with a tilde chooses the link, and does not complete short names.
	search := append([]string{}, c.Search...)
	for _, n := range c.Domains {
		// One that is both is sent once, as the one to search, which chooses the link as well:
		// systemd-resolved heeds the last.
		if !slices.Contains(c.Search, n) {
			search = append(search, "~"+n)
		}
	}
	priority := nmSplit
	if c.all() {
		search, priority = append(search, "~."), nmAll
	}
	families := map[string]any{}
	if len(v4) > 0 {
		families["ipv4"] = v4
	}
	if len(v6) > 0 {
		families["ipv6"] = v6
	}
	for family, servers := range families {
		s[family]["dns"] = dbus.MakeVariant(servers)
		s[family]["dns-search"] = dbus.MakeVariant(search)
		s[family]["dns-priority"] = dbus.MakeVariant(priority)
	}
}

// nmBare makes settings that were read fit to be applied: without our resolvers, without old names
// for what is there under new ones, and with the IPv6 addresses of the link, which NetworkManager
// would take away. Servers of IPv6 are only taken with a method that asks routers; the link has none,
// and what they would say is refused.
func nmBare(s nmSettings, addresses []net.Addr) {
	for _, family := range []string{"ipv4", "ipv6"} {
		if s[family] == nil {
			s[family] = map[string]dbus.Variant{}
		}
		for _, name := range []string{"addresses", "routes", "dns", "dns-data", "dns-search", "dns-priority"} {
			delete(s[family], name)
		}
	}
	var own []map[string]dbus.Variant
	for _, a := range addresses {
		p, ok := a.(*net.IPNet)
		if !ok || p.IP.To4() != nil || p.IP.IsLinkLocalUnicast() {
			continue
		}
		length, _ := p.Mask.Size()
		own = append(own, map[string]dbus.Variant{
			"address": dbus.MakeVariant(p.IP.String()),
			"prefix":  dbus.MakeVariant(uint32(length)),
		})
	}
	v6 := s["ipv6"]
	v6["method"] = dbus.MakeVariant("auto")
	if len(own) > 0 {
		v6["address-data"] = dbus.MakeVariant(own)
	}
	for _, name := range []string{"ignore-auto-routes", "ignore-auto-dns", "never-default"} {
		v6[name] = dbus.MakeVariant(true)
	}
}
