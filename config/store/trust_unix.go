//go:build unix

package store

import (
	"fmt"
	"io/fs"
	"os"

	"martlet/config"
)

// administers tells whether we are root.
func administers() bool { return os.Geteuid() == 0 }

// trusted refuses what anybody but us and root may write to.
func trusted(path string, info fs.FileInfo) error {
	if user := config.Owner(info); user != 0 && user != os.Geteuid() {
		return belongs(path, fmt.Sprintf("number %d", user))
	}
	if perm := info.Mode().Perm(); perm&0o022 != 0 {
		return &Error{path + " is not used", fmt.Sprintf("group or others may write to it (mode %04o)", perm), "chmod go-w " + path}
	}
	return nil
}

// closeToOthers does nothing: the modes of what is made say it.
func closeToOthers(string) error { return nil }
