package main

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"
	"unicode"

	"martlet"
)

// unit is martlet as a service of the system: one that keeps a connection up, or a gateway.
type unit struct {
	name    string   // of the connection; empty: the gateway
	program string   // the absolute path of martlet
	args    []string // with which it is started
	control string   // its control socket; empty: it has none, and cannot be told to reload
}

// id is what the system calls it where nothing else is customary.
func (u unit) id() string {
	if u.name == "" {
		return "martlet"
	}
	return "martlet-" + u.name
}

// title is a line for people.
func (u unit) title() string {
	if u.name == "" {
		return "Martlet VPN gateway"
	}
	return "Martlet VPN connection " + u.name
}

// arg is how the service is named on our own command line.
func (u unit) arg() string {
	if u.name == "" {
		return "--serve"
	}
	return u.name
}

// writtenBy begins what is in each file that we wrote for a service, and in none that somebody else
// did.
const writtenBy = "Written by martlet service install: "

func (u unit) mark() string { return writtenBy + u.arg() + "." }

// command is the line that starts it. Its words need no quotes, see fits.
func (u unit) command() string { return strings.Join(append([]string{u.program}, u.args...), " ") }

// reload is the line that has it read its configuration again.
func (u unit) reload() string {
	if u.control == "" {
		return ""
	}
	return u.program + " reload --control " + u.control
}

// fits refuses words that a unit, a script and a shell read differently: so nothing has to be quoted
// in ways that differ. Windows quotes in one way, and has spaces in the paths of programs.
func (u unit) fits(system string) error {
	for _, word := range append([]string{u.name, u.program, u.control}, u.args...) {
		plain := func(r rune) bool {
			if system == "windows" {
				return r != '"' && unicode.IsPrint(r)
			}
			return r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("_-./@:,=", r))
		}
		if i := strings.IndexFunc(word, func(r rune) bool { return !plain(r) }); i >= 0 {
			return &martlet.Error{
				Code: codeService, What: fmt.Sprintf("%q cannot stand in a service", word),
				Why:  "files of service managers read characters other than letters, digits and _ - . / @ : , = in ways of their own",
				Hint: "call it, or the folders above it, otherwise",
			}
		}
	}
	return nil
}

// step is one thing that is done to this host: a command is run, a file is written, or one is
// removed.
type step struct {
	run     []string
	lenient bool // it is no fault if the command fails

	write string
	text  string
	mode  fs.FileMode

	remove string
}

// presence is what stands of a unit on this host.
type presence int

const (
	absent presence = iota
	same            // as it would be written now
	other           // of an earlier install
)

// manager is a service manager. Its methods only say what is to be done.
type manager interface {
	// sign is a path that exists where it runs.
	sign() string
	// file is where a unit stands; empty where the manager keeps it itself.
	file(u unit) string
	// install makes, enables and starts it.
	install(u unit, had presence) []step
	// remove stops it and undoes that.
	remove(u unit) []step
	// status is a command that tells how it fares, and fails if it does not run.
	status(u unit) []string
}

// managerOf is the service manager of an operating system.
func managerOf(system string) (manager, error) {
	switch system {
	case "linux":
		return systemd{}, nil
	case "darwin":
		return launchd{}, nil
	case "windows":
		return controlManager{}, nil
	case "freebsd":
		return freebsd{}, nil
	case "openbsd":
		return openbsd{}, nil
	}
	return nil, &martlet.Error{
		Code: codeService, What: "martlet knows no service manager of " + system,
		Hint: "start `martlet up` or `martlet serve` as this system starts services",
	}
}

// codeService is of a service that cannot be installed; its class is that of the host.
const codeService = "host"

// hidden are folders of persons and of what is temporary, which a service does not see under
// ProtectHome and PrivateTmp, and should not depend on anywhere.
func hidden(path string) bool {
	if runtime.GOOS == "windows" {
		return false
	}
	for _, folder := range []string{"/home", "/root", "/run/user", "/tmp", "/var/tmp", "/Users"} {
		if rel, err := filepath.Rel(folder, path); err == nil && filepath.IsLocal(rel) {
			return true
		}
	}
	return false
}

// needPerson are the exit statuses of what does not become better by itself: a service that ends with
// one is not started again.
var needPerson = []int{exitUsage, exitAuthentication, exitPolicy, exitConfiguration}
