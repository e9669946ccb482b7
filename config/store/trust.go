package store

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// trustedStore refuses a store that somebody else may write to, or put another one in the place of.
func trustedStore(folder string) error {
	info, err := os.Stat(folder)
	if err != nil {
		return failed("the folder of profiles cannot be looked at", err)
	}
	if !info.IsDir() {
		return &Error{folder + " is no folder", "profiles are kept in one", "name another with --profiles or MARTLET_PROFILES"}
	}
	if err := trusted(folder, info); err != nil {
		return err
	}
	full, err := filepath.EvalSymlinks(folder)
	if err == nil {
		full, err = filepath.Abs(full)
	}
	if err != nil {
		return failed("the folder of profiles cannot be looked at", err)
	}
	for above := filepath.Dir(full); ; above = filepath.Dir(above) {
		info, err := os.Stat(above)
		if err != nil {
			return failed("the folder of profiles cannot be looked at", err)
		}
		// With the sticky bit entries of others cannot be replaced.
		if runtime.GOOS != "windows" && info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0 {
			return &Error{"profiles in " + folder + " are not used", above + " is writable by everybody, who could put other profiles there", "chmod o-w " + above}
		}
		if above == filepath.Dir(above) {
			return nil
		}
	}
}

// trustedTree refuses the folder of a profile if somebody else may write to it or to what is in it.
func trustedTree(folder string) error {
	return filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return failed("the profile cannot be read", err)
		}
		if entry.Type()&fs.ModeSymlink != 0 {
			return &Error{path + " is not used", "it is a link, and a profile has its own files", "put the file itself there"}
		}
		info, err := entry.Info()
		if err != nil {
			return failed("the profile cannot be read", err)
		}
		return trusted(path, info)
	})
}

// belongs is the error for what another user owns.
func belongs(path, user string) error {
	return &Error{path + " is not used", "it belongs to another user (" + user + "), who can change it", "import the profile as yourself"}
}
