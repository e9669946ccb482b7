//go:build !linux

package main

import "os"

// fileID names no file: only Linux has the journal.
func fileID(*os.File) (string, bool) { return "", false }
