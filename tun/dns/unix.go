//go:build unix && !darwin

package dns

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"

	"go.uber.org/zap"

	"martlet/tun/platform"
)

// unixSystem is a Linux or BSD host.
type unixSystem struct {
	root string // before /etc; "" but for tests
	bus  string // address of the D-Bus; "" is the system's
	log  *zap.Logger
}

func newSystem(log *zap.Logger) system { return &unixSystem{log: log} }

func (s *unixSystem) path(name string) string { return filepath.Join("/", s.root, name) }

func (s *unixSystem) conf() conf {
	b, err := readFile(s.path("etc/resolv.conf"), maxConf)
	if err != nil {
		return conf{Owner: ownerUnknown}
	}
	return parseConf(string(b))
}

func (s *unixSystem) decide() (decision, error) {
	e, err := s.observe()
	if err != nil {
		return decision{}, err
	}
	return decide(e), nil
}

func (s *unixSystem) manner(n note) (manner, error) {
	switch n.Manner {
	case mannerFile:
		return newFile(s.path("etc/resolv.conf"), n.Device, s.log), nil
	case mannerDebian:
		return &program{func(c Config) command { return debianAdd(c, n.Record) }, debianRemove(n.Record), s.conf, s.log}, nil
	case mannerOpenresolv, mannerLocal:
		add := func(c Config) command { return openresolvAdd(c, n.Record, n.Manner == mannerLocal) }
		return &program{add, openresolvRemove(n.Record), s.conf, s.log}, nil
	}
	return s.own(n)
}

// unknownManner is for the note of another version.
func unknownManner(n note) error {
	return fmt.Errorf("dns: manner %q is not one of this system", n.Manner)
}

func (s *unixSystem) sweep(alive func(string) bool) error {
	return sweepFile(s.path("etc/resolv.conf"), alive, s.log)
}

// lookAround sees what does not depend on the system.
func (s *unixSystem) lookAround(e *environment) {
	b, err := readFile(s.path("etc/resolv.conf"), maxConf)
	e.Missing = err != nil
	e.Conf = parseConf(string(b))
	if order, err := readFile(s.path("etc/resolvconf/interface-order"), maxConf); err == nil {
		e.Prefix = debianPrefix(string(order))
	}
	if _, err := exec.LookPath("resolvconf"); err == nil {
		out, err := platform.Run("", "resolvconf", "--version")
		code := 0
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			code = exit.ExitCode()
		}
		e.Resolvconf = resolvconfFlavour(out, code)
	}
}
