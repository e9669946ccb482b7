//go:build !cgo

package privsep

// libraries are none: the program is one file.
var libraries []string
