// Package profile turns what people have from other programs into a configuration of Martlet:
// Apple's .mobileconfig, strongSwan's .sswan, swanctl.conf and ipsec.conf, that of Libreswan,
// NetworkManager's keyfiles, ChromeOS's ONC, Windows' phone books and AWS's gateway files. Export
// goes the other way, to a PowerShell script too. A Preset is what a provider's gateways want.
//
// Whatever cannot be carried over is said in a Note; nothing is dropped silently. A profile is
// hostile until the opposite is known: its size, its depth, what it includes and the rounds of its
// keys' passwords are bounded, it chooses no name of a file that is written, and no file is read
// outside of its own folder. Secrets go to Files, and never into notes, errors or the text.
package profile

import (
	"fmt"
	"io/fs"
	"strings"

	"martlet/config"
)

// Options are what Import knows beside the profile.
type Options struct {
	// Name is the name of the profile's file. It stands in the text, and a connection is called
	// so that has no name of its own. The format does not depend on it.
	Name string
	// Files is the folder of the profile, from which what it includes or names is read: take
	// os.Root.FS(), which does not follow links out of it. With nil nothing is read.
	Files fs.FS
	// Folder is the absolute path of Files, so that absolute paths in the profile that lead
	// there are understood. It may be empty.
	Folder string
	// Password is asked for the password of a certificate file that does not open without. It
	// may be nil; false means that nobody knows it.
	Password func(what string) (password string, ok bool)
}

// Imported is what became of a profile. It belongs to the caller.
type Imported struct {
	// Format is what the profile is, for people: "strongSwan swanctl.conf".
	Format string
	// Signed tells who signed it, or that nobody did, for formats that can be signed.
	Signed string
	// Connections have only those keys that the profile sets: defaults are not filled in, and
	// nothing is parsed. Their secrets are known, and their Source is one of Files.
	Connections []*config.Connection
	// Users and Pools are those of a gateway.
	Users []*config.User
	Pools []*config.Pool
	// Files are to be written beside the configuration, with mode 0600, under these names, which
	// have no folder in them.
	Files map[string][]byte
	// Notes tell what could not be carried over, and what was changed and why.
	Notes []Note

	name string
}

// String tells what was imported, without any secret.
func (i Imported) String() string {
	return fmt.Sprintf("%s: %d connections, %d users, %d pools, %d files, %d notes", i.Format, len(i.Connections), len(i.Users), len(i.Pools), len(i.Files), len(i.Notes))
}

// GoString is String, so that no secret of Files is printed.
func (i Imported) GoString() string { return i.String() }

// Note is one line about one place of the profile.
type Note struct {
	// Place is a key or a line of the profile, as "connections.home.children.net.mark_in".
	Place string
	// Text has no secret in it.
	Text string
	// Needed is set where the configuration does not work before somebody has done what Text
	// says: a key or a password is missing.
	Needed bool
}

// String gives one line.
func (n Note) String() string {
	if n.Place == "" {
		return n.Text
	}
	return n.Place + ": " + n.Text
}

// Error says why a profile cannot be imported.
type Error struct {
	What, Why, Hint string
}

// Error gives one line.
func (e *Error) Error() string {
	text := "profile: " + e.What
	if e.Why != "" {
		text += ": " + e.Why
	}
	if e.Hint != "" {
		text += " (hint: " + e.Hint + ")"
	}
	return text
}

// maxSize bounds a profile and each file that it names, in octets, as config bounds its own.
const maxSize = 1 << 20

// format is one kind of profile.
type format struct {
	name string
	// is tells by the contents whether a profile is of this kind.
	is func(data []byte) bool
	// read fills the draft; the error is an *Error.
	read func(d *draft, data []byte) error
}

// Import reads a profile, whose format its contents tell. The error is an *Error; a profile that
// has no connection which Martlet could have is one.
func Import(data []byte, o Options) (*Imported, error) {
	if len(data) > maxSize {
		return nil, &Error{What: "the profile is too large", Why: fmt.Sprintf("it has %d octets; at most %d are read", len(data), maxSize), Hint: "is it the right file?"}
	}
	for _, f := range formats() {
		if !f.is(data) {
			continue
		}
		d := newDraft(f.name, o)
		if err := f.read(d, data); err != nil {
			return nil, err
		}
		return d.finish()
	}
	return nil, &Error{
		What: "the profile is of no format that is known",
		Why:  "its contents look like none of them",
		Hint: "known are: " + strings.Join(formatNames(), ", "),
	}
}

func formatNames() []string {
	var names []string
	for _, f := range formats() {
		names = append(names, f.name)
	}
	return names
}
