package enclave

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// program is what the enclave is for.
type program struct {
	path string
	args []string

	mu      sync.Mutex
	process *os.Process   // nil until it started
	done    chan struct{} // closed when it has ended; nil as process is
}

func (p *program) started() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.process != nil
}

// run starts the program, tells began what came of that, and waits for its end. The thread
// gives up all rights first and is not used for anything else: a process starts with those of the thread
// that makes it, and is killed with that.
func (p *program) run(began chan<- error) (status int, err error) {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	cmd := &exec.Cmd{
		Path: p.path, Args: p.args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL},
	}
	if err = errors.Join(disown(), giveUp()); err == nil {
		err = cmd.Start()
	}
	if err != nil {
		began <- err
		return 0, err
	}
	p.mu.Lock()
	p.process, p.done = cmd.Process, make(chan struct{})
	p.mu.Unlock()
	began <- nil
	defer close(p.done)
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return 128 + int(ws.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}

// disown has no descriptor but those of the standard streams go to the program, also of those
// that whoever started us left open.
func disown() error {
	err := unix.CloseRange(3, 1<<32-1, unix.CLOSE_RANGE_CLOEXEC)
	if err == nil {
		return nil
	}
	// Before Linux 5.11.
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, entry := range fds {
		if fd, ok := number(entry.Name()); ok && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// number reads a descriptor's name.
func number(text string) (n int, ok bool) {
	for _, c := range []byte(text) {
		if c < '0' || c > '9' || n > 1<<24 {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, text != ""
}

// Of linux/securebits.h, each with the bit that locks it.
const (
	noRoot         = 3
	noAmbientRaise = 3 << 6
)

// giveUp leaves the calling thread, and what it starts, without any capability and without a way
// to one: neither a file's nor root's own.
func giveUp() error {
	for capability := uintptr(0); ; capability++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) && capability > unix.CAP_SETPCAP {
			break // past the last that the kernel knows
		}
		if err != nil {
			return os.NewSyscallError("PR_CAPBSET_DROP", err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, noRoot|noAmbientRaise, 0, 0, 0); err != nil {
		return os.NewSyscallError("PR_SET_SECUREBITS", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return os.NewSyscallError("PR_CAP_AMBIENT", err)
	}
	var none [2]unix.CapUserData
	if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
		return os.NewSyscallError("capset", err)
	}
	return os.NewSyscallError("PR_SET_NO_NEW_PRIVS", unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
}

// signal sends a signal to the program if it runs.
func (p *program) signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process == nil {
		return nil
	}
	if err := p.process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return at("send a signal to the program", err)
	}
	return nil
}

// end has the program end, at last by force.
func (p *program) end() {
	p.mu.Lock()
	done := p.done
	p.mu.Unlock()
	if done == nil {
		return
	}
	// A failure is that it has ended: it is of our user.
	_ = p.signal(unix.SIGTERM)
	select {
	case <-done:
	case <-time.After(patience):
		_ = p.signal(unix.SIGKILL)
		<-done
	}
}
