package tun

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	cloneDevice = "/dev/net/tun"
	// queueLen is how many packets, or super-packets, of each queue wait for Read until
	// the kernel drops. It makes 500 of itself, which a burst of datagrams fills in less
	// time than a busy processor takes to come back to us.
	queueLen = 1000
)

const (
	offloadTCP = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	// offloadAll leaves TUN_F_TSO_ECN out: the kernel cuts a super-packet with CWR,
	// which only its first segment may carry, by itself.
	offloadAll = offloadTCP | unix.TUN_F_USO4 | unix.TUN_F_USO6
)

// device is a TUN interface of Linux.
type device struct {
	name   string
	queues []*queue
	header bool // packets go with a virtio header
	udp    bool // the kernel takes super-packets of datagrams
	limits []string
	closed atomic.Bool

	mu      sync.Mutex
	kernel  kernel
	control int // socket of the interface's network namespace, for ioctl
	mtu     int
	setMTU  func(mtu int) error // of who opened the interface; nil: this process did
}

// kernel is what opening asks of the system, which tests let refuse.
type kernel struct {
	open     func() (fd int, err error)
	socket   func() (fd int, err error)
	ifreq    func(fd int, request uint, value *unix.Ifreq) error
	set      func(fd int, request uint, value int) error
	setPoint func(fd int, request uint, value int) error
}

func openClone() (int, error) {
	fd, err := unix.Open(cloneDevice, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: cloneDevice, Err: err}
	}
	return fd, nil
}

// driver opens the driver without asking it for anything.
func driver() error {
	fd, err := openClone()
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func openSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	return fd, os.NewSyscallError("socket", err)
}

func open(name string, mtu, queues int) (Device, error) {
	return openIn(here{}, name, mtu, queues)
}

func openIn(ns Namespace, name string, mtu, queues int) (Device, error) {
	k := kernel{open: ns.OpenDriver, socket: ns.OpenSocket, ifreq: unix.IoctlIfreq, set: unix.IoctlSetInt, setPoint: unix.IoctlSetPointerInt}
	d, err := k.device(name, mtu, queues)
	if err != nil {
		return nil, err
	}
	return d, nil
}

func (k kernel) device(name string, mtu, queues int) (_ *device, err error) {
	d := &device{kernel: k, mtu: mtu, control: -1}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	fd, flags, err := d.attach(name, queues > 1)
	if err != nil {
		return nil, err
	}
	big := d.setOffload(fd)
	if err := d.add(fd, big); err != nil {
		return nil, err
	}
	if d.control, err = k.socket(); err != nil {
		return nil, err
	}
	if err := d.configure(unix.SIOCSIFMTU, mtu); err != nil {
		return nil, os.NewSyscallError("SIOCSIFMTU", err)
	}
	if err := d.configure(unix.SIOCSIFTXQLEN, queueLen); err != nil {
		d.limit("the interface does not queue %d packets: %v", queueLen, err)
	}
	for i := 1; i < queues; i++ {
		if flags&unix.IFF_MULTI_QUEUE == 0 {
			err = errors.New("the interface was there before, or the kernel knows no more")
		} else if fd, err = d.request(d.name, flags&^unix.IFF_TUN_EXCL); err == nil {
			err = d.add(fd, big)
		}
		if err != nil {
			d.limit("of %d queues only %d could be made: %v", queues, len(d.queues), err)
			break
		}
	}
	return d, nil
}

// attach makes the interface and its first queue. The name must be free, or that of an
// interface that waits for a program (as "ip tuntap add" makes). IFF_TUN_EXCL keeps us
// from another program's: several queues are there to be joined.
func (d *device) attach(name string, multi bool) (fd int, flags uint16, err error) {
	flags = unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL
	if multi {
		flags |= unix.IFF_MULTI_QUEUE
	}
	try := func(without uint16) error {
		f, e := d.request(name, flags&^without)
		if e == nil {
			fd, flags = f, flags&^without
		}
		return e
	}
	err = try(0)
	if errors.Is(err, unix.EBUSY) && try(unix.IFF_TUN_EXCL|unix.IFF_MULTI_QUEUE) == nil {
		err = nil
	}
	if errors.Is(err, unix.EINVAL) && multi && try(unix.IFF_MULTI_QUEUE) == nil {
		err = nil
	}
	if errors.Is(err, unix.EINVAL) && try(unix.IFF_MULTI_QUEUE|unix.IFF_VNET_HDR) == nil {
		err = nil
	}
	if err != nil {
		return -1, 0, err
	}
	if flags&unix.IFF_VNET_HDR == 0 {
		d.limit("the kernel has no virtio headers: packets come and go one by one")
	}
	d.header = flags&unix.IFF_VNET_HDR != 0
	return fd, flags, nil
}

// request opens the driver and asks for a queue of an interface, whose name is ours then.
func (d *device) request(name string, flags uint16) (int, error) {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return -1, err
	}
	fd, err := d.kernel.open()
	if err != nil {
		return -1, err
	}
	request.SetUint16(flags)
	if err := d.kernel.ifreq(fd, unix.TUNSETIFF, request); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("TUNSETIFF", err)
	}
	d.name = request.Name()
	return fd, nil
}

