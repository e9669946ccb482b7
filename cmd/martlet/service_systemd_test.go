package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// unknownBefore254 are settings that systemd before 254 warns of and leaves out.
var unknownBefore254 = regexp.MustCompile(`Unknown key(?: name)? '(RestartSteps|RestartMaxDelaySec)' in section`)

// analyze is systemd-analyze, or a reason why there is none. MARTLET_TEST_SYSTEMD names the folder of an
// unpacked Debian package systemd, with those of its libraries beside it.
func analyze(t *testing.T) func(args ...string) (string, error) {
	t.Helper()
	program, env := "systemd-analyze", os.Environ()
	if root := os.Getenv("MARTLET_TEST_SYSTEMD"); root != "" {
		program = filepath.Join(root, "usr/bin/systemd-analyze")
		libraries, err := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu"))
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range libraries {
			libraries = append(libraries, filepath.Join(l, "systemd"))
		}
		env = append(env, "LD_LIBRARY_PATH="+strings.Join(libraries, ":"))
	}
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skip("needs systemd-analyze (Debian: systemd)")
	}
	return func(args ...string) (string, error) {
		cmd := exec.Command(path, args...)
		cmd.Env = append(env, "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
}

// TestSystemdTakesUnits: systemd finds no fault in the units of packages, nor in those that install
// writes, and thinks well of their bounds.
func TestSystemdTakesUnits(t *testing.T) {
	systemdAnalyze := analyze(t)
	dir := t.TempDir()
	// Whoever verifies wants the program to be there.
	program := filepath.Join(dir, "martlet")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700); err != nil { //nolint:gosec // it is a program
		t.Fatal(err)
	}
	here := func(u unit) unit { u.program = program; return u }
	profile := unit{name: "office", args: []string{"up", "office"}, control: "/run/martlet/control.sock"}
	for name, text := range map[string]string{
		"martlet@.service":               strings.ReplaceAll(connectionUnit, "/usr/bin/martlet", program),
		"martlet.service":                strings.ReplaceAll(gatewayUnit, "/usr/bin/martlet", program),
		systemd{}.unit(office):           systemd{}.text(here(office)),
		systemd{}.unit(profile):          systemd{}.text(here(profile)),
		"own/" + systemd{}.unit(gateway): systemd{}.text(here(gateway)),
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := systemdAnalyze("verify", "--man=no", path)
		if err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		for line := range strings.Lines(out) {
			// Other units of this machine are verified too.
			if strings.Contains(line, "martlet") && !unknownBefore254.MatchString(line) {
				t.Errorf("%s: %s", name, line)
			}
		}
		out, err = systemdAnalyze("security", "--offline=true", path)
		found := regexp.MustCompile(`Overall exposure level for .*: (\d+\.\d+)`).FindStringSubmatch(out)
		if err != nil || found == nil {
			t.Errorf("%s: %v: %s", name, err, out)
			continue
		}
		// What is open beyond this: root, the host's network and device, and who is asked for names; 0.3 of it
		// is to become another user, which who speaks to the network does before anything else.
		if exposure, err := strconv.ParseFloat(found[1], 64); err != nil || exposure > 2.9 {
			t.Errorf("%s: the exposure level is %s, at most 2.9 was reached", name, found[1])
		}
	}
}
