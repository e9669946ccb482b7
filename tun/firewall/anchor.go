package firewall

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// pfctl runs pfctl(8) with a text on its standard input, and returns what it prints on both outputs.
type pfctl func(text string, args ...string) (string, error)

// anchored is the Firewall where the packet filter is pf: an anchor of ours, which the main ruleset
// calls.
type anchored struct {
	grammar
	log        *zap.Logger
	run        pfctl
	user       int                          // our effective user ID
	interfaces func(device string) []string // those that are there, but the loopback and the device

	mu     sync.Mutex
	device string // whose anchor is in force, "" without one
	label  string // of it
	text   string // of it
	told   string // what was warned of
}

func (f *anchored) Set(r Rules) error {
	if err := errors.Join(r.check(), r.checkPF()); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if ready, err := f.called(r); err != nil || !ready {
		return err
	}
	label := f.label
	if f.device != r.Device {
		label = labelOf(f.show("-a", f.anchor(r.Device), "-s", "rules")) // of a killed process
	}
	kept := label != "" && f.enabled()
	if !kept {
		var err error
		if label, err = f.enable(); err != nil {
			return err
		}
	}
	text := f.pf(r, around{f.user, f.interfaces(r.Device), r.hole() && time.Now().Before(r.HoleUntil), label})
	if err := f.load(r.Device, text); err != nil {
		if !kept {
			err = errors.Join(err, f.disable(label))
		}
		return err
	}
	if f.device != "" && f.device != r.Device {
		if err := f.remove(f.device, f.label); err != nil {
			return err
		}
	}
	f.device, f.label = r.Device, label
	if r.KillSwitch && text != f.text {
		// Packets of connections that pf knows meet no rule.
		if _, err := f.run("", "-F", "states"); err != nil {
			return err
		}
	}
	f.text = text
	f.log.Debug("firewall set", zap.String("anchor", f.anchor(r.Device)), zap.String("rules", text))
	return nil
}

// called tells whether the main ruleset calls our anchor, and warns of what goes past it. Where it does
// not call it there is no kill switch and no translation; the rest is protection that the tunnel can
// do without.
func (f *anchored) called(r Rules) (bool, error) {
	needed := r.KillSwitch || len(r.Masquerade) > 0
	rules, err := f.run("", "-s", "rules")
	nat := ""
	if err == nil && len(r.Masquerade) > 0 && !f.natTo {
		nat, err = f.run("", "-s", "nat")
	}
	if lines := f.missing(r, rules, nat); err == nil && len(lines) > 0 {
		err = fmt.Errorf("firewall: the main ruleset of pf does not call our anchor: put into /etc/pf.conf, each as the first line of its kind, %s; then load it: pfctl -f /etc/pf.conf", strings.Join(lines, " and "))
	}
	switch {
	case err != nil && needed:
		return false, err
	case err != nil:
		f.warn("the tunnel goes without a packet filter, which it can: nothing is dropped that comes to its addresses by other ways", zap.Error(err))
		return false, nil
	}
	if rule := f.early(r.Device, rules); rule != "" && r.KillSwitch {
		f.warn("a rule of pf.conf lets packets go past the kill switch: put the anchor before it, or take quick out of it", zap.String("rule", rule))
	}
	return true, nil
}

// warn says the same once.
func (f *anchored) warn(what string, field zap.Field) {
	if said := fmt.Sprint(what, field); f.told != said {
		f.told = said
		f.log.Warn(what, field)
	}
}

// Clear takes the anchor's rules away, with which the anchor goes.
func (f *anchored) Clear() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.device == "" {
		return nil
	}
	if err := f.remove(f.device, f.label); err != nil {
		return err
	}
	f.device, f.label, f.text = "", "", ""
	return nil
}

func (f *anchored) Leave() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.device, f.label, f.text = "", "", ""
	return nil
}

// recover removes anchors of ours whose interface is not alive, but that of keep.
func (f *anchored) recover(keep string, alive func(device string) bool) (found bool, err error) {
	devices, err := f.devices()
	if err != nil {
		return false, err
	}
	for _, device := range devices {
		if device == keep || alive(device) {
			continue
		}
		anchor := f.anchor(device)
		f.log.Info("removing the rules of a killed process", zap.String("anchor", anchor))
		err = errors.Join(err, f.remove(device, labelOf(f.show("-a", anchor, "-s", "rules"))))
		found = true
	}
	return found, err
}

func (f *anchored) remove(device, label string) error {
	if err := f.load(device, ""); err != nil {
		return err
	}
	return f.disable(label)
}

// load replaces the rules of a device's anchor at once.
func (f *anchored) load(device, text string) error {
	_, err := f.run(text, "-a", f.anchor(device), "-f", "-")
	return err
}

// show is run for what need not be there.
func (f *anchored) show(args ...string) string {
	text, err := f.run("", args...)
	if err != nil {
		return ""
	}
	return text
}

// devices are those with an anchor of ours. A host without pf has none.
func (f *anchored) devices() ([]string, error) {
	text, err := f.run("", "-a", f.parent, "-s", "Anchors")
	if err != nil {
		if denied(err) {
			return nil, err
		}
		return nil, nil
	}
	var out []string
	for l := range strings.Lines(text) {
		if device := f.grammar.device(strings.TrimSpace(l)); device != "" {
			out = append(out, device)
		}
	}
	return out, nil
}

// What the label of an anchor says, so that whoever removes it can undo what was done for it, a later
// process too.
const (
	labelPlain = "martlet"           // nothing
	labelOff   = "martlet was off"   // pf was not enabled before
	labelToken = "martlet token "    // the token of pfctl -E follows
	tokenSays  = `Token\s*:\s*(\d+)` // how it is told
)

var (
	labelIn = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`label "(martlet(?: was off| token \d{1,32})?)"`) })
	tokenIn = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(tokenSays) })
)

// labelOf is the label of an anchor, by its rules.
func labelOf(rules string) string {
	if m := labelIn().FindStringSubmatch(rules); m != nil {
		return m[1]
	}
	return ""
}

func (f *anchored) enabled() bool { return strings.Contains(f.show("-s", "info"), "Status: Enabled") }

// enable enables pf and returns the label that tells how to undo it.
func (f *anchored) enable() (label string, err error) {
	if f.tokens {
		said, err := f.run("", "-E")
		if err != nil {
			return "", err
		}
		if m := tokenIn().FindStringSubmatch(said); m != nil && len(m[1]) <= 32 {
			return labelToken + m[1], nil
		}
		return labelPlain, nil // it stays enabled
	}
	if f.enabled() {
		return labelPlain, nil
	}
	if _, err := f.run("", "-e"); err != nil {
		return "", err
	}
	return labelOff, nil
}

// disable undoes enable. While another anchor of ours is there pf stays on, and then for good.
func (f *anchored) disable(label string) error {
	var err error
	if token, ok := strings.CutPrefix(label, labelToken); ok {
		_, err = f.run("", "-X", token)
	} else if label == labelOff {
		if others, _ := f.devices(); len(others) == 0 {
			_, err = f.run("", "-d")
		}
	}
	return err
}

// denied tells whether pfctl was refused its device.
func denied(err error) bool {
	return strings.Contains(err.Error(), "ermission denied") || strings.Contains(err.Error(), "not permitted")
}
