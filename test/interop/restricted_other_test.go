//go:build !linux

package interop

// confine is for Linux.
func confine() {}
