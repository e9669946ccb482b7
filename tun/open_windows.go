package tun

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"

	"golang.org/x/sys/windows"
)

// driver loads wintun.dll, from where the library looks for it.
func driver() error {
	dll, err := windows.LoadLibraryEx("wintun.dll", 0, windows.LOAD_LIBRARY_SEARCH_APPLICATION_DIR|windows.LOAD_LIBRARY_SEARCH_SYSTEM32)
	if err != nil {
		return fmt.Errorf("load wintun.dll: %w", err)
	}
	return windows.FreeLibrary(dll)
}

func hint(err error) string {
	switch {
	case errors.Is(err, windows.ERROR_MOD_NOT_FOUND), errors.Is(err, windows.ERROR_BAD_EXE_FORMAT), errors.Is(err, fs.ErrNotExist):
		return wintunHint(runtime.GOARCH)
	case errors.Is(err, fs.ErrPermission):
		return "needs Administrator: start from an elevated prompt"
	}
	return ""
}
