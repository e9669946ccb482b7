package store

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
)

// Contents are what becomes a profile.
type Contents struct {
	Text   []byte            // the configuration; its relative paths are those of Files
	Files  map[string][]byte // by their paths, with slashes
	Origin Origin
}

// Add writes a profile with mode 0700 for folders and 0600 for files. One of this name that is there
// is replaced if force is set, and otherwise kept. check is called when all files stand in a folder
// that has no name yet; if it fails nothing was changed. The error is check's or an *Error.
func (s *Store) Add(name string, c Contents, force bool, check func(folder string) error) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if err := os.MkdirAll(s.Folder, 0o700); err != nil {
		return failed("the folder of profiles cannot be made", err)
	}
	if err := trustedStore(s.Folder); err != nil {
		return err
	}
	if s.folderOf(name) != "" && !force {
		return &Error{"there is a profile " + name + " already", "it is in " + s.folderOf(name), "--force replaces it, --name NAME calls this one otherwise"}
	}
	if err := s.sweep(name); err != nil {
		return err
	}
	staged, err := os.MkdirTemp(s.Folder, staging(name))
	if err != nil {
		return failed("the profile cannot be written", err)
	}
	defer os.RemoveAll(staged) // once it has its name there is nothing
	if err := c.write(staged); err != nil {
		return failed("the profile cannot be written", err)
	}
	if err := check(staged); err != nil {
		return err
	}
	return s.replace(name, staged)
}

// Try calls check as Add does, with a folder that is gone afterwards. The error is check's or an
// *Error.
func (c Contents) Try(check func(folder string) error) error {
	folder, err := os.MkdirTemp("", "martlet-")
	if err != nil {
		return failed("the profile cannot be tried", err)
	}
	defer os.RemoveAll(folder)
	if err := c.write(folder); err != nil {
		return failed("the profile cannot be tried", err)
	}
	return check(folder)
}

// Remove removes a profile with its files, whose contents are not overwritten. The error is an
// *Error, or fs.ErrNotExist where there is no such profile.
func (s *Store) Remove(name string) error {
	if CheckName(name) != nil || s.folderOf(name) == "" {
		return fs.ErrNotExist
	}
	if err := s.sweep(name); err != nil {
		return err
	}
	// The configuration goes first and the old one before it: what a crash leaves is no profile.
	for _, folder := range []string{s.aside(name), s.path(name)} {
		err := os.Remove(filepath.Join(folder, configFile))
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			err = os.RemoveAll(folder)
		}
		if err != nil {
			return failed("the profile "+name+" cannot be removed", err)
		}
	}
	return syncFolder(s.Folder)
}

// staging is how the folder begins in which a profile is written. No name of a profile ends as it.
func staging(name string) string { return "." + name + ".new=" }

// sweep removes what a crash left of writing a profile.
func (s *Store) sweep(name string) error {
	entries, err := os.ReadDir(s.Folder)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), staging(name)) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.Folder, e.Name())))
		}
	}
	if err != nil {
		return failed("what is left of a profile that was not written whole cannot be removed", err)
	}
	return nil
}

// replace gives a folder the name of a profile. The folder that had it is put aside before, where
// it counts as the profile until the name is taken.
func (s *Store) replace(name, staged string) error {
	final, aside := s.path(name), s.aside(name)
	err := error(nil)
	if s.folderOf(name) == final {
		if err = os.RemoveAll(aside); err == nil {
			err = os.Rename(final, aside)
		}
	} else {
		err = os.RemoveAll(final) // what Remove had no time for
	}
	if err == nil {
		if err = os.Rename(staged, final); err != nil && s.folderOf(name) == aside {
			err = errors.Join(err, os.Rename(aside, final))
		}
	}
	if err != nil {
		return failed("the profile "+name+" cannot be put in its place", err)
	}
	if err := syncFolder(s.Folder); err != nil {
		return err
	}
	if err := os.RemoveAll(aside); err != nil {
		return failed("the profile "+name+" is replaced, but the old one cannot be removed", err)
	}
	return nil
}

// write writes all files into a folder and has the disk take them.
func (c Contents) write(folder string) error {
	if err := closeToOthers(folder); err != nil {
		return err
	}
	origin, err := json.MarshalIndent(c.Origin, "", "  ")
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	for name, data := range c.Files {
		if dir := path.Dir(name); dir != "." {
			if err := root.MkdirAll(filepath.FromSlash(dir), 0o700); err != nil {
				return err
			}
		}
		if err := writeFile(root, filepath.FromSlash(name), data); err != nil {
			return err
		}
	}
	if err := writeFile(root, originFile, append(origin, '\n')); err != nil {
		return err
	}
	if err := writeFile(root, configFile, c.Text); err != nil {
		return err
	}
	return syncFolder(folder)
}

func writeFile(root *os.Root, name string, data []byte) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncFolder has the disk take the names in a folder. Windows does that by itself.
func syncFolder(folder string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(folder)
	if err != nil {
		return failed("the folder of profiles cannot be opened", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return failed("the folder of profiles is not safe on the disk", err)
	}
	return nil
}
