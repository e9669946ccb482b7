package main

import (
	_ "embed"
	"strings"
)

// The units of a package for a distribution, which also are the patterns of those that are installed.
var (
	//go:embed dist/martlet.service
	gatewayUnit string
	//go:embed dist/martlet@.service
	connectionUnit string
)

// systemd is the service manager of most Linux systems.
type systemd struct{}

func (systemd) sign() string { return "/run/systemd/system" } // sd_booted(3)

func (s systemd) file(u unit) string { return "/etc/systemd/system/" + s.unit(u) }

func (systemd) unit(u unit) string {
	if u.name == "" {
		return "martlet.service"
	}
	return "martlet@" + u.name + ".service"
}

// text is the unit. An instance has a file of its own, which counts more than the template, so that
// it starts the program that wrote it.
func (systemd) text(u unit) string {
	pattern := connectionUnit
	if u.name == "" {
		pattern = gatewayUnit
	}
	var b strings.Builder
	b.WriteString("# " + u.mark() + "\n")
	_, pattern, _ = strings.Cut(pattern, "[Unit]\n")
	b.WriteString("[Unit]\n")
	for line := range strings.Lines(pattern) {
		switch key, _, _ := strings.Cut(line, "="); {
		case key == "ExecStart":
			line = "ExecStart=" + u.command() + "\n"
		case key == "ExecReload" && u.reload() == "":
			continue
		case key == "ExecReload":
			line = "ExecReload=" + u.reload() + "\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

func (s systemd) install(u unit, had presence) []step {
	steps := []step{
		{write: s.file(u), text: s.text(u), mode: 0o644},
		{run: []string{"systemctl", "daemon-reload"}},
	}
	if had == other {
		return append(steps, step{run: []string{"systemctl", "enable", s.unit(u)}}, step{run: []string{"systemctl", "restart", s.unit(u)}})
	}
	return append(steps, step{run: []string{"systemctl", "enable", "--now", s.unit(u)}})
}

func (s systemd) remove(u unit) []step {
	return []step{
		{run: []string{"systemctl", "disable", "--now", s.unit(u)}},
		{remove: s.file(u)},
		{run: []string{"systemctl", "daemon-reload"}},
	}
}

func (s systemd) status(u unit) []string {
	return []string{"systemctl", "status", "--no-pager", "--lines=0", s.unit(u)}
}
