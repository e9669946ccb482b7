//go:build unix && !linux && !darwin

package dns

import (
	"os/exec"
	"runtime"
)

func (s *unixSystem) observe() (environment, error) {
	var e environment
	s.lookAround(&e)
	if runtime.GOOS == "openbsd" {
		e.Resolvd = exec.Command("pgrep", "-x", "resolvd").Run() == nil
	}
	return e, nil
}

// own makes the manners that only this system has.
func (s *unixSystem) own(n note) (manner, error) {
	if n.Manner == mannerResolvd {
		// resolvd writes the file in its own time: there is nothing to look at yet.
		return &program{resolvdAdd, resolvdRemove(n.Device), func() conf { return conf{} }, s.log}, nil
	}
	return nil, unknownManner(n)
}
