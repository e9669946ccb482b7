package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"martlet"
)

// printSteps prints steps for people.
func printSteps(w io.Writer, steps []step) {
	for _, s := range steps {
		switch {
		case s.write != "":
			fmt.Fprintf(w, "# %s, mode %04o:\n%s\n", s.write, s.mode, s.text)
		case s.remove != "":
			fmt.Fprintf(w, "# remove %s\n", s.remove)
		default:
			fmt.Fprintln(w, commandLine(s.run))
		}
	}
}

// commandLine shows a command with quotes where a shell needs some.
func commandLine(words []string) string {
	shown := make([]string, len(words))
	for i, word := range words {
		shown[i] = word
		if strings.ContainsAny(word, " \"$\\") {
			shown[i] = "'" + word + "'"
		}
	}
	return strings.Join(shown, " ")
}

// carryOut does steps, and tells of each.
func carryOut(w io.Writer, steps []step) error {
	for _, s := range steps {
		if err := s.do(w); err != nil {
			return err
		}
	}
	return nil
}

func (s step) do(w io.Writer) error {
	switch {
	case s.write != "":
		if old, err := os.ReadFile(s.write); err == nil && string(old) == s.text {
			fmt.Fprintf(w, "martlet: %s is as it should be\n", s.write)
			return nil
		}
		if err := writeWhole(s.write, s.text, s.mode); err != nil {
			return serviceError("the service could not be written", err)
		}
		fmt.Fprintf(w, "martlet: wrote %s\n", s.write)
	case s.remove != "":
		if err := os.Remove(s.remove); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return serviceError("the service could not be removed", err)
		}
		fmt.Fprintf(w, "martlet: removed %s\n", s.remove)
	default:
		fmt.Fprintf(w, "martlet: %s\n", commandLine(s.run))
		var said bytes.Buffer
		cmd := exec.Command(s.run[0], s.run[1:]...)
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Run(); err != nil && !s.lenient {
			return &martlet.Error{
				Code: codeService, What: "it failed: " + commandLine(s.run), Why: err.Error(), Detail: printable(said.String()),
				Hint: "martlet service status tells more, and the log of the system; what was done before stays",
			}
		}
	}
	return nil
}

// writeWhole writes a file that is there whole or not at all, also where another was.
func writeWhole(path, text string, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".martlet-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // once it has its name there is nothing
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func serviceError(what string, err error) error {
	return &martlet.Error{Code: codeService, What: what, Why: err.Error(), Hint: "run as root, on a file system that can be written"}
}

// present tells what stands of a unit. A file of its name that we did not write, or wrote for another
// service, is an error.
func present(m manager, u unit) (presence, error) {
	path := m.file(u)
	if path == "" {
		ask := m.status(u)
		if err := exec.Command(ask[0], ask[1:]...).Run(); err != nil {
			return absent, nil //nolint:nilerr // that is how the manager says so
		}
		return other, nil
	}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return absent, nil
	case err != nil:
		return absent, serviceError("what stands of the service cannot be read", err)
	case !strings.Contains(string(text), u.mark()):
		return absent, &martlet.Error{
			Code: codeService, What: path + " is not touched",
			Why:  "it was not written by martlet service install for " + u.arg(),
			Hint: "move it away, if it is not needed, or call the connection otherwise",
		}
	}
	for _, s := range m.install(u, same) {
		if s.write == path && s.text == string(text) {
			return same, nil
		}
	}
	return other, nil
}

// installed are the services of ours that stand in files.
func installed(m manager) ([]unit, error) {
	var found []unit
	for _, pattern := range []unit{{}, {name: "*"}} {
		paths, err := filepath.Glob(m.file(pattern))
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, serviceError("a service cannot be read", err)
			}
			_, rest, ok := strings.Cut(string(text), writtenBy)
			arg, _, _ := strings.Cut(rest, "\n")
			if u := unitOf(strings.TrimSuffix(strings.TrimSuffix(arg, "</string>"), ".")); ok && m.file(u) == path {
				found = append(found, u)
			}
		}
	}
	return found, nil
}

// unitOf is the service that an argument of ours names.
func unitOf(arg string) unit {
	if arg == (unit{}).arg() {
		return unit{}
	}
	return unit{name: arg}
}
