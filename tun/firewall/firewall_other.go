//go:build !linux && !windows && !darwin && !freebsd && !openbsd

package firewall

import (
	"errors"
	"fmt"
	"runtime"

	"go.uber.org/zap"
)

// New makes a Firewall; log may be nil.
func New(log *zap.Logger) Firewall { return unsupported{} }

// Recover removes tables of processes that were killed, and tells whether there were any. There
// are none where none can be made.
func Recover(keep string, log *zap.Logger) (found bool, err error) { return false, nil }

type unsupported struct{}

func (unsupported) Set(r Rules) error {
	if err := r.check(); err != nil {
		return err
	}
	return fmt.Errorf("firewall: there is no packet filter of ours on %s, only on linux: %w", runtime.GOOS, errors.ErrUnsupported)
}

func (unsupported) Clear() error { return nil }
func (unsupported) Leave() error { return nil }
