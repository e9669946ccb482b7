package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Source is where a configuration comes from. What stands in several places counts where it
// stands last: the file, the environment, then Set. Load may be called again, and at the same
// time; each call reads the file and the files that are named again, while Env and Set are as
// they were.
type Source struct {
	// File is the path of the file; with "" there is none, and all comes from Env and Set.
	File string
	// Env are variables as os.Environ gives them. MARTLET_NODE_MTU is mtu in [node]; in
	// MARTLET_CONNECTION_OFFICE_CHILD_NET_REMOTE the words OFFICE and NET are names (see
	// variable.go). Of a key that holds a secret, …_SECRET say, …_SECRET_FILE is the path of a
	// file with it. An empty variable is as if it were not set. Relative paths start at the
	// current folder. Here are the variables, too, that "env:NAME" stands for. If Env is nil there
	// are none of the former, and the latter are the process's.
	Env []string
	// Set are settings as the flag --set has them, "KEY=VALUE", of which later ones win. KEY is
	// dotted, as in connection.office.remote, and quoted where TOML quotes. A secret may not stand
	// here in place, since whoever lists processes sees it: it is file:PATH or env:NAME. Relative
	// paths start at the current folder.
	Set []string
	// Files reads the file and those that are named; nil is this process by itself.
	Files Files

	forget bool // variables that "env:NAME" stands for, once they are read
}

// NewSource takes the environment of the process over: it keeps all variables, and takes those
// out of the process's that hold a secret, now or, as "env:NAME", when Load has read them. So
// programs that are started later do not inherit them. What the process was started with stays
// readable in /proc/PID/environ (or by ps e) for root and the same user, which no program can
// change; a secret in a file has no such trace.
func NewSource(file string, set []string) *Source {
	s := &Source{File: file, Env: os.Environ(), Set: slices.Clone(set), forget: true}
	for _, entry := range s.Env {
		if name, _, _ := strings.Cut(entry, "="); holdsSecret(name) {
			// It fails for names only that cannot be set.
			_ = os.Unsetenv(name)
		}
	}
	return s
}

// Load reads the configuration and checks it whole, as the function Load does.
func (s *Source) Load() (*Config, error) {
	f := newFaults(s.File, filepath.Dir(s.File))
	f.origin.files = s.Files
	if s.File == "" {
		return s.parse(f, nil, s.lookup, "")
	}
	read := f.origin.reader()
	if _, err := read.Stat(s.File); errors.Is(err, fs.ErrNotExist) {
		hint := ""
		if here, err := os.Getwd(); err == nil && !filepath.IsAbs(s.File) {
			hint = "the current folder is " + here
		}
		f.add("", "the file does not exist", hint)
		return nil, f.err()
	}
	data, info, err := read.file(s.File)
	if err != nil {
		f.fault("", err)
		return nil, f.err()
	}
	return s.parse(f, data, s.lookup, read.exposed(read.mounted(s.File), info))
}

// String tells where the configuration comes from, without any value.
func (s Source) String() string {
	return fmt.Sprintf("file %q, %d variables, %d settings", s.File, len(s.Env), len(s.Set))
}

// GoString is String, so that no secret of Env is printed.
func (s Source) GoString() string { return s.String() }

// MarshalText is String.
func (s Source) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// lookup returns the variable that "env:NAME" stands for.
func (s *Source) lookup(name string) (string, bool) {
	if s.Env == nil {
		return os.LookupEnv(name)
	}
	for _, entry := range slices.Backward(s.Env) {
		have, val, _ := strings.Cut(entry, "=")
		if have != name && (runtime.GOOS != "windows" || !strings.EqualFold(have, name)) {
			continue
		}
		if s.forget {
			_ = os.Unsetenv(name)
		}
		return val, true
	}
	return "", false
}
