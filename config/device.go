package config

import (
	"regexp"
	"strings"
	"unicode"
)

// numbered are the systems whose names of devices have to look like this.
var numbered = map[string]struct {
	name *regexp.Regexp
	hint string
}{
	"darwin":  {regexp.MustCompile(`^utun[0-9]+$`), `macOS names such devices itself: "utun" and a number, as in utun77`},
	"freebsd": {regexp.MustCompile(`^[A-Za-z].*[0-9]$`), "a letter first and a number at the end, as in martlet0, by which pf tells a device from a group of them"},
	"openbsd": {regexp.MustCompile(`^tun[0-9]+$`), `OpenBSD names such devices itself: "tun" and a number; tun0 to tun3 have their files in /dev, and MAKEDEV there makes more`},
}

// deviceFault tells what the name of a device has to be on a system, or on all of them; empty if it is so.
func deviceFault(goos, name string) (hint string) {
	if len(name) > 15 || strings.ContainsFunc(name, func(r rune) bool { return r == '/' || unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return "at most 15 characters, without '/' and white space"
	}
	if want, ok := numbered[goos]; ok && !want.name.MatchString(name) {
		return want.hint
	}
	return ""
}
