package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tailscale/wf"
	"go.uber.org/zap"
	"golang.org/x/sys/windows"
)

// provider owns all that is ours, by which a later process finds it.
var provider = wf.ProviderID{
	Data1: 0x07a3ff39, Data2: 0xa675, Data3: 0x4360, Data4: [8]byte{0xb6, 0x06, 0x92, 0x08, 0xef, 0xd8, 0xe4, 0xb4},
}

// maxFilters bounds what is believed of a sublayer about itself.
const maxFilters = 1 << 16

// New makes a Firewall; log may be nil.
func New(log *zap.Logger) Firewall {
	if log == nil {
		log = zap.NewNop()
	}
	return &platform{log: log}
}

// platform keeps the filters of one Set in a sublayer of their own. The library knows no transactions:
// the next Set adds another sublayer and then removes the former one, and while both are there a packet
// passes if neither blocks it.
type platform struct {
	log *zap.Logger

	mu     sync.Mutex
	device string // whose filters are in force, "" without any
}

func (p *platform) Set(r Rules) error {
	if err := errors.Join(r.check(), r.checkWFP()); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	host, err := lookAround(r)
	if err != nil {
		return failed("look at this host", err)
	}
	filters := r.wfp(host)
	err = session(func(s *wf.Session) error {
		former, err := sublayers(s, func(device string) bool { return device == r.Device || device == p.device })
		if err != nil {
			return failed("list sublayers", err)
		}
		if err := s.AddProvider(&wf.Provider{ID: provider, Name: "Martlet", Persistent: true}); err != nil && !is(err, windows.FWP_E_ALREADY_EXISTS) {
			return failed("add the provider", err)
		}
		if err := add(s, r.Device, filters); err != nil {
			return err
		}
		p.device = r.Device
		for _, f := range former {
			err = errors.Join(err, remove(s, f))
		}
		return err
	})
	if err != nil {
		return err
	}
	p.log.Debug("firewall set", zap.Stringers("filters", filters))
	return nil
}

func (p *platform) Clear() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.device == "" {
		return nil
	}
	if _, err := removeAll(func(device string) bool { return device == p.device }); err != nil {
		return err
	}
	p.device = ""
	return nil
}

func (p *platform) Leave() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.device = ""
	return nil
}

// Recover removes the filters of ours whose interface does not exist, and tells whether there were
// any: a TUN vanishes with its process, the filters of a killed process stay. Those of the device keep
// are spared, which may be about to be opened.
func Recover(keep string, log *zap.Logger) (found bool, err error) {
	if log == nil {
		log = zap.NewNop()
	}
	return removeAll(func(device string) bool {
		if device == keep {
			return false
		}
		if _, err := net.InterfaceByName(device); err == nil {
			return false
		}
		log.Info("removing the filters of a killed process", zap.String("device", device))
		return true
	})
}

// removeAll removes the sublayers of the devices that are chosen, and our provider with the last one.
func removeAll(chosen func(device string) bool) (found bool, err error) {
	err = session(func(s *wf.Session) error {
		list, err := sublayers(s, chosen)
		if err != nil {
			return failed("list sublayers", err)
		}
		for _, l := range list {
			err = errors.Join(err, remove(s, l))
		}
		if found = len(list) > 0; !found || err != nil {
			return err
		}
		if err := s.DeleteProvider(provider); err != nil && !is(err, windows.FWP_E_IN_USE) {
			return failed("remove the provider", err)
		}
		return nil
	})
	return found, err
}

// session opens one that is not dynamic: what is added in a dynamic one goes with its process.
func session(do func(*wf.Session) error) error {
	s, err := wf.New(&wf.Options{Name: "Martlet"})
	if err != nil {
		return failed("open the filtering platform", err)
	}
	return errors.Join(do(s), s.Close())
}

// sublayers are ours for the devices that are chosen.
func sublayers(s *wf.Session, chosen func(device string) bool) ([]*wf.Sublayer, error) {
	all, err := s.Sublayers(provider)
	if is(err, windows.FWP_E_PROVIDER_NOT_FOUND) {
		return nil, nil
	}
	return slices.DeleteFunc(all, func(l *wf.Sublayer) bool {
		device, ours := strings.CutPrefix(l.Name, TablePrefix)
		return l.Provider != provider || !ours || !chosen(device)
	}), err
}

