//go:build !linux

package privsep

import (
	"errors"
	"net/netip"
	"syscall"
)

// Buffers implements Services. Only Linux has a right for it.
func (d *Direct) Buffers(syscall.RawConn, int) error { return errors.ErrUnsupported }

// Bind implements Services. Who may set up a host may bind its sockets.
func (d *Direct) Bind(syscall.RawConn, netip.AddrPort) error { return errors.ErrUnsupported }
