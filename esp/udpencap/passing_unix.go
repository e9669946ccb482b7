//go:build unix

package udpencap

import (
	"errors"
	"syscall"
)

// passing tells whether an error is about one datagram, perhaps an earlier one that an
// ICMP error came back for, and not about the socket.
func passing(err error) bool {
	e, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		return false
	}
	switch e {
	case syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN,
		syscall.EPROTO, syscall.ENOPROTOOPT, syscall.EMSGSIZE:
		return true
	}
	return false
}