// add makes a sublayer that tells how many filters it has, and then its filters: those that block all
// else come last. After an error nothing of it is left.
func add(s *wf.Session, device string, filters []filter) error {
	key, err := windows.GenerateGUID()
	if err != nil {
		return failed("draw a key", err)
	}
	l := &wf.Sublayer{
		ID: wf.SublayerID(key), Name: TablePrefix + device, Provider: provider, Persistent: true, Weight: 0xffff,
		ProviderData: binary.BigEndian.AppendUint32(nil, uint32(len(filters))),
	}
	if err := s.AddSublayer(l); err != nil {
		return failed("add a sublayer", err)
	}
	for i, f := range filters {
		rule := &wf.Rule{
			ID: filterKey(l.ID, i), Name: f.name, Layer: layers[f.layer], Sublayer: l.ID, Provider: provider, Persistent: true,
			Weight: uint64(len(filters) - i), Action: wf.ActionPermit,
		}
		if f.block {
			rule.Action = wf.ActionBlock
		}
		for _, c := range f.conditions {
			rule.Conditions = append(rule.Conditions, match(c))
		}
		if err := s.AddRule(rule); err != nil {
			return errors.Join(failed("add the filter "+f.String(), err), remove(s, l))
		}
	}
	return nil
}

// remove removes a sublayer and its filters, beginning with those that block all else: otherwise
// connections would break of what may pass before and after.
func remove(s *wf.Session, l *wf.Sublayer) error {
	if len(l.ProviderData) != 4 {
		return fmt.Errorf("firewall: the sublayer %s does not tell what it has", l.Name)
	}
	for i := int(min(binary.BigEndian.Uint32(l.ProviderData), maxFilters)) - 1; i >= 0; i-- {
		if err := s.DeleteRule(filterKey(l.ID, i)); err != nil && !is(err, windows.FWP_E_FILTER_NOT_FOUND) {
			return failed("remove a filter", err)
		}
	}
	if err := s.DeleteSublayer(l.ID); err != nil && !is(err, windows.FWP_E_SUBLAYER_NOT_FOUND) {
		return failed("remove a sublayer", err)
	}
	return nil
}

// filterKey is that of a filter by its number: the random one of its sublayer, counted on.
func filterKey(l wf.SublayerID, n int) wf.RuleID {
	key := wf.RuleID(l)
	key.Data1 += uint32(n) + 1
	return key
}

func lookAround(r Rules) (windowsHost, error) {
	host := windowsHost{hole: r.hole() && time.Now().Before(r.HoleUntil)}
	path, err := os.Executable()
	if err != nil {
		return host, err
	}
	if host.program, err = wf.AppID(path); err != nil {
		return host, err
	}
	device, err := net.InterfaceByName(r.Device)
	if err != nil {
		return host, nil //nolint:nilerr // a kill switch comes before its device
	}
	row := windows.MibIfRow2{InterfaceIndex: uint32(device.Index)}
	if err := windows.GetIfEntry2Ex(windows.MibIfEntryNormalWithoutStatistics, &row); err != nil {
		return host, err
	}
	host.luid, host.index = row.InterfaceLuid, row.InterfaceIndex
	return host, nil
}

// match is a condition in the library's words.
func match(c condition) *wf.Match {
	op := wf.MatchTypeEqual
	switch {
	case c.field == fieldFlags && c.not:
		op = wf.MatchTypeFlagsNoneSet
	case c.field == fieldFlags:
		op = wf.MatchTypeFlagsAllSet
	case c.not:
		op = wf.MatchTypeNotEqual
	}
	return &wf.Match{Field: fields[c.field], Op: op, Value: c.value}
}

var layers = map[layer]wf.LayerID{
	{layerConnect, 4}: wf.LayerALEAuthConnectV4,
	{layerConnect, 6}: wf.LayerALEAuthConnectV6,
	{layerAccept, 4}:  wf.LayerALEAuthRecvAcceptV4,
	{layerAccept, 6}:  wf.LayerALEAuthRecvAcceptV6,
	{layerForward, 4}: wf.LayerIPForwardV4,
	{layerForward, 6}: wf.LayerIPForwardV6,
	{layerPacket, 4}:  wf.LayerInboundIPPacketV4,
	{layerPacket, 6}:  wf.LayerInboundIPPacketV6,
}

var fields = map[string]wf.FieldID{
	fieldFlags:       wf.FieldFlags,
	fieldProgram:     wf.FieldALEAppID,
	fieldProtocol:    wf.FieldIPProtocol,
	fieldLocalPort:   wf.FieldIPLocalPort,
	fieldRemotePort:  wf.FieldIPRemotePort,
	fieldLocal:       wf.FieldIPLocalAddress,
	fieldRemote:      wf.FieldIPRemoteAddress,
	fieldInterface:   wf.FieldIPLocalInterface,
	fieldArrival:     wf.FieldIPArrivalInterface,
	fieldIndex:       wf.FieldInterfaceIndex,
	fieldSource:      wf.FieldSourceInterfaceIndex,
	fieldDestination: wf.FieldDestinationInterfaceIndex,
}

// is tells whether an error is this one of the platform.
func is(err error, code windows.Handle) bool {
	var number syscall.Errno
	return errors.As(err, &number) && number == syscall.Errno(code)
}

func failed(what string, err error) error {
	hint := ""
	if errors.Is(err, fs.ErrPermission) {
		hint = "; needs Administrator: start from an elevated prompt"
	}
	return fmt.Errorf("firewall: %s: %w%s", what, err, hint)
}
