package dns

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
)

const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
`

// startBus starts a bus of our own and tells its address.
func startBus(t *testing.T) string {
	t.Helper()
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("no dbus-daemon is installed")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "bus.conf")
	put(t, config, fmt.Sprintf(busConfig, filepath.Join(dir, "bus")))
	cmd := exec.Command(daemon, "--config-file="+config, "--nofork", "--nopidfile", "--print-address")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	address, _, _ := strings.Cut(strings.TrimSpace(line), ",guid=")
	return address
}

func connectTo(t *testing.T, address string) *dbus.Conn {
	t.Helper()
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // a test may have closed it
	return conn
}

// service is one on the bus that records how it is called.
type service struct {
	mu     sync.Mutex
	calls  []string
	errors map[string]string // by method, the name of the error that it ends with
	// properties by interface and name
	properties map[string]dbus.Variant
	applied    nmSettings // what NetworkManager has for the link
}

func (s *service) did(method string, args ...any) *dbus.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	b.WriteString(method)
	for _, a := range args {
		fmt.Fprintf(&b, " %v", a)
	}
	s.calls = append(s.calls, b.String())
	if name, ok := s.errors[method]; ok {
		return dbus.NewError(name, []any{"as the test wants"})
	}
	return nil
}

// fail has a method end with an error from now on.
func (s *service) fail(method, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errors[method] = name
}

// show gives a property from now on.
func (s *service) show(name string, v any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.properties[name] = dbus.MakeVariant(v)
}

// taken returns the calls since the last time.
func (s *service) taken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := strings.Join(s.calls, "\n")
	s.calls = nil
	return out
}

// export gives the methods to the bus under an interface, and the name to the service.
func (s *service) export(t *testing.T, conn *dbus.Conn, methods map[string]any, path dbus.ObjectPath, iface string) {
	t.Helper()
	if err := conn.ExportMethodTable(methods, path, iface); err != nil {
		t.Fatal(err)
	}
	get := map[string]any{"Get": func(iface, name string) (dbus.Variant, *dbus.Error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		v, ok := s.properties[iface+"."+name]
		if !ok {
			return v, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", nil)
		}
		return v, nil
	}}
	if err := conn.ExportMethodTable(get, path, "org.freedesktop.DBus.Properties"); err != nil {
		t.Fatal(err)
	}
}

func own(t *testing.T, conn *dbus.Conn, name string) {
	t.Helper()
	if reply, err := conn.RequestName(name, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal(reply, err)
	}
}

// startResolved is a systemd-resolved with the methods of version 254, less the ones named.
func startResolved(t *testing.T, conn *dbus.Conn, without ...string) *service {
	t.Helper()
	s := &service{errors: map[string]string{}, properties: map[string]dbus.Variant{}}
	methods := map[string]any{
		"SetLinkDNS":          func(i int32, v []linkDNS) *dbus.Error { return s.did("SetLinkDNS", i, v) },
		"SetLinkDomains":      func(i int32, v []linkDomain) *dbus.Error { return s.did("SetLinkDomains", i, v) },
		"SetLinkDefaultRoute": func(i int32, v bool) *dbus.Error { return s.did("SetLinkDefaultRoute", i, v) },
		"SetLinkLLMNR":        func(i int32, v string) *dbus.Error { return s.did("SetLinkLLMNR", i, v) },
		"SetLinkMulticastDNS": func(i int32, v string) *dbus.Error { return s.did("SetLinkMulticastDNS", i, v) },
		"SetLinkDNSOverTLS":   func(i int32, v string) *dbus.Error { return s.did("SetLinkDNSOverTLS", i, v) },
		"FlushCaches":         func() *dbus.Error { return s.did("FlushCaches") },
		"RevertLink":          func(i int32) *dbus.Error { return s.did("RevertLink", i) },
	}
	for _, m := range without {
		delete(methods, m)
	}
	s.export(t, conn, methods, resolvedPath, resolvedName+".Manager")
	own(t, conn, resolvedName)
	return s
}

const nmDevice = nmPath + "/Devices/7"

// startNM is a NetworkManager of some version, with a link that it found as it is.
func startNM(t *testing.T, conn *dbus.Conn, version string) *service {
	t.Helper()
	s := &service{
		errors: map[string]string{},
		properties: map[string]dbus.Variant{
			nmName + ".Version":         dbus.MakeVariant(version),
			nmName + ".DnsManager.Mode": dbus.MakeVariant("systemd-resolved"),
		},
		applied: nmSettings{
			"connection": {"id": dbus.MakeVariant("lo")},
			"ipv4":       {"method": dbus.MakeVariant("manual"), "addresses": dbus.MakeVariant("old name"), "dns-search": dbus.MakeVariant([]string{"of before"}), "dns-data": dbus.MakeVariant([]string{"192.0.2.9"})},
			"ipv6":       {"method": dbus.MakeVariant("link-local"), "routes": dbus.MakeVariant("old name")},
		},
	}
	s.export(t, conn, map[string]any{
		"GetDeviceByIpIface": func(name string) (dbus.ObjectPath, *dbus.Error) {
			return nmDevice, s.did("GetDeviceByIpIface", name)
		},
	}, nmPath, nmName)
	s.export(t, conn, map[string]any{}, nmPath+"/DnsManager", nmName+".DnsManager")
	s.export(t, conn, map[string]any{
		"GetAppliedConnection": func(flags uint32) (nmSettings, uint64, *dbus.Error) {
			return s.applied, 41, s.did("GetAppliedConnection", flags)
		},
		"Reapply": func(v nmSettings, version uint64, flags uint32) *dbus.Error {
			return s.did("Reapply", nmText(v), version, flags)
		},
	}, nmDevice, nmName+".Device")
	own(t, conn, nmName)
	return s
}

// onBus is a host with a bus, whose /etc/resolv.conf names systemd-resolved.
func onBus(t *testing.T) (s *unixSystem, services *dbus.Conn, log func() string) {
	t.Helper()
	logger, text := logs()
	daemon := os.Getenv("PATH")
	s, path := etc(t, logger)
	t.Setenv("PATH", daemon)
	s.bus = startBus(t)
	put(t, path, stubConf)
	return s, connectTo(t, s.bus), text
}

const toldEverything = `SetLinkDNS 1 [{2 [10 1 0 53]} {10 [253 0 0 1 0 0 0 0 0 0 0 0 0 0 0 83]}]
SetLinkDomains 1 [{corp.example false} {. true}]
SetLinkDefaultRoute 1 true
SetLinkLLMNR 1 no
SetLinkMulticastDNS 1 no
SetLinkDNSOverTLS 1 no
FlushCaches`

const toldSplit = `SetLinkDNS 1 [{2 [10 1 0 53]} {10 [253 0 0 1 0 0 0 0 0 0 0 0 0 0 0 83]}]
SetLinkDomains 1 [{corp.example false} {eu.corp.example false} {lab.example true}]
SetLinkDefaultRoute 1 false
SetLinkLLMNR 1 no
SetLinkMulticastDNS 1 no
SetLinkDNSOverTLS 1 no
FlushCaches`

func same(t *testing.T, want, got string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestResolvedIsTold(t *testing.T) {
	s, conn, _ := onBus(t)
	service := startResolved(t, conn)
	h := begin(t, s, t.TempDir(), s.log)
	same(t, mannerResolved, h.decision.Manner)
	set(t, h, everything())
	same(t, toldEverything, service.taken())
	set(t, h, split())
	same(t, toldSplit, service.taken())
	end(t, h)
	same(t, "RevertLink 1", service.taken())
	same(t, stubConf, get(t, s.path("etc/resolv.conf")))
}

func TestOldResolvedIsToldWhatItKnows(t *testing.T) {
	s, conn, _ := onBus(t)
	service := startResolved(t, conn, "SetLinkDefaultRoute", "SetLinkDNSOverTLS")
	h := begin(t, s, "", s.log)
	set(t, h, everything())
	same(t, strings.NewReplacer("SetLinkDefaultRoute 1 true\n", "", "SetLinkDNSOverTLS 1 no\n", "").Replace(toldEverything), service.taken())
}

func TestResolvedThatIsStartedAgainIsToldAgain(t *testing.T) {
	s, conn, _ := onBus(t)
	startResolved(t, conn)
	h := begin(t, s, "", s.log)
	set(t, h, split())
	if _, err := conn.ReleaseName(resolvedName); err != nil {
		t.Fatal(err)
	}
	second := startResolved(t, connectTo(t, s.bus))
	var told []string
	until(func() bool {
		if calls := second.taken(); calls != "" {
			told = append(told, calls)
		}
		return strings.HasSuffix(strings.Join(told, "\n"), "FlushCaches")
	})
	same(t, toldSplit, strings.Join(told, "\n"))
	end(t, h)
	same(t, "RevertLink 1", second.taken())
}

func TestResolvedThatIsGoneNeedsNoUndoing(t *testing.T) {
	s, conn, _ := onBus(t)
	startResolved(t, conn)
	h := begin(t, s, "", s.log)
	set(t, h, split())
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	end(t, h)
}

func TestLinkIsRevertedAfterKill(t *testing.T) {
	s, conn, _ := onBus(t)
	service := startResolved(t, conn)
	state := t.TempDir()
	h := begin(t, s, state, s.log)
	set(t, h, everything())
	service.taken()
	if err := recoverAll(s, state, s.log); err != nil {
		t.Fatal(err)
	}
	same(t, "", service.taken()) // it lives
	if err := h.note.release(); err != nil {
		t.Fatal(err)
	}
	h.note = nil
	if err := recoverAll(s, state, s.log); err != nil {
		t.Fatal(err)
	}
	same(t, "RevertLink 1", service.taken())
}

func TestDomainsOfOtherLinksAreToldOf(t *testing.T) {
	type domain struct {
		Index     int32
		Name      string
		RouteOnly bool
	}
	s, conn, text := onBus(t)
	service := startResolved(t, conn)
	service.show(resolvedName+".Manager.Domains", []domain{{1, ".", true}, {2, "lan", false}})
	h := begin(t, s, "", s.log)
	set(t, h, split())
	if strings.Contains(text(), "warn ") {
		t.Error(text())
	}
	set(t, h, everything())
	if !strings.Contains(text(), "warn names in some domains do not go to the resolvers of the tunnel") {
		t.Error(text())
	}
}

func TestRefusalOfResolvedIsExplained(t *testing.T) {
	s, conn, _ := onBus(t)
	service := startResolved(t, conn)
	h := begin(t, s, "", s.log)
	for name, hint := range map[string]string{
		"org.freedesktop.DBus.Error.AccessDenied": "; run as root",
		resolvedName + ".LinkBusy":                "; systemd-networkd manages the link: add a file in /etc/systemd/network with [Match] Name=lo and [Link] Unmanaged=yes",
		resolvedName + ".Other":                   "; see resolvectl status lo and the journal of systemd-resolved",
	} {
		service.fail("SetLinkDomains", name)
		err := h.Set(everything())
		if want := "dns: set the resolvers of lo (SetLinkDomains of systemd-resolved): as the test wants" + hint; err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	c := everything()
	c.Device = "martlet-none"
	if err := h.Set(c); err == nil || !strings.Contains(err.Error(), "the device must be there before them") {
		t.Errorf("%v", err)
	}
}

func TestWhatIsSeenOfAHost(t *testing.T) {
	s, conn, _ := onBus(t)
	startResolved(t, conn)
	startNM(t, conn, "1.44.2")
	put(t, s.path("etc/nsswitch.conf"), "hosts: files resolve dns\n")
	got, err := s.observe()
	got.Resolvconf = "" // of this machine
	want := environment{Conf: conf{ownerResolved, addrs("127.0.0.53")}, Resolved: true, NSS: true, NM: "1.44.2", NMMode: "systemd-resolved"}
	if fmt.Sprint(got) != fmt.Sprint(want) || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestResolvedOfAnotherNamespaceIsNotTold(t *testing.T) {
	s, conn, _ := onBus(t)
	startResolved(t, conn)
	inNamespace(t, func() {
		if e, err := s.observe(); !e.Resolved || !e.ResolvedElsewhere {
			t.Errorf("%+v, %v", e, err)
		}
	})
	if e, err := s.observe(); !e.Resolved || e.ResolvedElsewhere {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestNetworkManagerIsTold(t *testing.T) {
	s, conn, _ := onBus(t)
	startResolved(t, conn)
	service := startNM(t, conn, "1.26.2")
	h := begin(t, s, t.TempDir(), zap.NewNop())
	same(t, mannerNM, h.decision.Manner)
	set(t, h, everything())
	same(t, `GetDeviceByIpIface lo
