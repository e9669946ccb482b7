//go:build !linux && !windows

package martlet

import "os"

// mayConfigureHost reports whether this process is root.
func mayConfigureHost() bool { return os.Geteuid() == 0 }