// setOffload agrees with the kernel on virtio headers, little endian where it lets us
// choose, and on what it may leave to us. All of it is a property of the interface, not
// of the queue.
func (d *device) setOffload(fd int) (big bool) {
	k := d.kernel
	if !d.header {
		// The program before us may have left an interface that joins packets, which
		// nothing would say. A kernel that refuses this has not joined any.
		_ = k.set(fd, unix.TUNSETOFFLOAD, 0)
		return false
	}
	if err := k.setPoint(fd, unix.TUNSETVNETLE, 1); err != nil { // before Linux 4.1
		big = binary.NativeEndian.Uint16([]byte{0, 1}) == 1
	}
	if err := k.setPoint(fd, unix.TUNSETVNETHDRSZ, virtioLen); err != nil {
		d.limit("the kernel does not tell the length of its virtio headers, %d is assumed: %v", virtioLen, err)
	}
	err := k.set(fd, unix.TUNSETOFFLOAD, offloadAll)
	if err == nil {
		d.udp = true
		return big
	}
	d.limit("the kernel takes and gives datagrams one by one, Linux 6.2 and later do better: %v", err)
	if err = k.set(fd, unix.TUNSETOFFLOAD, offloadTCP); err == nil {
		return big
	}
	d.limit("the kernel gives TCP segments one by one: %v", err)
	if err = k.set(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM); err != nil {
		d.limit("the kernel makes all checksums itself: %v", err)
	}
	return big
}

// add takes a file over as the next queue.
func (d *device) add(fd int, big bool) error {
	file := os.NewFile(uintptr(fd), cloneDevice)
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return err
	}
	d.queues = append(d.queues, newQueue(d, file, conn, big))
	return nil
}

// configure sets a number of the interface.
func (d *device) configure(request uint, value int) error {
	ifreq, err := unix.NewIfreq(d.name)
	if err != nil {
		return err
	}
	ifreq.SetUint32(uint32(value))
	return d.kernel.ifreq(d.control, request, ifreq)
}

func (d *device) limit(format string, args ...any) {
	d.limits = append(d.limits, fmt.Sprintf(format, args...))
}

func (d *device) Name() string { return d.name }

// Limits tells in plain English what the kernel refused, a sentence each: what works
// slower than it could.
func (d *device) Limits() []string { return d.limits }

// Malformed counts the frames that the kernel gave and that made no sense.
func (d *device) Malformed() uint64 {
	n := uint64(0)
	for _, q := range d.queues {
		n += q.malformed.Load()
	}
	return n
}

// Queues are those of the interface. The kernel hands the packets of a flow to the queue
// into which the other direction of that flow was last written, or spreads them by a hash
// of addresses and ports.
func (d *device) Queues() []Queue {
	out := make([]Queue, len(d.queues))
	for i, q := range d.queues {
		out[i] = q
	}
	return out
}

func (d *device) Takes(kind GSO) bool {
	switch kind {
	case GSONone:
		return true
	case GSOTCPv4, GSOTCPv6:
		return d.header
	case GSOUDP:
		return d.header && d.udp
	}
	return false
}

func (d *device) MTU() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mtu
}

func (d *device) SetMTU(mtu int) error {
	if mtu < MinMTU || mtu > MaxMTU {
		return fmt.Errorf("tun: mtu %d, want %d to %d", mtu, MinMTU, MaxMTU)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	switch {
	case d.closed.Load(), d.control < 0 && d.setMTU == nil:
		err = os.ErrClosed
	case d.setMTU != nil:
		err = d.setMTU(mtu)
	default:
		err = d.configure(unix.SIOCSIFMTU, mtu)
	}
	if err != nil {
		return fmt.Errorf("tun: set mtu %d of %s: %w", mtu, d.name, err)
	}
	d.mtu = mtu
	return nil
}

func (d *device) Close() error {
	if d.closed.Swap(true) {
		return nil
	}
	d.mu.Lock()
	if d.control >= 0 {
		unix.Close(d.control)
		d.control = -1
	}
	d.mu.Unlock()
	var err error
	for _, q := range d.queues {
		err = errors.Join(err, q.file.Close())
	}
	if err != nil {
		return fmt.Errorf("tun: close %s: %w", d.name, err)
	}
	return nil
}

// fault is the error of a queue's system call, or of the file behind it.
func (d *device) fault(op string, err error) error {
	if d.closed.Load() {
		err = os.ErrClosed
	}
	if errors.Is(err, syscall.EBADFD) {
		err = errors.New("the interface is gone: was it deleted?")
	}
	return fmt.Errorf("tun: %s %s: %w", op, d.name, err)
}

func hint(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return "the kernel has no TUN driver here: load it with \"modprobe tun\", pass " + cloneDevice + " into the container"
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return "another program has an interface of that name: end it, or choose another name"
	case errors.Is(err, fs.ErrPermission):
		return "needs CAP_NET_ADMIN and " + cloneDevice + ": run as root"
	case errors.Is(err, unix.EINVAL):
		return "an interface name has 1 to 15 characters, no slash and no space, and must not be that of an interface of another kind"
	}
	return ""
}
