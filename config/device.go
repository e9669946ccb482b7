package config

import (
	"strings"
	"unicode"
)

const (
	digits  = "0123456789"
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// deviceFault tells what the name of a device has to be on a system, or on all of them; empty if it is so.
func deviceFault(goos, name string) (hint string) {
	if len(name) > 15 || strings.ContainsFunc(name, func(r rune) bool { return r == '/' || unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return "at most 15 characters, without '/' and white space"
	}
	switch {
	case goos == "darwin" && !isNumbered(name, "utun"):
		return `macOS names such devices itself: "utun" and a number, as in utun77`
	case goos == "freebsd" && (strings.IndexAny(name, letters) != 0 || strings.LastIndexAny(name, digits) != len(name)-1):
		return "a letter first and a number at the end, as in martlet0, by which pf tells a device from a group of them"
	case goos == "openbsd" && !isNumbered(name, "tun"):
		return `OpenBSD names such devices itself: "tun" and a number; tun0 to tun3 have their files in /dev, and MAKEDEV there makes more`
	}
	return ""
}

// isNumbered tells whether a name is a word with a number behind it.
func isNumbered(name, word string) bool {
	number, ok := strings.CutPrefix(name, word)
	return ok && number != "" && strings.Trim(number, digits) == ""
}
