package main

import (
	_ "embed"
	"strings"
)

var (
	//go:embed dist/freebsd.in
	freebsdPattern string
	//go:embed dist/openbsd.in
	openbsdPattern string
)

// rcName is what a script of rc.d is called: its name is that of variables of the shell, too.
func rcName(u unit) string { return strings.NewReplacer("-", "_", ".", "_", "@", "_").Replace(u.id()) }

// rcText fills in a script.
func rcText(pattern string, u unit) string {
	reload := u.reload()
	if reload == "" {
		reload = "false" // as long as the configuration has no control socket
	}
	return strings.NewReplacer(
		"@mark@", u.mark(), "@name@", rcName(u), "@description@", u.title(), "@program@", u.program,
		"@arguments@", strings.Join(u.args, " "), "@reload@", reload,
	).Replace(pattern)
}

// freebsd is rc(8) of FreeBSD.
type freebsd struct{}

func (freebsd) sign() string { return "/usr/sbin/sysrc" }

func (freebsd) file(u unit) string { return "/usr/local/etc/rc.d/" + rcName(u) }

func (f freebsd) install(u unit, had presence) []step {
	steps := []step{
		{write: f.file(u), text: rcText(freebsdPattern, u), mode: 0o555},
		{run: []string{"sysrc", rcName(u) + "_enable=YES"}},
	}
	if had == other {
		return append(steps, step{run: []string{"service", rcName(u), "restart"}})
	}
	// One that runs already is refused.
	return append(steps, step{run: []string{"service", rcName(u), "start"}, lenient: had == same})
}

func (f freebsd) remove(u unit) []step {
	return []step{
		{run: []string{"service", rcName(u), "stop"}, lenient: true}, // it may not run
		{run: []string{"sysrc", "-x", rcName(u) + "_enable"}, lenient: true},
		{remove: f.file(u)},
	}
}

func (freebsd) status(u unit) []string { return []string{"service", rcName(u), "status"} }

// openbsd is rc.d(8) of OpenBSD.
type openbsd struct{}

func (openbsd) sign() string { return "/usr/sbin/rcctl" }

func (openbsd) file(u unit) string { return "/etc/rc.d/" + rcName(u) }

func (o openbsd) install(u unit, had presence) []step {
	start := "start"
	if had == other {
		start = "restart"
	}
	return []step{
		{write: o.file(u), text: rcText(openbsdPattern, u), mode: 0o555},
		{run: []string{"rcctl", "enable", rcName(u)}},
		{run: []string{"rcctl", start, rcName(u)}},
	}
}

func (o openbsd) remove(u unit) []step {
	return []step{
		{run: []string{"rcctl", "stop", rcName(u)}, lenient: true}, // it may not run
		{run: []string{"rcctl", "disable", rcName(u)}},
		{remove: o.file(u)},
	}
}

func (openbsd) status(u unit) []string { return []string{"rcctl", "check", rcName(u)} }
