//go:build unix

package config

import (
	"io/fs"
	"syscall"
)

// Owner is the number of the user that owns a file, or -1 where that is not known.
func Owner(info fs.FileInfo) int {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid)
	}
	return -1
}
