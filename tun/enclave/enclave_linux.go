package enclave

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"martlet/tun"
)

// self is this executable, also where it was replaced meanwhile.
const self = "/proc/self/exe"

// errGone is the end of the helper without an order.
var errGone = errors.New("the process inside of the namespaces is gone: was it killed?")

// Enclave is one set of namespaces with the helper in it. Its methods may be called by
// anybody.
type Enclave struct {
	helper *exec.Cmd
	orders *net.UnixConn
	device tun.Device
	name   string
	limits []string

	calls   sync.Mutex
	answers chan answer // closed when the helper is gone

	ended  chan struct{} // closed when the program has ended, or can end no more
	status int
	err    error

	closing sync.Once
}

// Open makes an enclave and its device; the program starts with Start. The executable must call
// Help first of all in its main. Errors are *Error, but for a program that is not there
// (exec.ErrNotFound, fs.ErrPermission and others, as exec.LookPath has them).
func Open(o Options) (_ *Enclave, err error) {
	if len(o.Args) == 0 {
		return nil, errors.New("enclave: no program is named")
	}
	path, err := exec.LookPath(o.Args[0])
	if err != nil {
		return nil, err
	}
	for name, file := range map[string]*os.File{"input": o.Stdin, "output": o.Stdout, "error": o.Stderr} {
		if err := noNetworkSocket(name, file); err != nil {
			return nil, err
		}
	}
	e := &Enclave{name: o.Device, answers: make(chan answer, 1), ended: make(chan struct{})}
	if err := e.spawn(o, path); err != nil {
		return nil, err
	}
	go e.listen()
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	ready, err := e.answer()
	if err != nil {
		return nil, refused(err)
	}
	e.limits = ready.Limits
	if e.device, err = tun.OpenIn(e, o.Device, o.MTU, o.Queues); err != nil {
		return nil, noDevice(err)
	}
	e.name = e.device.Name()
	return e, nil
}

// noNetworkSocket refuses a stream that is a way out of its own.
func noNetworkSocket(name string, file *os.File) error {
	if file == nil {
		return nil
	}
	domain, err := unix.GetsockoptInt(int(file.Fd()), unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil || domain == unix.AF_UNIX {
		return nil
	}
	return &Error{
		Step: "hand the standard streams to the program",
		Why:  "standard " + name + " is a network socket of the host, through which the program would pass the tunnel by",
		Hint: "put a pipe between, with cat for example",
		Err:  fmt.Errorf("a socket of the address family %d", domain),
	}
}

// spawn starts the helper in new namespaces: as the same user, with the capabilities over these that
// it needs. Only they are its own: none reaches beyond.
func (e *Enclave) spawn(o Options, path string) error {
	ours, theirs, err := socketPair()
	if err != nil {
		return at("open a pair of sockets", err)
	}
	defer theirs.Close()
	e.helper = &exec.Cmd{
		Path:       self,
		Args:       append([]string{os.Args[0], helperArgument, path}, o.Args...),
		Env:        o.Env,
		ExtraFiles: []*os.File{theirs}, // descriptor 3
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}},
			// SETPCAP is for giving all of them up.
			AmbientCaps: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP},
		},
	}
	// A nil *os.File is not a nil interface.
	if o.Stdin != nil {
		e.helper.Stdin = o.Stdin
	}
	if o.Stdout != nil {
		e.helper.Stdout = o.Stdout
	}
	if o.Stderr != nil {
		e.helper.Stderr = o.Stderr
	}
	if err := e.helper.Start(); err != nil {
		return errors.Join(refused(at("make user, network and mount namespaces", err)), ours.Close())
	}
	e.orders = ours
	return nil
}

// listen sorts what the helper says, until its end.
func (e *Enclave) listen() {
	for {
		var a answer
		fd, err := receive(e.orders, &a)
		if err != nil {
			break
		}
		if a.Ended == nil {
			a.fd = fd
			e.answers <- a
			continue
		}
		e.status = a.Ended.Status
		close(e.ended)
	}
	close(e.answers)
	select {
	case <-e.ended:
	default:
		e.err = errGone
		close(e.ended)
	}
}

// answer waits for the next one.
func (e *Enclave) answer() (answer, error) {
	a, ok := <-e.answers
	switch {
	case !ok:
		return a, at("ask the helper", errGone)
	case a.Fault != nil:
		return a, at(a.Fault.Step, a.Fault)
	}
	return a, nil
}

// call gives an order and waits for what comes of it.
func (e *Enclave) call(o order) (answer, error) {
	e.calls.Lock()
	defer e.calls.Unlock()
	if err := send(e.orders, o, -1); err != nil {
		return answer{}, at("ask the helper", err)
	}
	return e.answer()
}

func (e *Enclave) descriptor(what string) (int, error) {
	a, err := e.call(order{Open: what})
	if err == nil && a.fd < 0 {
		err = at("open a "+what, errors.New("no descriptor came"))
	}
	return a.fd, err
}

// OpenDriver makes the Enclave a tun.Namespace.
func (e *Enclave) OpenDriver() (int, error) { return e.descriptor(openDriver) }

// OpenSocket makes the Enclave a tun.Namespace.
func (e *Enclave) OpenSocket() (int, error) { return e.descriptor(openSocket) }

// Device is the end of the TUN that is outside. Close closes it too.
func (e *Enclave) Device() tun.Device { return e.device }

// Limits tells in plain English what is not as it should be inside, a sentence each.
func (e *Enclave) Limits() []string { return e.limits }

// Set gives the device addresses and routes, and the program resolvers, in place of those of
// before; the device is up then. The MTU is the Device's own matter.
func (e *Enclave) Set(n Network) error {
	_, err := e.call(order{Set: &n, Device: e.name})
	return err
}

// Start starts the program, once.
func (e *Enclave) Start() error {
	_, err := e.call(order{Start: true})
	return err
}

// Signal sends a signal to the program; to one that ended, nothing.
func (e *Enclave) Signal(s syscall.Signal) error {
	_, err := e.call(order{Signal: s})
	return err
}

// Wait waits until the program that was started has ended: its exit status, or 128 and the
// number of the signal that ended it. It is an error if the helper was killed, which
// takes the program with it.
func (e *Enclave) Wait() (status int, err error) {
	<-e.ended
	return e.status, e.err
}

// Close ends the program, with SIGTERM and after 5 seconds with SIGKILL, and takes the namespaces and the
// device away. What the program left behind stays without a network. The second call does
// nothing.
func (e *Enclave) Close() (err error) {
	e.closing.Do(func() {
		if unixErr := e.orders.CloseWrite(); unixErr != nil {
			err = errors.Join(err, unixErr)
		}
		if waitErr := e.helper.Wait(); waitErr != nil {
			err = errors.Join(err, at("end the helper", waitErr))
		}
		<-e.ended
		err = errors.Join(err, e.orders.Close())
		if e.device != nil {
			err = errors.Join(err, e.device.Close())
		}
	})
	return err
}
