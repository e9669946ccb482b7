package enclave

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Orders go to the helper and answers come back over a pair of unix sockets of whole
// messages, one answer to an order. What ends the program comes in between. The end of the
// stream is the end of the other process.

// order has one field that is set.
type order struct {
	Open   string         `json:"open,omitempty"` // "driver" or "socket"; the answer brings a descriptor
	Set    *Network       `json:"set,omitempty"`
	Device string         `json:"device,omitempty"` // of Set
	Start  bool           `json:"start,omitempty"`
	Signal syscall.Signal `json:"signal,omitempty"`
}

const (
	openDriver = "driver"
	openSocket = "socket"
)

// answer is what came of an order; or, with Ended, of the program.
type answer struct {
	Fault  *fault   `json:"fault,omitempty"`
	Limits []string `json:"limits,omitempty"` // of the first answer, which no order asked for
	Ended  *ending  `json:"ended,omitempty"`

	fd int // not negative: a descriptor that came along
}

type ending struct {
	Status int `json:"status"` // as shells have it: 128 and the number of a signal that ended it
}

// fault is an error on its way between processes.
type fault struct {
	Step  string        `json:"step"`
	Text  string        `json:"text"`
	Errno syscall.Errno `json:"errno,omitempty"` // the one inside, 0 if there is none
}

// at names the step at which an error came up; nil stays nil.
func at(step string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Step: step, Err: err}
}

func faultOf(err error) *fault {
	if err == nil {
		return nil
	}
	f := &fault{Text: err.Error()}
	if e, ok := errors.AsType[*Error](err); ok {
		f.Step, f.Text = e.Step, e.Err.Error()
	}
	f.Errno, _ = errors.AsType[syscall.Errno](err)
	return f
}

func (f *fault) Error() string { return f.Text }

func (f *fault) Unwrap() error {
	if f.Errno == 0 {
		return nil
	}
	return f.Errno
}

// maxMessage is more than the longest message has: the addresses that one SA may bring.
const maxMessage = 1 << 16

// socketPair makes the two ends, both closed on exec.
func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "orders")
	if ours, err = connOf(fds[0]); err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return ours, theirs, nil
}

// connOf takes a descriptor over.
func connOf(fd int) (*net.UnixConn, error) {
	file := os.NewFile(uintptr(fd), "orders")
	defer file.Close()
	conn, err := net.FileConn(file) // a copy, closed on exec
	if err != nil {
		return nil, err
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("descriptor %d is no unix socket", fd), conn.Close())
	}
	return unixConn, nil
}

// send writes one message; fd goes along unless it is negative, and stays the caller's.
func send(conn *net.UnixConn, message any, fd int) error {
	data, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(data) > maxMessage {
		return fmt.Errorf("a message of %d octets, at most %d are taken", len(data), maxMessage)
	}
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	_, _, err = conn.WriteMsgUnix(data, rights, nil)
	return err
}

// receive reads one message; fd is negative unless one came along, which is the caller's.
func receive(conn *net.UnixConn, message any) (fd int, err error) {
	data, rights := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4))
	n, m, _, _, err := conn.ReadMsgUnix(data, rights)
	if err != nil {
		return -1, err
	}
	fd = -1
	if controls, err := unix.ParseSocketControlMessage(rights[:m]); err == nil && len(controls) == 1 {
		if fds, err := unix.ParseUnixRights(&controls[0]); err == nil && len(fds) == 1 {
			fd = fds[0]
		}
	}
	if err := json.Unmarshal(data[:n], message); err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return -1, fmt.Errorf("enclave: a message that makes no sense: %w", err)
	}
	return fd, nil
}
