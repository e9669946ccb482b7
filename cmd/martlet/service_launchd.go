package main

import (
	_ "embed"
	"strings"
)

//go:embed dist/martlet.plist.in
var plistPattern string

// launchd is the service manager of macOS.
type launchd struct{}

func (launchd) sign() string { return "/bin/launchctl" }

func (l launchd) file(u unit) string { return "/Library/LaunchDaemons/" + l.label(u) + ".plist" }

func (launchd) label(u unit) string { return strings.Replace(u.id(), "-", ".", 1) }

// target is how launchctl calls it.
func (l launchd) target(u unit) string { return "system/" + l.label(u) }

func (l launchd) text(u unit) string {
	var args []string
	for _, word := range append([]string{u.program}, u.args...) {
		args = append(args, "\t\t<string>"+word+"</string>")
	}
	return strings.NewReplacer("@mark@", u.mark(), "@label@", l.label(u), "@arguments@", strings.Join(args, "\n")).Replace(plistPattern)
}

func (l launchd) install(u unit, had presence) []step {
	steps := []step{{write: l.file(u), text: l.text(u), mode: 0o644}}
	if had == other {
		steps = append(steps, step{run: []string{"launchctl", "bootout", l.target(u)}, lenient: true})
	}
	return append(
		steps,
		step{run: []string{"launchctl", "enable", l.target(u)}},
		// One that is loaded already is refused.
		step{run: []string{"launchctl", "bootstrap", "system", l.file(u)}, lenient: had == same},
	)
}

func (l launchd) remove(u unit) []step {
	return []step{
		{run: []string{"launchctl", "bootout", l.target(u)}, lenient: true}, // it may not be loaded
		{remove: l.file(u)},
	}
}

func (l launchd) status(u unit) []string { return []string{"launchctl", "print", l.target(u)} }
