package enclave

import (
	"errors"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Help is the helper's whole life, if args (those of os.Args) say that this process is one, and
// does not return then. Else it does nothing.
func Help(args []string) {
	if len(args) < 4 || args[1] != helperArgument {
		return
	}
	if err := help(args[2], args[3:]); err != nil {
		os.Stderr.WriteString("martlet: " + err.Error() + "\n")
		os.Exit(1)
	}
	os.Exit(0)
}

// stepDriver is told apart from the others by its hint.
const stepDriver = "open the TUN driver"

// helper serves orders inside.
type helper struct {
	orders    *net.UnixConn
	program   *program
	resolvers *os.File // nil: there is no resolv.conf
	waiting   sync.WaitGroup
}

func help(path string, args []string) error {
	// The program is of the same user, and need not look into this process.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return os.NewSyscallError("PR_SET_DUMPABLE", err)
	}
	outlive()
	orders, err := connOf(3)
	if err != nil {
		return errors.New("this is for martlet's own use, see martlet exec")
	}
	defer orders.Close()
	h := &helper{orders: orders, program: &program{path: path, args: args}}
	limits, err := h.setUp()
	if sendErr := send(orders, answer{Fault: faultOf(err), Limits: limits}, -1); err != nil || sendErr != nil {
		return sendErr // the other one tells the rest
	}
	err = h.serve()
	h.program.end()
	h.waiting.Wait()
	return err
}

// outlive leaves to the program what the terminal sends to all: the helper ends after it. Who
// ignores a signal since before (nohup does) passes that on.
func outlive() {
	caught := make(chan os.Signal, 1) // nobody reads it
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(caught, s)
		}
	}
}

// setUp does what need be done once.
func (h *helper) setUp() (limits []string, err error) {
	if h.resolvers, err = setMounts(); err != nil {
		return nil, err
	}
	if h.resolvers == nil {
		limits = append(limits, "this host has no "+resolvConf+" that could be replaced: names have no resolver")
	} else if err := writeResolvers(h.resolvers, nil); err != nil {
		return nil, err
	}
	return limits, setLoopback()
}

// serve carries out orders until nobody can give one any more.
func (h *helper) serve() error {
	for {
		var o order
		if _, err := receive(h.orders, &o); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
				return nil
			}
			return err
		}
		fd, err := h.carryOut(o)
		err = send(h.orders, answer{Fault: faultOf(err)}, fd)
		if fd >= 0 {
			unix.Close(fd)
		}
		if err != nil {
			return nil // nobody is there: the same as above
		}
	}
}

// carryOut returns a descriptor to send, or a negative number.
func (h *helper) carryOut(o order) (fd int, err error) {
	switch {
	case o.Open == openDriver:
		fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return -1, at(stepDriver, &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err})
		}
		return fd, nil
	case o.Open == openSocket:
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return -1, at("open a socket", os.NewSyscallError("socket", err))
		}
		return fd, nil
	case o.Set != nil:
		return -1, h.set(o.Device, *o.Set)
	case o.Start:
		return -1, h.start()
	case o.Signal != 0:
		return -1, h.program.signal(o.Signal)
	}
	return -1, errors.New("an order that the helper does not know")
}

func (h *helper) set(device string, n Network) error {
	if err := setNetwork(device, n.Addresses); err != nil {
		return err
	}
	if h.resolvers == nil {
		return nil
	}
	return writeResolvers(h.resolvers, n.Resolvers)
}

// start starts the program, and tells when it has ended.
func (h *helper) start() error {
	if h.program.started() {
		return at("start the program", errors.New("it was started before"))
	}
	began := make(chan error, 1)
	h.waiting.Go(func() {
		status, err := h.program.run(began)
		if err != nil {
			return
		}
		// An error: nobody wants to know any more.
		_ = send(h.orders, answer{Ended: &ending{Status: status}}, -1)
	})
	return at("start "+h.program.path, <-began)
}
