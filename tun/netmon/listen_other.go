//go:build !linux && !windows && !darwin && !freebsd && !openbsd

package netmon

import "errors"

// listen fails: nothing is known here of how the system tells.
func (m *monitor) listen() (chan news, error) { return nil, errors.ErrUnsupported }

// defaultRoutes fails too.
func defaultRoutes(bool) ([]defaultRoute, error) { return nil, errors.ErrUnsupported }
