//go:build unix && !darwin

package dns

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

func readOnly(err error) bool { return errors.Is(err, unix.EROFS) }

// mounted tells whether a name could not be given to another file, which does not say that the
// file that has it cannot be written.
func mounted(err error) bool {
	return errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EXDEV) || readOnly(err) || errors.Is(err, fs.ErrPermission)
}
