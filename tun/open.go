//go:build linux || darwin || windows || freebsd || openbsd

package tun

import (
	"errors"
	"fmt"
)

// Open makes a TUN interface named name with the given MTU in octets and number of queues. On
// macOS the name must be "utun" or "utunN", on OpenBSD "tun" or "tunN"; on Linux "%d" in it is replaced by the first free
// number.
//
// Systems other than Linux have one queue, and so has an interface that was there before; then
// the device says so in its Limits. The interface is down and has no address: package route sees
// to both. It vanishes with Close and with the process.
//
// Errors are of type *OpenError; its Hint says what to do.
func Open(name string, mtu, queues int) (Device, error) {
	return openWith(name, mtu, queues, func() (Device, error) { return open(name, mtu, queues) })
}

// Driver is nil if this system has what Open makes interfaces with: the file /dev/net/tun on Linux,
// wintun.dll on Windows. The error is of type *OpenError.
func Driver() error {
	if err := driver(); err != nil {
		return &OpenError{Hint: hint(err), Err: err}
	}
	return nil
}

func openWith(name string, mtu, queues int, open func() (Device, error)) (Device, error) {
	if mtu < MinMTU || mtu > MaxMTU {
		return nil, &OpenError{Name: name, Err: fmt.Errorf("mtu %d, want %d to %d", mtu, MinMTU, MaxMTU)}
	}
	if queues < 1 {
		return nil, &OpenError{Name: name, Err: errors.New("a device has at least one queue")}
	}
	d, err := open()
	if err != nil {
		return nil, &OpenError{Name: name, Hint: hint(err), Err: err}
	}
	return d, nil
}
