package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/term"

	"martlet"
)

// typist is who types on a terminal.
type typist struct {
	in  *os.File
	out io.Writer

	// What was asked for when nobody waited any more is read all the same, and is the next answer:
	// a read of a terminal cannot be called off.
	lines   chan typed
	reading bool
}

type typed struct {
	line []byte
	err  error
}

var errNothingTyped = errors.New("nothing was typed")

// terminalPrompt asks on the terminal; nil if in is none. One question is asked at a time.
func terminalPrompt(in *os.File, out io.Writer) func(context.Context, martlet.Login) (string, []byte, error) {
	if !term.IsTerminal(int(in.Fd())) {
		return nil
	}
	return newTypist(in, out).login
}

func newTypist(in *os.File, out io.Writer) *typist {
	return &typist{in: in, out: out, lines: make(chan typed, 1)}
}

// login asks for a user name, where none is known, and for a password, which is not shown.
func (t *typist) login(ctx context.Context, l martlet.Login) (string, []byte, error) {
	user := l.User
	if user == "" {
		name, err := t.ask(ctx, fmt.Sprintf("User name for %s at %s: ", l.Connection, l.Gateway))
		if err != nil {
			return "", nil, err
		}
		user = string(name)
	}
	password, err := t.secret(ctx, fmt.Sprintf("Password of %s for %s: ", user, l.Connection))
	if err != nil {
		return "", nil, err
	}
	return user, password, nil
}

// secret asks for what is not shown, also to who types at once after the question.
func (t *typist) secret(ctx context.Context, question string) ([]byte, error) {
	shows, err := hideTyping(int(t.in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("the terminal would show the password: %w", err)
	}
	password, err := t.ask(ctx, question)
	if ctx.Err() == nil {
		fmt.Fprintln(t.out) // the end of the line that was typed is not shown either
	}
	return password, errors.Join(err, shows())
}

// ask puts a question and returns the line that is typed then.
func (t *typist) ask(ctx context.Context, question string) ([]byte, error) {
	fmt.Fprint(t.out, question)
	if !t.reading {
		t.reading = true
		go func() {
			line, err := readLine(t.in)
			t.lines <- typed{line, err}
		}()
	}
	select {
	case answer := <-t.lines:
		t.reading = false
		return answer.line, answer.err
	case <-ctx.Done():
		fmt.Fprintln(t.out)
		return nil, context.Cause(ctx)
	}
}

// readLine reads a line and nothing behind it.
func readLine(in io.Reader) ([]byte, error) {
	var line []byte
	for one := make([]byte, 1); ; {
		n, err := in.Read(one)
		switch {
		case n == 1 && one[0] == '\n':
			return bytes.TrimSuffix(line, []byte("\r")), nil
		case n == 1:
			line = append(line, one[0])
		case err == nil:
		case errors.Is(err, io.EOF) && len(line) > 0:
			return line, nil
		case errors.Is(err, io.EOF):
			return nil, errNothingTyped
		default:
			return nil, err
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
