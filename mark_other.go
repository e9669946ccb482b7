//go:build !linux

package martlet

import "syscall"

// markControl does nothing: only Linux has marks.
func markControl(uint32) func(network, address string, c syscall.RawConn) error { return nil }
