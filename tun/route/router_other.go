//go:build !linux

package route

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"

	"go.uber.org/zap"
)

// New makes a Router. It keeps its state file in the folder stateDir, which it
// creates; log may be nil.
func New(stateDir string, log *zap.Logger) Router { return unsupported{} }

// Recover undoes what Routers set that are no longer alive. There is nothing to
// undo where nothing can be set.
func Recover(stateDir string, log *zap.Logger) error { return nil }

// SourceWithin finds an address of the host that lies within one of prefixes.
func SourceWithin(prefixes []netip.Prefix) (netip.Addr, error) { return netip.Addr{}, unavailable() }

type unsupported struct{}

func (unsupported) Set(Config) error { return unavailable() }
func (unsupported) Close() error     { return nil }

func unavailable() error {
	return fmt.Errorf("route: addresses and routes are not set on %s, only on linux: %w", runtime.GOOS, errors.ErrUnsupported)
}
