package store

import (
	"os"
	"path/filepath"
	"runtime"
)

// Default is the folder for whoever runs this process: that of the system for root and
// administrators, and for others one of their own, "martlet" in os.UserConfigDir. The error is an
// *Error.
func Default() (string, error) {
	if administers() {
		return System(), nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", &Error{"there is no folder for profiles", err.Error(), "name one with --profiles or MARTLET_PROFILES"}
	}
	return filepath.Join(dir, "martlet"), nil
}

// System is the folder of the system's profiles: /etc/martlet, and on macOS and Windows where
// programs have what concerns all users.
func System() string {
	switch runtime.GOOS {
	case "darwin":
		return "/Library/Application Support/martlet"
	case "windows":
		if dir := os.Getenv("ProgramData"); filepath.IsAbs(dir) {
			return filepath.Join(dir, "martlet")
		}
		return `C:\ProgramData\martlet`
	}
	return "/etc/martlet"
}

// Of is the folder of another user's profiles, whose home is given. It is where os.UserConfigDir is
// for users who did not move it.
func Of(home string) string {
	if runtime.GOOS == "darwin" {
		return filepath.Join(home, "Library", "Application Support", "martlet")
	}
	return filepath.Join(home, ".config", "martlet")
}
