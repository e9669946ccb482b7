package tun

import (
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batch is as many frames as the arena holds of usual packets, and as a slab of
	// datagrams may have.
	batch = 128
	// align keeps packets at the start of a cache line.
	align = 64
	// arenaLen is room for three of the longest packets, or for many short ones, and
	// stays in the cache of a processor.
	arenaLen = 3 * ((slot + align - 1) / align * align)
	// maxPieces is what one writev takes, less one for the header (UIO_MAXIOV).
	maxPieces = 1023
)

// queue is one file of the device. What reads and what writes share nothing.
type queue struct {
	device *device
	file   *os.File
	conn   syscall.RawConn
	header int  // octets of virtio header before each packet: virtioLen or 0
	big    bool // that header's words are in big endian

	malformed atomic.Uint64

	// Of Read and TryRead. The functions are made once: a literal in the call would be
	// an allocation.
	arena   []byte
	frames  []Frame // where the running call puts them
	filled  int
	refusal syscall.Errno
	wait    func(fd uintptr) bool
	try     func(fd uintptr) bool

	// Of Write.
	out     []Frame
	taken   int
	gone    bool
	virtio  virtioHeader
	vectors [1 + maxPieces]unix.Iovec
	used    int
	whole   []byte // where a packet is completed for a kernel without virtio headers
	send    func(fd uintptr) bool
}

func newQueue(d *device, file *os.File, conn syscall.RawConn, big bool) *queue {
	q := &queue{device: d, file: file, conn: conn, big: big, arena: make([]byte, arenaLen)}
	if d.header {
		q.header = virtioLen
	}
	q.wait = func(fd uintptr) bool {
		q.fill(fd)
		return q.filled > 0 || q.refusal != 0
	}
	q.try = func(fd uintptr) bool {
		q.fill(fd)
		return true
	}
	q.send = func(fd uintptr) bool {
		q.writeAll(fd)
		return true
	}
	return q
}

func (q *queue) Batch() int { return batch }

func (q *queue) Read(frames []Frame) (int, error) { return q.read(frames, q.wait) }

func (q *queue) TryRead(frames []Frame) (int, error) { return q.read(frames, q.try) }

func (q *queue) read(frames []Frame, f func(uintptr) bool) (int, error) {
	if len(frames) == 0 {
		return 0, nil
	}
	q.frames, q.filled, q.refusal = frames, 0, 0
	err := q.conn.Read(f)
	q.frames = nil
	if err != nil {
		return 0, q.device.fault("read", err)
	}
	if q.refusal != 0 {
		return 0, q.device.fault("read", q.refusal)
	}
	return q.filled, nil
}

// fill reads packets one behind the other into the arena until there is none, or no room
// for the longest.
func (q *queue) fill(fd uintptr) {
	at := 0
	for q.filled < len(q.frames) && at+slot <= len(q.arena) {
		start := at + headroom
		// One octet more than the longest packet shows what was cut off.
		buf := q.arena[start-q.header : start+MaxMTU+1]
		n, errno := readOnce(fd, buf)
		switch {
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN:
			return
		case errno != 0:
			if q.filled == 0 {
				q.refusal = errno
			}
			return
		case n <= q.header || n == len(buf):
			q.malformed.Add(1)
			continue
		}
		end := start - q.header + n
		packet := q.arena[start : end : end+tailroom]
		var o Offload
		if q.header != 0 {
			ok := false
			if o, ok = (*virtioHeader)(buf).offload(packet, q.big); !ok {
				q.malformed.Add(1)
				continue
			}
		}
		f := &q.frames[q.filled]
		f.Offload = o
		f.Pieces = append(f.Pieces[:0], packet)
		q.filled++
		at = (end + tailroom + align - 1) / align * align
	}
}

func (q *queue) Write(frames []Frame) (int, error) {
	q.out, q.taken, q.gone = frames, 0, false
	err := q.conn.Write(q.send)
	q.out = nil
	clear(q.vectors[:q.used])
	q.used = 0
	if err != nil {
		return 0, q.device.fault("write", err)
	}
	if q.gone {
		return q.taken, q.device.fault("write", syscall.EBADFD)
	}
	return q.taken, nil
}

func (q *queue) writeAll(fd uintptr) {
	for i := range q.out {
		n, ok := q.gather(&q.out[i])
		if !ok {
			continue
		}
		errno := syscall.EINTR
		for errno == syscall.EINTR {
			errno = writeOnce(fd, q.vectors[:n])
		}
		switch errno {
		case 0:
			q.taken++
		case syscall.EBADFD: // the interface was deleted
			q.gone = true
			return
		}
	}
}

// gather fills the vectors with the header and the pieces of a frame, and returns how many
// they are.
func (q *queue) gather(f *Frame) (n int, ok bool) {
	length := 0
	if q.header != 0 {
		n = 1
	}
	for _, p := range f.Pieces {
		if len(p) == 0 {
			continue
		}
		if n == len(q.vectors) {
			return 0, false
		}
		q.vectors[n].Base = &p[0]
		q.vectors[n].SetLen(len(p))
		length += len(p)
		n++
	}
	q.used = max(q.used, n)
	if length == 0 || length > MaxMTU {
		return 0, false
	}
	if q.header == 0 {
		return q.gatherWhole(f, n)
	}
	q.vectors[0].Base = &q.virtio[0]
	q.vectors[0].SetLen(virtioLen)
	return n, q.virtio.put(f.Offload, length, q.big)
}

// gatherWhole is for a kernel that takes complete packets only.
func (q *queue) gatherWhole(f *Frame, n int) (int, bool) {
	if f.Offload == (Offload{}) {
		return n, true
	}
	if q.whole == nil {
		q.whole = make([]byte, slot)
	}
	b, ok := gather(q.whole[:headroom+MaxMTU], *f)
	if !ok {
		return 0, false
	}
	q.vectors[0].Base = &b[headroom]
	q.vectors[0].SetLen(len(b) - headroom)
	return 1, true
}

// readOnce and writeOnce do not tell the scheduler of their system call, which cannot
// block: that would cost a twentieth of the whole step, and could lose the processor.

func readOnce(fd uintptr, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), errno
}

func writeOnce(fd uintptr, v []unix.Iovec) syscall.Errno {
	_, _, errno := syscall.RawSyscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&v[0])), uintptr(len(v)))
	return errno
}
