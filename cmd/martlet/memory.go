package main

import (
	"os"
	"runtime/debug"

	"martlet"
	"martlet/config"
)

const (
	// smallGC makes the heap grow by half of what is in use before it is collected.
	smallGC = 50
	// smallHeap is from where on, in octets, collecting goes before anything else. It does not
	// count the program itself.
	smallHeap = 44 << 20
)

// holdMemory tunes the garbage collector to what a node of this configuration may take. What
// the user set by GOGC and GOMEMLIMIT stays.
func holdMemory(c *config.Config) {
	f := martlet.FootprintOf(c)
	if f.Small && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(smallGC)
	}
	switch {
	case os.Getenv("GOMEMLIMIT") != "":
	case f.Small:
		debug.SetMemoryLimit(smallHeap)
	case f.Container:
		debug.SetMemoryLimit(f.Memory / 4 * 3) // the kernel's buffers count too
	}
}
