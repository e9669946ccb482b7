package interop

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"martlet"
)

// node is the program under test.
type node struct {
	ns      *namespace
	config  string
	program string
	proc    *process
}

// newNode writes a configuration; connections are its text behind [node].
func newNode(ns *namespace, more, connections string) *node {
	ns.t.Helper()
	return &node{ns: ns, program: shared.martlet, config: ns.write("martlet.toml", fmt.Sprintf(`
[node]
control = "%[1]s/control.sock"
state = "%[1]s/state"
%[2]s
%[3]s`, ns.dir, more, connections))}
}

// martlet runs a command of the program to its end.
func (m *node) martlet(args ...string) (string, error) {
	return m.ns.try(append([]string{m.program}, args...)...)
}

// serve starts it as the waiting side.
func (m *node) serve() {
	m.ns.t.Helper()
	m.proc = m.ns.spawn("martlet serve", nil, m.program, "serve", "-c", m.config)
	m.proc.says("serving on")
}

// up starts it as the side that connects, and does not wait.
func (m *node) up(name string) {
	m.ns.t.Helper()
	m.proc = m.ns.spawn("martlet up", nil, m.program, "up", "-v", "-c", m.config, name)
}

// status asks over the control socket; nil where nobody answers.
func (m *node) status() *martlet.Status {
	b, err := exec.Command(m.program, "status", "--json", "--control", filepath.Join(m.ns.dir, "control.sock")).Output()
	if err != nil {
		return nil
	}
	s := &martlet.Status{}
	if err := json.Unmarshal(b, s); err != nil {
		m.ns.t.Fatalf("martlet status --json: %v\n%s", err, b)
	}
	return s
}

// now is the status of a program that must answer.
func (m *node) now() *martlet.Status {
	m.ns.t.Helper()
	s := m.status()
	if s == nil {
		m.ns.t.Fatalf("martlet does not tell its status:\n%s", tail(m.proc.out.String(), 60))
	}
	return s
}

// awaitUp waits until so many SAs stand with a child each, and returns the status.
func (m *node) awaitUp(sas int) *martlet.Status {
	m.ns.t.Helper()
	var s *martlet.Status
	until(m.ns.t, "the tunnel is up", func() bool {
		if m.proc.ended() {
			m.ns.t.Fatalf("martlet ended:\n%s", tail(m.proc.out.String(), 60))
		}
		if s = m.status(); s == nil {
			return false
		}
		up := 0
		for _, sa := range s.SAs {
			if sa.State == "established" && len(sa.Children) > 0 {
				up++
			}
		}
		return up >= sas
	})
	return s
}

// awaitDown waits until it lists no SA.
func (m *node) awaitDown() {
	m.ns.t.Helper()
	until(m.ns.t, "no SA is left", func() bool {
		s := m.status()
		return s != nil && len(s.SAs) == 0
	})
}

// virtual returns the virtual addresses of the only SA, IPv4 first.
func virtual(s *martlet.Status) (v4, v6 string) {
	for _, p := range s.SAs[0].Addresses {
		if p.Addr().Is4() {
			v4 = p.Addr().String()
		} else {
			v6 = p.Addr().String()
		}
	}
	return v4, v6
}

// end stops the program in order; it must undo everything and say nothing wrong.
func (m *node) end() {
	m.ns.t.Helper()
	m.proc.stop(syscall.SIGTERM)
	out := m.proc.out.String()
	for _, bad := range []string{"panic", "DATA RACE", "goroutine "} {
		if strings.Contains(out, bad) {
			m.ns.t.Errorf("martlet said %q", bad)
		}
	}
	m.undone()
}

// undone fails the test if anything of the program is left on the host.
func (m *node) undone() {
	m.ns.t.Helper()
	for _, look := range []struct{ args, what string }{
		{"-br link", "martlet0"},
		{"rule", "19809"},
		{"-6 rule", "19809"},
		{"rule", "0x4d61"},
		{"route show table 19809", "dev"},
		{"-6 route show table 19809", "dev"},
	} {
		out, err := m.ns.try(append([]string{"ip"}, strings.Fields(look.args)...)...)
		if err == nil && strings.Contains(out, look.what) { // it is an error that a table is not there
			m.ns.t.Errorf("ip %s shows after the end:\n%s", look.args, out)
		}
	}
	if out := m.ns.run("nft", "list", "tables"); strings.Contains(out, "martlet") {
		m.ns.t.Errorf("nft list tables shows after the end:\n%s", out)
	}
}

// quoted writes a list of TOML strings.
func quoted(list []string) string {
	q := make([]string, len(list))
	for i, s := range list {
		q[i] = fmt.Sprintf("%q", s)
	}
	return "[" + strings.Join(q, ", ") + "]"
}
