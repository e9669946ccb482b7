package dns

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"

	"go.uber.org/zap"
)

type darwin struct{ log *zap.Logger }

func newSystem(log *zap.Logger) system { return darwin{log} }

func (darwin) decide() (decision, error) {
	return decision{Manner: "scutil", Splits: true, Reasons: []string{"macOS has one way"}}, nil
}

func (darwin) manner(n note) (manner, error) { return scutil{n.Device}, nil }

func (d darwin) sweep(alive func(string) bool) error {
	cmd := exec.Command("/usr/sbin/scutil")
	cmd.Stdin = strings.NewReader("open\nlist State:/Network/Service/martlet-.*\nquit\n")
	out, err := cmd.Output()
	if err != nil {
		return &Error{What: "list the resolvers of networks with scutil", Err: err}
	}
	var failed []error
	for _, device := range scutilDevices(string(out)) {
		if !alive(device) {
			d.log.Info("removing the resolvers that a killed program set", zap.String("device", device))
			failed = append(failed, tell(scutilRemove(device)))
		}
	}
	failed = append(failed, removeResolverFiles("/", func(device, _ string) bool { return !alive(device) }))
	return errors.Join(failed...)
}

// scutil is the manner of macOS.
type scutil struct{ device string }

func (scutil) set(c Config) error {
	if err := writeResolverFiles("/", c); err != nil {
		return err
	}
	return tell(scutilSet(c))
}

func (s scutil) undo() error {
	return errors.Join(
		tell(scutilRemove(s.device)),
		removeResolverFiles("/", func(device, _ string) bool { return device == s.device }),
	)
}

// tell has scutil do it. It ends well whatever it was told, and says on its output what it refused.
func tell(text string) error {
	cmd := exec.Command("/usr/sbin/scutil")
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	if err == nil && bytes.Contains(out, []byte("Permission denied")) {
		err = errors.New("permission denied")
	}
	if err != nil {
		return &Error{"set the resolvers with scutil", err, "run as root"}
	}
	// Old answers are dropped; when that fails they are dropped when their time is over.
	_ = exec.Command("/usr/bin/dscacheutil", "-flushcache").Run()
	return nil
}
