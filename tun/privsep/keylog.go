package privsep

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"martlet/config"
)

// KeyTables are the names of Wireshark's tables: of IKE SAs and of child SAs.
var KeyTables = [2]string{"ikev2_decryption_table", "esp_sa"}

// KeyTableError tells why no keys are written to a table, and what to do.
type KeyTableError struct{ Name, Why, Hint string }

func (e *KeyTableError) Error() string { return e.Name + ": " + e.Why }

// OpenKeyLog opens the KeyTables in a folder.
func OpenKeyLog(dir string) (files [2]*os.File, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return files, err
	}
	for i, name := range KeyTables {
		if files[i], err = openKeyTable(filepath.Join(dir, name)); err != nil {
			if i > 0 {
				err = errors.Join(err, files[0].Close())
			}
			return [2]*os.File{}, err
		}
	}
	return files, nil
}

// openKeyTable opens a table to add to it, and makes it where there is none. One that others may
// read, or have put there, gets no key.
func openKeyTable(name string) (*os.File, error) {
	refused := func(why, hint string) (*os.File, error) {
		return nil, &KeyTableError{name, why, hint}
	}
	before, err := os.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return refused(err.Error(), "name a folder that you may write")
		}
		return file, nil
	case err != nil:
		return refused(err.Error(), "")
	case !before.Mode().IsRegular():
		return refused("it is no regular file", "remove it, or name another folder")
	case runtime.GOOS == "windows":
	case before.Mode().Perm()&0o077 != 0:
		return refused(fmt.Sprintf("group or others may use it (mode %04o)", before.Mode().Perm()), "chmod 600 "+name)
	case config.Owner(before) != os.Geteuid():
		return refused("it belongs to another user", "remove it, or name another folder")
	}
	file, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return refused(err.Error(), "")
	}
	if now, err := file.Stat(); err != nil || !os.SameFile(before, now) {
		_ = file.Close()
		return refused("somebody put another file in its place", "name a folder in which nobody else may write")
	}
	return file, nil
}
