package main

import "strings"

// controlManager is the service control manager of Windows. It keeps services in the registry, and is
// told by sc.exe, so that what --dry-run prints is what is done.
type controlManager struct{}

func (controlManager) sign() string { return "" } // it runs wherever Windows does

func (controlManager) file(unit) string { return "" }

// line starts `martlet service run`, which speaks with the manager.
func (controlManager) line(u unit) string {
	words := append([]string{u.program, "service", "run", "--"}, u.args...)
	for i, word := range words {
		if strings.Contains(word, " ") {
			words[i] = `"` + word + `"`
		}
	}
	return strings.Join(words, " ")
}

func (m controlManager) install(u unit, had presence) []step {
	do := []string{"sc.exe", "create", u.id()}
	var steps []step
	if had != absent {
		do[1] = "config"
		steps = append(steps, step{run: []string{"net.exe", "stop", u.id()}, lenient: true}) // it may not run
	}
	// Of sc.exe, the = belongs to the name, and the value is the word behind it.
	do = append(do, "binPath=", m.line(u), "start=", "auto", "depend=", "Nsi/TcpIp", "DisplayName=", u.title())
	return append(
		steps,
		step{run: do},
		step{run: []string{"sc.exe", "description", u.id(), u.mark()}},
		// What ends without a word is started again, see serviceRun.
		step{run: []string{"sc.exe", "failure", u.id(), "reset=", "3600", "actions=", "restart/5000/restart/30000/restart/300000"}},
		step{run: []string{"net.exe", "start", u.id()}},
	)
}

func (m controlManager) remove(u unit) []step {
	return []step{
		{run: []string{"net.exe", "stop", u.id()}, lenient: true}, // it may not run
		{run: []string{"sc.exe", "delete", u.id()}},
	}
}

func (controlManager) status(u unit) []string { return []string{"sc.exe", "query", u.id()} }
