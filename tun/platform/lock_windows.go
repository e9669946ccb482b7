package platform

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// Lock takes the lock on a file for as long as it is open: the system drops it when the process is
// killed. It does not wait.
func Lock(f *os.File) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &windows.Overlapped{})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return ErrLocked
	}
	return err
}
