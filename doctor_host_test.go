package martlet

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"martlet/tun"
	"martlet/tun/netmon/portal"
)

// Each check of the host, on hosts that are made up.
func TestHostChecks(t *testing.T) {
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	good := func() *hostFacts {
		return &hostFacts{
			asks: asks{device: true, name: "martlet0", mark: 0x4d610000}, system: "linux", now: now, may: true,
			login:     &portal.Result{State: portal.Open},
			resolvers: dnsFacts{manner: "resolved", splits: true, because: []string{"systemd-resolved answers"}},
			kernel: &kernelFacts{
				sysctl:   map[string]string{"net/ipv6/conf/all/disable_ipv6": "0", "net/ipv4/ip_forward": "0", "net/ipv4/conf/all/rp_filter": "1"},
				writable: true, defaults: map[bool]string{true: "eth0", false: "eth0"}, links: []string{"lo", "eth0"},
				rules: []ruleFact{{v4: true, table: 255, any: true}, {v4: true, priority: 32766, table: 254, any: true, all: true}},
			},
		}
	}
	for name, tt := range map[string]struct {
		check  func(*hostFacts) []Finding
		change func(*hostFacts)
		want   Result
		text   string
	}{
		"the clock is right":   {checkClock, func(*hostFacts) {}, ResultOK, "2026-12-01 12:00"},
		"the clock is of 1970": {checkClock, func(f *hostFacts) { f.built, f.now = now, time.Unix(0, 0) }, ResultFail, "1970-01-01 00:00, which is before"},
		"a device can be made": {checkDevice, func(*hostFacts) {}, ResultOK, "can be made"},
		"no driver":            {checkDevice, func(f *hostFacts) { f.driver = fs.ErrNotExist }, ResultFail, "no /dev/net/tun"},
		"no wintun.dll": {checkDevice, func(f *hostFacts) {
			f.system, f.driver = "windows", &tun.OpenError{Hint: "put wintun.dll beside this program", Err: fs.ErrNotExist}
		}, ResultFail, "no TUN device"},
		"no administrator":        {checkDevice, func(f *hostFacts) { f.system, f.may = "windows", false }, ResultFail, "administrator"},
		"no driver, and no need":  {checkDevice, func(f *hostFacts) { f.driver, f.device = fs.ErrNotExist, false }, ResultWarn, "no /dev/net/tun"},
		"the driver is forbidden": {checkDevice, func(f *hostFacts) { f.driver = fs.ErrPermission }, ResultFail, "cannot be opened"},
		"no right":                {checkDevice, func(f *hostFacts) { f.may = false }, ResultFail, "CAP_NET_ADMIN"},
		"none runs":               {checkRunning, func(*hostFacts) {}, ResultOK, "no martlet runs"},
		"one was killed":          {checkRunning, func(f *hostFacts) { f.notAsked = refused }, ResultOK, "no martlet runs"},
		"one runs":                {checkRunning, func(f *hostFacts) { f.running = &Status{Version: "1", PID: 7} }, ResultOK, "process 7"},
		"another user's":          {checkRunning, func(f *hostFacts) { f.notAsked = &Error{What: "no martlet answers", Hint: "sudo"} }, ResultWarn, "no martlet answers"},
		"nothing is left":         {checkLeft, func(*hostFacts) {}, ResultOK, "nothing"},
		"a kill switch is left":   {checkLeft, func(f *hostFacts) { f.notAsked, f.kernel.tables = refused, []string{"martlet-martlet0"} }, ResultFail, "table martlet-martlet0 of nftables; a kill switch keeps this host closed"},
		"notes are left":          {checkLeft, func(f *hostFacts) { f.notes = []string{"martlet0.1.dns.json"} }, ResultWarn, "martlet0.1.dns.json"},
		"rules are left":          {checkLeft, func(f *hostFacts) { f.kernel.rules[1].ours = true }, ResultWarn, "protocol 77"},
		"it is in use":            {checkLeft, func(f *hostFacts) { f.running, f.kernel.tables = &Status{}, []string{"martlet-martlet0"} }, ResultSkip, "runs"},
		"both families":           {checkRoutes, func(*hostFacts) {}, ResultOK, "eth0 (IPv4) and eth0 (IPv6)"},
		"no IPv6":                 {checkRoutes, func(f *hostFacts) { delete(f.kernel.defaults, false) }, ResultOK, "no IPv6 from this network"},
		"IPv6 is off": {checkRoutes, func(f *hostFacts) {
			delete(f.kernel.defaults, false)
			f.kernel.sysctl["net/ipv6/conf/all/disable_ipv6"] = "1"
		}, ResultOK, "IPv6 is off"},
		"only IPv6":    {checkRoutes, func(f *hostFacts) { delete(f.kernel.defaults, true) }, ResultWarn, "IPv6 only"},
		"no network":   {checkRoutes, func(f *hostFacts) { f.kernel.defaults = nil }, ResultFail, "no default route"},
		"no other VPN": {checkRules, func(*hostFacts) {}, ResultOK, "none"},
		"wg-quick, whose rules come after ours": {checkRules, func(f *hostFacts) {
			f.kernel.rules = append(f.kernel.rules, ruleFact{v4: true, priority: 32765, mark: 51820, mask: ^uint32(0), invert: true, table: 51820, any: true, all: true})
			f.kernel.links = append(f.kernel.links, "wg0")
		}, ResultOK, "wg0"},
		"Tailscale without an exit node": {checkRules, func(f *hostFacts) {
			f.kernel.rules = append(f.kernel.rules, ruleFact{v4: true, priority: 5270, table: 52, any: true})
		}, ResultOK, "none"},
		"Tailscale with an exit node": {checkRules, func(f *hostFacts) {
			f.kernel.rules = append(f.kernel.rules, ruleFact{v4: true, priority: 5270, table: 52, any: true, all: true})
		}, ResultWarn, "rule 5270 sends all traffic by table 52 (Tailscale)"},
		"somebody has our mark": {checkRules, func(f *hostFacts) {
			f.kernel.rules = append(f.kernel.rules, ruleFact{v4: true, priority: 100, mark: 0x610000, mask: 0xff0000, table: 1000, any: true, all: true})
		}, ResultWarn, "our mark 0x4d610000"},
		"somebody's mark is another": {checkRules, func(f *hostFacts) {
			f.kernel.rules = append(f.kernel.rules, ruleFact{v4: true, priority: 5210, mark: 0x80000, mask: 0xff0000, table: 254, any: true, all: true})
		}, ResultOK, "none"},
		"a rule for one network": {checkRules, func(f *hostFacts) {
			f.kernel.rules = append(f.kernel.rules, ruleFact{v4: true, priority: 100, table: 1000, all: true})
		}, ResultOK, "none"},
		"rules cannot be read": {checkRules, func(f *hostFacts) { f.kernel.rulesErr = syscall.EPERM }, ResultSkip, "cannot be read"},
		"it forwards":          {checkForwarding, func(f *hostFacts) { f.forward, f.kernel.sysctl["net/ipv4/ip_forward"] = true, "1" }, ResultOK, "forwards packets"},
		"it will forward":      {checkForwarding, func(f *hostFacts) { f.forward = true }, ResultOK, "martlet turns it on"},
		"it cannot forward":    {checkForwarding, func(f *hostFacts) { f.forward, f.kernel.writable = true, false }, ResultFail, "cannot be written"},
		"resolvers":            {checkResolvers, func(*hostFacts) {}, ResultOK, "set by resolved: systemd-resolved answers"},
		"all names":            {checkResolvers, func(f *hostFacts) { f.resolvers.splits = false }, ResultOK, "all names go into a tunnel"},
		"no resolvers":         {checkResolvers, func(f *hostFacts) { f.resolvers.err = errors.New("no bus") }, ResultWarn, "no bus"},
		"the filter is open":   {checkFilter, func(*hostFacts) {}, ResultOK, "rp_filter is strict"},
		"others drop":          {checkFilter, func(f *hostFacts) { f.kernel.drops = []string{"what this host sends: chain o of table t"} }, ResultWarn, "chain o of table t"},
		"no nftables":          {checkFilter, func(f *hostFacts) { f.kernel.tableErr = syscall.EOPNOTSUPP }, ResultFail, "no nftables"},
		"not for this user":    {checkFilter, func(f *hostFacts) { f.may, f.kernel.tableErr = false, syscall.EPERM }, ResultSkip, "only root"},
	} {
		f := good()
		tt.change(f)
		one(t, name, tt.check(f), tt.want, tt.text)
	}
	// What only Linux shows is not guessed elsewhere.
	elsewhere := good()
	elsewhere.kernel, elsewhere.forward = nil, true
	for _, check := range hostChecks {
		for _, f := range check(elsewhere) {
			if f.Result == ResultFail || f.Result == ResultSkip && !strings.Contains(f.Text, "Linux") {
				t.Errorf("without Linux: %s", told([]Finding{f}))
			}
		}
	}
	if found := checkForwarding(good()); found != nil {
		t.Errorf("nobody wants to forward: %s", told(found))
	}
}
