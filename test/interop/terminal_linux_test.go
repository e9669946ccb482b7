package interop

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// interrupt is what Ctrl-C sends down a terminal.
const interrupt = "\x03"

// terminal is a program on a terminal of its own, at which somebody types.
type terminal struct {
	*process
	keyboard *os.File
	read     chan struct{} // closed when all that it said is in out
}

// onTerminal starts a program on a terminal; else it is as spawn.
func (ns *namespace) onTerminal(name string, env []string, args ...string) *terminal {
	ns.t.Helper()
	own, theirs, err := openTerminal()
	if err != nil {
		ns.t.Fatal(err)
	}
	argv := ns.argv(args...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	p := &terminal{keyboard: own, read: make(chan struct{})}
	p.process = ns.watch(name, cmd, func() error {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		return errors.Join(cmd.Start(), theirs.Close())
	})
	go func() {
		_, _ = io.Copy(&p.out, own) // an error is how a terminal tells that nobody has it any more
		close(p.read)
	}()
	ns.t.Cleanup(func() { _ = own.Close() })
	return p
}

// openTerminal makes a pair of pseudo-terminals.
func openTerminal() (own, theirs *os.File, err error) {
	if own, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	number, err := unix.IoctlGetUint32(int(own.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(own.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		return nil, nil, errors.Join(err, own.Close())
	}
	return own, theirs, nil
}

// types types a text, or a key.
func (p *terminal) types(text string) {
	p.t.Helper()
	if _, err := p.keyboard.WriteString(text); err != nil {
		p.t.Fatal(err)
	}
}

// answers waits for a question and types the answer to it.
func (p *terminal) answers(question, answer string) {
	p.t.Helper()
	p.says(question)
	p.types(answer + "\n")
}

// wait waits for the end, and for all that was said, and returns the exit status.
func (p *terminal) wait() int {
	p.t.Helper()
	status := p.process.wait()
	<-p.read
	return status
}
