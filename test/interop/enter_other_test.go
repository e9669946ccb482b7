//go:build !linux

package interop

import "errors"

// enter: there are no network namespaces here.
func enter(string) error { return errors.ErrUnsupported }
