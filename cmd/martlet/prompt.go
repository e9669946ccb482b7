package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"

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
