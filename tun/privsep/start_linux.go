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

// Options are of a child.
type Options struct {
	User *Identity
	Args []string // with the program's name
	Env  []string
	More any // what the child is told, for its Client's More
}

// Child is a process that a Server serves.
type Child struct {
	server *Server
	wire   *wire
	cmd    *exec.Cmd
	done   chan struct{} // closed when it has ended
	err    error         // how
	served chan error    // why it is not served any more
}

// Start starts this program again, without rights. Where the system does not let it be of another user
// it stays of ours, and has no rights all the same. Limits that the child hears of tell so.
func (s *Server) Start(o Options) (*Child, error) {
	more, err := json.Marshal(o.More)
	if err != nil {
		return nil, err
	}
	h := hello{Process: os.Getpid(), User: o.User.Name, More: more}
	ours, theirs, err := pair()
	if err != nil {
		return nil, err
	}
	c := &Child{server: s, wire: &wire{conn: ours}, done: make(chan struct{}), served: make(chan error, 1)}
	id := o.User
	h.Limits, err = c.start(o, id, theirs)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) {
		// A container or a unit may lack CAP_SETUID and CAP_SETGID, or have one user only.
		h.User = "root"
		why := fmt.Sprintf("it is of user root, since it may not become %s: %v", id.Name, err)
		h.Limits, err = c.start(o, nil, theirs)
		h.Limits = append(h.Limits, why)
	}
	if err = errors.Join(err, theirs.Close()); err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	s.recoverEarly()
	go func() {
		err := s.serve(c.wire)
		c.served <- err
		_ = c.cmd.Process.Kill() // it says nothing any more, or what it must not; or it has ended
	}()
	if err := c.greet(h, s.Files); err != nil {
		c.Kill()
		return nil, err
	}
	return c, nil
}

// greet tells the child who its parent is, and gives it the files that it reads first.
func (c *Child) greet(h hello, of *Files) error {
	answers, files := of.answers()
	h.Files = answers
	defer (&message{files: files}).drop()
	text, err := json.Marshal(h)
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
func (c *Child) start(o Options, id *Identity, theirs *os.File) (limits []string, err error) {
	cmd := exec.Command(self)
	cmd.Args, cmd.Env = o.Args, append(o.Env[:len(o.Env):len(o.Env)], variable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if id != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: id.UID, Gid: id.GID}
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: nothing else may run on this thread
		var err error
		if limits, err = restrict(id != nil, o.Env); err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			c.err = cmd.Wait()
			close(c.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	c.cmd = cmd
	return limits, nil
}

// Signal tells the child of a signal. It need not be allowed to send it one.
func (c *Child) Signal(number syscall.Signal) error {
	return c.wire.write(message{Do: tellSignal, Body: json.RawMessage(strconv.Itoa(int(number)))})
}

// Kill ends the child.
func (c *Child) Kill() { _ = c.wire.conn.Close() }

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
