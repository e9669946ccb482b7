package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// replaceable says why others than administrators may change a file, or put another in its place;
// empty if they may not. By what Windows comes with, they may not where it keeps programs.
func replaceable(path string) string {
	folders := []string{os.Getenv("ProgramFiles"), os.Getenv("SystemRoot")}
	for _, folder := range folders {
		if rel, err := filepath.Rel(folder, path); folder != "" && err == nil && filepath.IsLocal(rel) {
			return ""
		}
	}
	return fmt.Sprintf("%s is in none of %q", path, folders)
}

// administers tells whether we may install services.
func administers() bool { return windows.GetCurrentProcessToken().IsElevated() }
