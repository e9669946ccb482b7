//go:build !linux

package firewall

import (
	"errors"
	"fmt"
	"runtime"

	"go.uber.org/zap"
)

// New makes a Firewall; log may be nil.
func New(log *zap.Logger) Firewall { return unsupported{} }

// Recover removes tables of processes that were killed. There are none where none
// can be made.
func Recover(log *zap.Logger) error { return nil }

type unsupported struct{}

func (unsupported) Set(r Rules) error {
	if err := r.check(); err != nil {
		return err
	}
	return fmt.Errorf("firewall: there is no packet filter of ours on %s, only on linux: %w", runtime.GOOS, errors.ErrUnsupported)
}

func (unsupported) Clear() error { return nil }
