package main

import (
	"fmt"
	"os"
	"syscall"
)

// fileID names a file as JOURNAL_STREAM does.
func fileID(f *os.File) (string, bool) {
	info, err := f.Stat()
	if err != nil {
		return "", false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", false
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino), true
}
