//go:build !linux && !windows && !darwin && !freebsd && !openbsd

package outside

import "errors"

// option is none: nothing is known here of how a socket stays outside.
func (w Way) option(bool, string) (option, error) { return option{}, nil }

func (o option) set(uintptr) error { return errors.ErrUnsupported }
