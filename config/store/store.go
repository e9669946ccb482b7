// Package store keeps profiles: configurations that a person imported and calls by a name, each in
// a folder of its own with the certificates, keys and secrets that belong to it.
//
// A store is a folder of the system, for root, or of one user. What stands in it decides to whom
// traffic goes and by which keys, so a store, a profile and a file that somebody else may write to
// are refused. A profile is there whole or not at all, and one that takes the place of another
// leaves nothing of it behind.
package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// configFile is the configuration in a profile's folder. A folder without is no profile.
	configFile = "martlet.toml"
	// originFile is the Origin of the profile, as JSON.
	originFile = "origin.json"
	// maxName bounds a name, in octets.
	maxName = 64
)

// Store is a folder of profiles. It need not exist.
type Store struct {
	Folder string // its path
}

// Profile is one configuration of a Store.
type Profile struct {
	Name   string
	Folder string // the path of what belongs to it, of which the configuration's relative paths are
	Origin Origin // zero for one that was made by hand
}

// Origin is where a profile is from.
type Origin struct {
	File     string    `json:"file,omitempty"`   // the name of the file, without its folder
	Format   string    `json:"format"`           // for people: "strongSwan swanctl.conf"
	Signed   string    `json:"signed,omitempty"` // who signed it, or that nobody did, for formats that can be signed
	Imported time.Time `json:"imported"`
}

// Error says why a store does not do what it was asked for. No secret is in it.
type Error struct {
	What, Why, Hint string
}

// Error gives one line.
func (e *Error) Error() string {
	text := "store: " + e.What
	if e.Why != "" {
		text += ": " + e.Why
	}
	if e.Hint != "" {
		text += " (hint: " + e.Hint + ")"
	}
	return text
}

// CheckName says whether a name can be that of a profile: up to 64 letters, digits, '-', '_' and
// '.', with a letter or digit at both ends, and not that of a file, which ends in ".toml". So it is
// never a path, a flag or a hidden file. The error is an *Error.
func CheckName(name string) error {
	why := ""
	switch {
	case name == "":
		why = "it is empty"
	case len(name) > maxName:
		why = fmt.Sprintf("it has more than %d characters", maxName)
	case strings.ContainsFunc(name, func(r rune) bool { return !isPlain(r) && !strings.ContainsRune("-_.", r) }):
		why = "only letters from a to z, digits, '-', '_' and '.' can be in one"
	case !isPlain(rune(name[0])) || !isPlain(rune(name[len(name)-1])) && name[len(name)-1] != '_':
		why = "it must begin and end with a letter or a digit"
	case strings.EqualFold(filepath.Ext(name), ".toml"):
		why = "names that end in .toml are those of files"
	case !filepath.IsLocal(name):
		why = "this system has a device that is called so"
	default:
		return nil
	}
	return &Error{What: fmt.Sprintf("%q is no name for a profile", name), Why: why, Hint: "office, for example"}
}

func isPlain(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// Path is that of the profile's configuration.
func (p *Profile) Path() string { return filepath.Join(p.Folder, configFile) }

// Files are the paths of what belongs to the profile beside its configuration, relative to Folder,
// in order. The error is an *Error.
func (p *Profile) Files() ([]string, error) {
	var out []string
	err := filepath.WalkDir(p.Folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(p.Folder, path)
		if name != configFile && name != originFile {
			out = append(out, name)
		}
		return err
	})
	if err != nil {
		return nil, failed("the profile "+p.Name+" cannot be read", err)
	}
	return out, nil
}

// Names are those of the profiles in order; of a store that does not exist there are none. The
// error is an *Error.
func (s *Store) Names() ([]string, error) {
	entries, err := os.ReadDir(s.Folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, failed("the folder of profiles cannot be read", err)
	}
	if err := trustedStore(s.Folder); err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		if was, ok := asideOf(name); ok {
			name = was
		}
		if CheckName(name) == nil && !slices.Contains(names, name) && s.folderOf(name) != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Find returns a profile whose every file nobody else may write to. The error is an *Error, or
// fs.ErrNotExist where there is no such profile.
func (s *Store) Find(name string) (*Profile, error) {
	if CheckName(name) != nil {
		return nil, fs.ErrNotExist
	}
	folder := s.folderOf(name)
	if folder == "" {
		return nil, fs.ErrNotExist
	}
	if err := trustedStore(s.Folder); err != nil {
		return nil, err
	}
	if err := trustedTree(folder); err != nil {
		return nil, err
	}
	p := &Profile{Name: name, Folder: folder}
	data, err := os.ReadFile(filepath.Join(folder, originFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return p, nil
	case err != nil:
		return nil, failed("where the profile "+name+" is from cannot be read", err)
	}
	if err := json.Unmarshal(data, &p.Origin); err != nil {
		return nil, &Error{"where the profile " + name + " is from cannot be read", filepath.Join(folder, originFile) + ": " + err.Error(), "remove that file, or import the profile again with --force"}
	}
	return p, nil
}

// folderOf is the folder of a profile, and empty where there is none. Where a crash came between
// the two renames by which one takes the place of another, that is the old one.
func (s *Store) folderOf(name string) string {
	for _, folder := range []string{s.path(name), s.aside(name)} {
		if _, err := os.Lstat(filepath.Join(folder, configFile)); !errors.Is(err, fs.ErrNotExist) {
			return folder
		}
	}
	return ""
}

func (s *Store) path(name string) string { return filepath.Join(s.Folder, name) }

// aside is where a profile is while another takes its place.
func (s *Store) aside(name string) string { return filepath.Join(s.Folder, "."+name+".old") }

// asideOf is the name of the profile whose aside a folder is.
func asideOf(folder string) (string, bool) {
	name, ok := strings.CutPrefix(folder, ".")
	was, old := strings.CutSuffix(name, ".old")
	return was, ok && old
}

// failed says what could not be done, and why as the system tells it.
func failed(what string, err error) error {
	hint := ""
	if errors.Is(err, fs.ErrPermission) {
		hint = "start as the user that owns it"
	}
	return &Error{What: what, Why: err.Error(), Hint: hint}
}
