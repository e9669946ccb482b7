//go:build !linux

package enclave

import (
	"errors"
	"syscall"

	"martlet/tun"
)

// Enclave is of Linux.
type Enclave struct{ _ [0]func() }

// Help returns: there is no helper.
func Help([]string) {}

// Open fails.
func Open(Options) (*Enclave, error) {
	return nil, &Error{
		Step: "make namespaces",
		Why:  "this system has no network namespaces",
		Hint: "use Linux; elsewhere a proxy (martlet up --proxy) brings single programs into the tunnel",
		Err:  errors.ErrUnsupported,
	}
}

// Device is never called, since there is no Enclave; nor are the others.
func (*Enclave) Device() tun.Device { return nil }

// Limits is never called.
func (*Enclave) Limits() []string { return nil }

// Set is never called.
func (*Enclave) Set(Network) error { return errors.ErrUnsupported }

// Start is never called.
func (*Enclave) Start() error { return errors.ErrUnsupported }

// Signal is never called.
func (*Enclave) Signal(syscall.Signal) error { return errors.ErrUnsupported }

// Wait is never called.
func (*Enclave) Wait() (int, error) { return 0, errors.ErrUnsupported }

// Close is never called.
func (*Enclave) Close() error { return nil }
