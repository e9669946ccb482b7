//go:build cgo

package privsep

// libraries are where a program that is linked to some finds them.
var libraries = []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64"}
