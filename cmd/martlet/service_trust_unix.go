//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// replaceable says who other than root may change a file, or put another in its place; empty if
// nobody may. The path has no links.
func replaceable(path string) string {
	for {
		info, err := os.Lstat(path)
		if err != nil {
			return err.Error()
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		switch {
		case ok && st.Uid != 0:
			return fmt.Sprintf("%s belongs to user %d", path, st.Uid)
		case info.Mode().Perm()&0o022 != 0:
			return fmt.Sprintf("group or others may write to %s (mode %04o)", path, info.Mode().Perm())
		case path == filepath.Dir(path):
			return ""
		}
		path = filepath.Dir(path)
	}
}

// administers tells whether we may install services.
func administers() bool { return os.Geteuid() == 0 }
