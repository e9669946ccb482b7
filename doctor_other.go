//go:build !linux

package martlet

import "syscall"

// gatherKernel sees nothing: only Linux has rules and marks.
func gatherKernel() *kernelFacts { return nil }

// dontFragment is nil: only Linux lets a datagram go that is longer than it thinks that passes.
func dontFragment(func(network, address string, c syscall.RawConn) error) func(network, address string, c syscall.RawConn) error {
	return nil
}
