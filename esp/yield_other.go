//go:build !linux

package esp

import "runtime"

// yield lets another goroutine have the processor.
func yield() { runtime.Gosched() }