GetAppliedConnection 0
Reapply connection.id="lo"
ipv4.dns=@au [889192714]
ipv4.dns-priority=-10
ipv4.dns-search=["corp.example", "~."]
ipv4.method="manual"
ipv6.address-data=[{"address": <"::1">, "prefix": <@u 128>}]
ipv6.dns=@aay [[0xfd, 0x0, 0x0, 0x1, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0, 0x53]]
ipv6.dns-priority=-10
ipv6.dns-search=["corp.example", "~."]
ipv6.ignore-auto-dns=true
ipv6.ignore-auto-routes=true
ipv6.method="auto"
ipv6.never-default=true 41 0`, service.taken())
	c := split()
	c.Servers = addrs("10.1.0.53")
	set(t, h, c)
	same(t, `GetDeviceByIpIface lo
GetAppliedConnection 0
Reapply connection.id="lo"
ipv4.dns=@au [889192714]
ipv4.dns-priority=50
ipv4.dns-search=["corp.example", "eu.corp.example", "~lab.example"]
ipv4.method="manual"
ipv6.address-data=[{"address": <"::1">, "prefix": <@u 128>}]
ipv6.ignore-auto-dns=true
ipv6.ignore-auto-routes=true
ipv6.method="auto"
ipv6.never-default=true 41 0`, service.taken())
	end(t, h)
	same(t, `GetDeviceByIpIface lo
GetAppliedConnection 0
Reapply connection.id="lo"
ipv4.method="manual"
ipv6.address-data=[{"address": <"::1">, "prefix": <@u 128>}]
ipv6.ignore-auto-dns=true
ipv6.ignore-auto-routes=true
ipv6.method="auto"
ipv6.never-default=true 41 0`, service.taken())
}

func TestNetworkManagerHasForgottenALinkThatIsGone(t *testing.T) {
	s, conn, _ := onBus(t)
	startResolved(t, conn)
	service := startNM(t, conn, "1.26.2")
	h := begin(t, s, t.TempDir(), zap.NewNop())
	set(t, h, everything())
	service.fail("GetDeviceByIpIface", nmName+".UnknownDevice")
	if err := h.Set(everything()); err == nil || !strings.Contains(err.Error(), "update NetworkManager: from 1.26.6 it need not be asked") {
		t.Errorf("%v", err)
	}
	end(t, h)
}
