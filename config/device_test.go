package config

import (
	"reflect"
	"strings"
	"testing"
)

// TestDeviceNames: each system has names of its own for devices, and the default is one of them.
func TestDeviceNames(t *testing.T) {
	field, _ := reflect.TypeFor[Node]().FieldByName("Device")
	for goos, names := range map[string]struct{ good, bad []string }{
		"linux":   {[]string{"martlet0", "office", "utun7"}, []string{"a/b", "a b", "a name too long0"}},
		"darwin":  {[]string{"utun0", "utun77"}, []string{"martlet0", "utun", "utun7a", "tun7", "utun1234567890123"}},
		"freebsd": {[]string{"martlet0", "tun7"}, []string{"office", "0", "a/0"}},
		"openbsd": {[]string{"tun0", "tun3"}, []string{"martlet0", "tun", "utun3"}},
		"windows": {[]string{"martlet0", "Office"}, []string{"a/b", "Our Office"}},
	} {
		def := defaultOf(field.Tag, goos)
		for _, name := range append(names.good, def) {
			if hint := deviceFault(goos, name); hint != "" {
				t.Errorf("%s: %q: %s", goos, name, hint)
			}
		}
		for _, name := range names.bad {
			if deviceFault(goos, name) == "" {
				t.Errorf("%s: %q is a good name", goos, name)
			}
		}
	}
}

// TestDefaultsBySystem: the reference has those of all systems, wherever it is printed, and folders are
// where a system has what does not outlive it.
func TestDefaultsBySystem(t *testing.T) {
	text := Reference()
	for _, want := range []string{
		`device = string; default "martlet0", on macOS "utun77", on OpenBSD "tun3"`,
		`state = string; default "/run/martlet", on macOS "/var/run/martlet", on FreeBSD "/var/run/martlet"`,
		`on Windows "C:\\Program Files\\martlet\\run\\control.sock"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the reference has no %s", want)
		}
	}
	for field := range reflect.TypeFor[Node]().Fields() {
		for _, s := range systems {
			if own := field.Tag.Get(s.goos); own != "" && field.Tag.Get("default") == "" {
				t.Errorf("%s has a default on %s only", field.Name, s.name)
			}
		}
	}
}
