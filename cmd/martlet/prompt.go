package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/term"

	"martlet"
)

// terminalPrompt asks on the terminal; nil if in is none.
func terminalPrompt(in *os.File, out io.Writer) func(context.Context, martlet.Login) (string, []byte, error) {
	fd := int(in.Fd())
	if !term.IsTerminal(fd) {
		return nil
	}
	return func(ctx context.Context, l martlet.Login) (string, []byte, error) {
		before, err := term.GetState(fd)
		if err != nil {
			return "", nil, err
		}
		type answer struct {
			user     string
			password []byte
			err      error
		}
		answered := make(chan answer, 1)
		go func() {
			user, password, err := ask(in, out, l, func() ([]byte, error) { return term.ReadPassword(fd) })
			answered <- answer{user, password, err}
		}()
		select {
		case a := <-answered:
			return a.user, a.password, a.err
		case <-ctx.Done():
			// What still reads does so without echo.
			fmt.Fprintln(out)
			return "", nil, fmt.Errorf("%w, %w", context.Cause(ctx), term.Restore(fd, before))
		}
	}
}

// telling has asks told when somebody begins and ends to be asked by prompt, which may be nil.
func telling(prompt func(context.Context, martlet.Login) (string, []byte, error), asks chan<- bool) func(context.Context, martlet.Login) (string, []byte, error) {
	if prompt == nil {
		return nil
	}
	tell := func(ctx context.Context, asking bool) {
		select {
		case asks <- asking:
		case <-ctx.Done():
		}
	}
	return func(ctx context.Context, l martlet.Login) (string, []byte, error) {
		tell(ctx, true)
		defer tell(ctx, false)
		return prompt(ctx, l)
	}
}

// ask reads a user name, where none is known, and a password, which secret reads.
func ask(in io.Reader, out io.Writer, l martlet.Login, secret func() ([]byte, error)) (string, []byte, error) {
	user := l.User
	if user == "" {
		fmt.Fprintf(out, "User name for %s at %s: ", l.Connection, l.Gateway)
		line := bufio.NewScanner(in)
		if !line.Scan() {
			return "", nil, io.ErrUnexpectedEOF
		}
		user = line.Text()
	}
	fmt.Fprintf(out, "Password of %s for %s: ", user, l.Connection)
	password, err := secret()
	fmt.Fprintln(out)
	return user, password, err
}

// commandPrompt asks a command of the user's keyring for the password: the first line that it prints.
func commandPrompt(command string, stderr io.Writer) func(context.Context, martlet.Login) (string, []byte, error) {
	return func(ctx context.Context, l martlet.Login) (string, []byte, error) {
		failed := func(why string) (string, []byte, error) {
			return "", nil, &martlet.Error{Code: "no-credential", What: "--password-command gave no password for " + l.Connection, Why: why, Hint: "run it by hand; it must print the password as its first line"}
		}
		if l.User == "" {
			return failed("whose password it is is not known: name the user, as in alice@vpn.example.com")
		}
		shell := []string{"sh", "-c"}
		if runtime.GOOS == "windows" {
			shell = []string{"cmd", "/C"}
		}
		ask := exec.CommandContext(ctx, shell[0], append(shell[1:], command)...)
		ask.Stderr = stderr
		out, err := ask.Output()
		if err != nil {
			return failed(err.Error())
		}
		password, _, _ := bytes.Cut(out, []byte("\n"))
		if password = bytes.TrimSuffix(password, []byte("\r")); len(password) == 0 {
			return failed("its first line is empty")
		}
		return l.User, password, nil
	}
}
