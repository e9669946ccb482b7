//go:build unix

package netstack

import (
	"errors"
	"syscall"
)

// readReady reads into a block that it takes only when there is something to read, and
// keeps for the next call; so nobody who waits has one.
func (r *reader) readReady() (n int, err error) {
	if r.try == nil {
		r.try = func(fd uintptr) bool {
			if r.block == nil {
				r.block = r.pool.take()
			}
			for {
				r.n, r.err = syscall.Read(int(fd), r.block[:])
				if !errors.Is(r.err, syscall.EINTR) {
					break
				}
			}
			if errors.Is(r.err, syscall.EAGAIN) {
				r.release()
				return false
			}
			return true
		}
	}
	if err := r.raw.Read(r.try); err != nil {
		return 0, err
	}
	return max(r.n, 0), r.err
}
