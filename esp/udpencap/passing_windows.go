package udpencap

import (
	"errors"
	"syscall"

	"golang.org/x/sys/windows"
)

// passing tells whether an error is about one datagram, perhaps an earlier one that an
// ICMP error came back for, and not about the socket.
func passing(err error) bool {
	e, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		return false
	}
	switch e {
	case windows.WSAECONNRESET, windows.WSAENETRESET, windows.WSAECONNREFUSED, windows.WSAEMSGSIZE:
		return true
	}
	return false
}
