package udpencap

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// vector is the memory of recvmmsg or sendmmsg calls.
// systemCall is recvmmsg or sendmmsg of n messages.
type systemCall func(fd uintptr, first *mmsghdr, n int) (int, syscall.Errno)

type vector struct {
	headers []mmsghdr
	pieces  [][2]unix.Iovec // of each message

	// system makes the call; a field, so that a test can make errors.
	system   systemCall
	from, to int // the headers that a call is about
	n        int // its results
	errno    syscall.Errno
}

func (v *vector) init(n int, system systemCall) {
	v.headers = make([]mmsghdr, n)
	v.pieces = make([][2]unix.Iovec, n)
	v.system = system
	for i := range v.headers {
		v.headers[i].hdr.Iov = &v.pieces[i][0]
	}
}

// call makes the system call, and reports whether it need not be waited for.
func (v *vector) call(fd uintptr) bool {
	for {
		v.n, v.errno = v.system(fd, &v.headers[v.from], v.to-v.from)
		if v.errno != unix.EINTR {
			return v.errno != unix.EAGAIN
		}
	}
}

func recvmmsg(fd uintptr, first *mmsghdr, n int) (int, syscall.Errno) {
	r, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(first)), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
	return int(r), errno
}

func sendmmsg(fd uintptr, first *mmsghdr, n int) (int, syscall.Errno) {
	r, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(first)), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
	return int(r), errno
}

// setPiece lends b, which is not empty, to the system.
func setPiece(v *unix.Iovec, b []byte) {
	v.Base = &b[0]
	v.SetLen(len(b))
}
