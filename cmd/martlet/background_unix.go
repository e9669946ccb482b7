//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"martlet"
)

// readyVariable names, to the process in the background, the descriptor on which it tells the one in
// the foreground that it stands. It is no key of the configuration.
const readyVariable = "_MARTLET_READY"

// inBackground tells whether this is the process that stays.
func inBackground() bool { return os.Getenv(readyVariable) != "" }

// background runs this command line in a process that stays when the tunnel stands, and returns then.
// Until then that has our terminal, on which it asks and tells, and our process group, so that both
// hear an interrupt.
func background(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ready, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	child := exec.Command(self, os.Args[1:]...)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.ExtraFiles = []*os.File{theirs}
	child.Env = append(os.Environ(), readyVariable+"=3")
	if err := errors.Join(child.Start(), theirs.Close()); err != nil {
		return err
	}
	// Whoever ends us alone means both.
	stop := context.AfterFunc(ctx, func() { _ = child.Process.Signal(syscall.SIGTERM) })
	defer stop()
	if n, _ := io.ReadFull(ready, make([]byte, 1)); n == 1 {
		return nil
	}
	err = child.Wait()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return &programError{status: e.ExitCode()} // it has told why
	}
	return err
}

// detach leaves terminal and session and tells who waits that all stands. What is still to be said goes
// to the file log.
func detach(log string) error {
	if parent != nil {
		files, err := parent.call(askDetach, nil, nil)
		if err != nil {
			return err
		}
		return leave(files)
	}
	files, err := detached(log)
	if err != nil {
		return err
	}
	return errors.Join(leave(files), tellReady())
}

// detached are what take the places of the terminal: for input, and for output.
func detached(log string) ([]*os.File, error) {
	none, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		err = &martlet.Error{Code: "host", What: "there is no place for what is to be said in the background", Why: err.Error(), Hint: "name another file by --log"}
		return nil, errors.Join(err, none.Close())
	}
	return []*os.File{none, out}, nil
}

// leave puts what detached opened in the place of the terminal, and leaves the session.
func leave(files []*os.File) error {
	if len(files) != 2 {
		return fmt.Errorf("%d files take the place of the terminal, want 2", len(files))
	}
	defer files[0].Close()
	defer files[1].Close()
	for to, from := range []*os.File{files[0], files[1], files[1]} {
		if err := dup(int(from.Fd()), to); err != nil {
			return fmt.Errorf("dup: %w", err)
		}
	}
	if _, err := unix.Setsid(); err != nil {
		return fmt.Errorf("setsid: %w", err)
	}
	return nil
}

// tellReady tells who waits in the foreground.
func tellReady() error {
	fd, err := strconv.Atoi(os.Getenv(readyVariable))
	if err != nil {
		return err
	}
	// Whatever is started from here on is nobody's background.
	if err := os.Unsetenv(readyVariable); err != nil {
		return err
	}
	ready := os.NewFile(uintptr(fd), "ready")
	_, err = ready.Write([]byte{1})
	return errors.Join(err, ready.Close())
}
