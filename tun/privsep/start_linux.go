package privsep

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	self = "/proc/self/exe"
	// childsEnd is the descriptor of a child that leads to its parent: the first of os/exec's ExtraFiles.
	childsEnd = 3
)

// Identity is whom a child runs as.
type Identity struct {
	Name     string
	UID, GID uint32
}

// The users that a child runs as where nobody says so: the first that there is.
var defaultUsers = []string{"martlet", "nobody"}

// Identify finds a user; "" is the default. It is nil for root: nothing is to be separated then.
func Identify(name string) (*Identity, error) {
	names := []string{name}
	if name == "" {
		names = defaultUsers
	}
	var u *user.User
	var err error
	for _, name := range names {
		if u, err = user.Lookup(name); err == nil {
			break
		}
	}
	switch {
	case err != nil && name != "":
		return nil, err
	case err != nil: // a container without a list of users
		return &Identity{"nobody", 65534, 65534}, nil
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err, err2); err != nil || uid == 0 {
		return nil, err
	}
	return &Identity{u.Username, uint32(uid), uint32(gid)}, nil
}

// Child is a process without rights.
type Child struct {
	user   Identity
	limits []string // what it is not kept from
	server *Server  // that serves it
	wire   *wire
	cmd    *exec.Cmd
	done   chan struct{} // closed when it has ended
	err    error         // how
	served chan error    // why it is not served any more
}

// Spawn starts this program again, without rights, with arguments, of which the first is its name, and an environment. Where the
// system does not let it be of another user it stays of ours, and has no rights all the same. It waits in Join until a
// Server serves it.
func Spawn(user *Identity, args, env []string) (*Child, error) {
	ours, theirs, err := pair()
	if err != nil {
		return nil, err
	}
	c := &Child{user: *user, wire: &wire{conn: ours}, done: make(chan struct{}), served: make(chan error, 1)}
	err = c.start(args, env, theirs, false)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) {
		// A container or a unit may lack CAP_SETUID and CAP_SETGID, or have one user only.
		why := fmt.Sprintf("it is of user root, since it may not become %s: %v", user.Name, err)
		err = c.start(args, env, theirs, true)
		c.limits = append(c.limits, why)
		c.user.Name = "root"
	}
	if err = errors.Join(err, theirs.Close()); err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	return c, nil
}

// Serve tells a child who its parent is, and more for its Client's More, and serves it.
func (s *Server) Serve(c *Child, more any) error {
	c.server = s
	s.recoverEarly()
	go func() {
		err := s.serve(c.wire)
		c.served <- err
		_ = c.cmd.Process.Kill() // it says nothing any more, or what it must not; or it has ended
	}()
	if err := c.greet(more); err != nil {
		c.Kill()
		return err
	}
	return nil
}

// greet also gives the child the files that it reads first.
func (c *Child) greet(more any) error {
	answers, files := c.server.Files.answers()
	defer (&message{files: files}).drop()
	text, err := json.Marshal(more)
	if err == nil {
		text, err = json.Marshal(hello{Process: os.Getpid(), User: c.user.Name, Limits: c.limits, Files: answers, More: text})
	}
	if err != nil {
		return err
	}
	return c.wire.write(message{Do: tellHello, Body: text}, descriptors(files)...)
}

// pair are two ends of a stream.
func pair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "child")
	file := os.NewFile(uintptr(fds[0]), "parent")
	conn, err := net.FileConn(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return conn.(*net.UnixConn), theirs, nil
}

// start starts the process from a thread that is restricted, and ends when the process has: a signal
// tells a process of the end of the thread that started it.
func (c *Child) start(args, env []string, theirs *os.File, asOurs bool) error {
	cmd := exec.Command(self)
	cmd.Args, cmd.Env = args, append(env[:len(env):len(env)], variable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if !asOurs {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.user.UID, Gid: c.user.GID}
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: nothing else may run on this thread
		var err error
		if c.limits, err = restrict(!asOurs, env); err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			c.err = cmd.Wait()
			close(c.done)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	c.cmd = cmd
	return nil
}

// Signal tells the child of a signal. It need not be allowed to send it one.
func (c *Child) Signal(number syscall.Signal) error {
	return c.wire.write(message{Do: tellSignal, Body: json.RawMessage(strconv.Itoa(int(number)))})
}

// Kill ends the child, whether it is served or not.
func (c *Child) Kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	_ = c.wire.conn.Close()
}

// Done is closed when the child has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// PID is the process.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Finish is called when the child has ended. It undoes what that left: clean tells that it ended by
// itself and left nothing, with an exit status; how is in words.
func (c *Child) Finish() (status int, clean bool, how string, err error) {
	_ = c.wire.conn.Close() // nobody is left at the other end
	served := <-c.served
	left, err := c.server.restore()
	state := c.cmd.ProcessState
	how = state.String()
	if served != nil && !isEnd(served) {
		how += ", after it said what it must not: " + served.Error()
	}
	return state.ExitCode(), state.Exited() && !left, how, err
}
