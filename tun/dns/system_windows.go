package dns

import (
	"errors"
	"fmt"
	"unsafe"

	"go.uber.org/zap"
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

type nt struct{ log *zap.Logger }

func newSystem(log *zap.Logger) system { return nt{log} }

func (nt) decide() (decision, error) {
	d := decision{Manner: "nrpt", Splits: true, Reasons: []string{"Windows has one way"}}
	if len(ruleRoots()) > 1 {
		d.Reasons = append(d.Reasons, "there are rules of a group policy, which replace local ones: ours stand among both")
	}
	return d, nil
}

func (s nt) manner(n note) (manner, error) { return nrpt{n.Device, s.log}, nil }

func (s nt) sweep(alive func(string) bool) error {
	return removeRules(func(device string) bool { return !alive(device) })
}

// ruleRoots are the keys below which our rules stand: where a group policy has some, local ones
// do not count.
func ruleRoots() []string {
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, policyRules, registry.QUERY_VALUE)
	if err != nil {
		return []string{localRules}
	}
	k.Close()
	return []string{localRules, policyRules}
}

// nrpt is the manner of Windows. Values of the interface go with it.
type nrpt struct {
	device string
	log    *zap.Logger
}

func (n nrpt) set(c Config) error {
	guid, err := interfaceGUID(c.Device)
	if err != nil {
		return &Error{"set the resolvers of " + c.Device, err, "the device must be there before them"}
	}
	if err := removeRules(func(device string) bool { return device == c.Device }); err != nil {
		return err
	}
	values := interfaceValues(guid, c)
	for _, root := range ruleRoots() {
		values = append(values, nrptRules(root, c)...)
	}
	for _, v := range values {
		if err := write(v); err != nil {
			return &Error{fmt.Sprintf("write %v to the registry", v), err, "run as administrator"}
		}
	}
	n.refresh()
	return nil
}

func (n nrpt) undo() error {
	err := removeRules(func(device string) bool { return device == n.device })
	if guid, gone := interfaceGUID(n.device); gone == nil {
		for _, v := range interfaceValues(guid, Config{Device: n.device}) {
			err = errors.Join(err, write(v))
		}
	}
	n.refresh()
	return err
}

func write(v value) error {
	k, _, err := registry.CreateKey(registry.LOCAL_MACHINE, v.Key, registry.SET_VALUE)
	if err != nil {
		return err
	}
	switch data := v.Data.(type) {
	case uint32:
		err = k.SetDWordValue(v.Name, data)
	case string:
		err = k.SetStringValue(v.Name, data)
	case []string:
		err = k.SetStringsValue(v.Name, data)
	}
	return errors.Join(err, k.Close())
}

// removeRules removes those of ours whose device is chosen.
func removeRules(chosen func(device string) bool) error {
	var failed []error
	for _, root := range ruleRoots() {
		k, err := registry.OpenKey(registry.LOCAL_MACHINE, root, registry.ENUMERATE_SUB_KEYS)
		if err != nil {
			continue // there are no rules
		}
		names, err := k.ReadSubKeyNames(-1)
		failed = append(failed, err, k.Close())
		for _, name := range names {
			device := ruleDevice(name)
			if device == "" || !chosen(device) {
				continue
			}
			if err := registry.DeleteKey(registry.LOCAL_MACHINE, root+`\`+name); err != nil {
				failed = append(failed, &Error{`remove the rule ` + root + `\` + name, err, "run as administrator"})
			}
		}
	}
	return errors.Join(failed...)
}

// refresh has Windows read the rules of policies again and forget old answers.
func (n nrpt) refresh() {
	if len(ruleRoots()) > 1 {
		const machine, force = 1, 1 // RP_FORCE
		if p := windows.NewLazySystemDLL("userenv.dll").NewProc("RefreshPolicyEx"); p.Find() == nil {
			if ok, _, err := p.Call(machine, force); ok == 0 {
				n.log.Warn("rules of policies may count only later", zap.Error(err))
			}
		}
	}
	if p := windows.NewLazySystemDLL("dnsapi.dll").NewProc("DnsFlushResolverCache"); p.Find() == nil {
		_, _, _ = p.Call() // old answers go when their time is over
	}
}

// interfaceGUID is the name of the interface in the registry.
func interfaceGUID(device string) (string, error) {
	size := uint32(15000) // what Microsoft's page tells to begin with
	for range 5 {
		buf := make([]byte, size)
		first := (*windows.IpAdapterAddresses)(unsafe.Pointer(&buf[0]))
		err := windows.GetAdaptersAddresses(windows.AF_UNSPEC, windows.GAA_FLAG_SKIP_UNICAST|windows.GAA_FLAG_SKIP_ANYCAST|windows.GAA_FLAG_SKIP_MULTICAST|windows.GAA_FLAG_SKIP_DNS_SERVER, 0, first, &size)
		if errors.Is(err, windows.ERROR_BUFFER_OVERFLOW) {
			continue
		}
		if err != nil {
			return "", err
		}
		for a := first; a != nil; a = a.Next {
			if windows.UTF16PtrToString(a.FriendlyName) == device {
				return windows.BytePtrToString(a.AdapterName), nil
			}
		}
		break
	}
	return "", fmt.Errorf("there is no interface %s", device)
}
