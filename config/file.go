package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// named reads a file that a Config names; a relative path starts at dir.
func (r fileReader) named(path, dir string) ([]byte, error) {
	data, _, err := r.file(resolve(path, dir))
	return data, err
}

// secret reads a file that nobody else may read or replace. Links are
// followed within the folder of the configuration or their own only, so that whoever may set
// one elsewhere cannot choose the secret.
func (r fileReader) secret(path, dir string) ([]byte, error) {
	full := resolve(path, dir)
	real, err := r.EvalSymlinks(full)
	if err != nil {
		return nil, unreadable(full, err)
	}
	if info, err := r.Lstat(full); err == nil && info.Mode()&fs.ModeSymlink != 0 && !r.within(real, dir) && !r.within(real, filepath.Dir(full)) {
		return nil, hinted(full+" is a link out of the configuration's folder", "name the file itself: "+real)
	}
	data, info, err := r.file(real)
	if err != nil {
		return nil, err
	}
	if why := r.exposed(real, info); why != "" {
		return nil, hinted("the secret file "+full+" "+why, secretHint(full, info))
	}
	return data, nil
}

func secretHint(path string, info fs.FileInfo) string {
	if info.Mode().Perm()&0o077 != 0 {
		return "chmod 600 " + path
	}
	return "move it to a folder of your own"
}

// file reads a regular file of at most maxSize octets.
func (r fileReader) file(path string) ([]byte, fs.FileInfo, error) {
	// A pipe or a device would be waited for, or not end.
	info, err := r.Stat(path)
	if err != nil {
		return nil, nil, unreadable(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, hinted(path+" is not a regular file", "")
	}
	f, err := r.Open(path)
	if err != nil {
		return nil, nil, unreadable(path, err)
	}
	defer f.Close()
	// What counts is the file that was opened, not what the path says by now.
	opened, err := f.Stat()
	if err != nil {
		return nil, nil, unreadable(path, err)
	}
	if !os.SameFile(info, opened) {
		return nil, nil, hinted(path+" was replaced while it was read", "")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, nil, unreadable(path, err)
	}
	if len(data) > maxSize {
		return nil, nil, hinted(fmt.Sprintf("%s has more than %d octets", path, maxSize), "")
	}
	return data, opened, nil
}

// unreadable says why a file could not be read.
func unreadable(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return hinted(path+" does not exist", "relative paths start at the folder of the file that names them, else at the current one")
	case errors.Is(err, fs.ErrPermission):
		return hinted(path+" may not be read", "start as the user that owns it")
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err
	}
	return hinted(path+" cannot be read: "+err.Error(), "")
}

// exposed says why others may read a file or put another in its place; empty if they
// may not. Windows has no such bits: there nothing is said.
func (r fileReader) exposed(path string, info fs.FileInfo) string {
	if runtime.GOOS == "windows" {
		return ""
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 && !lent(perm, Owner(info), os.Geteuid()) {
		return fmt.Sprintf("is open to group or others (mode %04o)", perm)
	}
	full, err := filepath.Abs(path)
	if err != nil {
		return "has no absolute path: " + err.Error()
	}
	for folder := filepath.Dir(full); ; folder = filepath.Dir(folder) {
		info, err := r.Stat(folder)
		if err != nil {
			return "has a folder that cannot be looked at: " + folder
		}
		// In a folder further up the sticky bit is enough: entries cannot be replaced.
		sticky := info.Mode()&fs.ModeSticky != 0 && folder != filepath.Dir(full)
		if info.Mode().Perm()&0o002 != 0 && !sticky {
			return "is in a world-writable folder (" + folder + ")"
		}
		if folder == filepath.Dir(folder) {
			return ""
		}
	}
}

// mounted is the file that a link to somewhere in its own folder stands for, and any other path as it is. A
// Secret of Kubernetes has such links, in a folder in which only root can replace them.
func (r fileReader) mounted(path string) string {
	if real, err := r.EvalSymlinks(path); err == nil && r.within(real, filepath.Dir(path)) {
		return real
	}
	return path
}

// lent says whether a file is root's and a group may read it in which we are: so are secrets given
// to a program that is not root (fsGroup of Kubernetes).
func lent(perm fs.FileMode, owner, user int) bool {
	return owner == 0 && user > 0 && perm&0o037 == 0
}

// resolve makes a path absolute or relative to dir.
func resolve(path, dir string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

// within says whether a path without links is in a folder.
func (r fileReader) within(path, dir string) bool {
	if dir == "" {
		dir = "."
	}
	folder, err := r.EvalSymlinks(dir)
	if err != nil {
		return false
	}
	if folder, err = filepath.Abs(folder); err != nil {
		return false
	}
	if path, err = filepath.Abs(path); err != nil {
		return false
	}
	rel, err := filepath.Rel(folder, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// absolute makes the path that a key holds absolute, for whoever uses it later and for Complete,
// which may be called again.
func (f *faults) absolute(key, path string) string {
	full, err := filepath.Abs(resolve(path, f.origin.folder(key)))
	if err != nil {
		f.add(key, "has no absolute path: "+err.Error(), "")
		return path
	}
	return full
}
