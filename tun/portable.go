package tun

import (
	"errors"
	"fmt"
	"os"
	"sync"
)

const (
	// headroom stands before each packet: who takes it puts its own header there.
	headroom = 128
	// tailroom stands behind each packet that Read lends.
	tailroom = 64
	// slot holds both and the longest packet. Only the pages that packets touch become
	// resident.
	slot = headroom + MaxMTU + tailroom
)

// library is what portable needs of a device of golang.zx2c4.com/wireguard/tun.
type library interface {
	Name() (string, error)
	BatchSize() int
	Read(bufs [][]byte, sizes []int, offset int) (int, error)
	Write(bufs [][]byte, offset int) (int, error)
	Close() error
}

// portable is a TUN interface with one queue and without offloads, made by the library:
// the device of all systems but Linux.
type portable struct {
	native library
	name   string
	setMTU func(native library, name string, mtu int) error

	mu  sync.Mutex
	mtu int

	in    [][]byte // what Read lends
	out   [][]byte // what Write copies into
	send  [][]byte // scratch of Write
	sizes []int
}

// newPortable takes the library's device over, which is closed on error.
func newPortable(native library, mtu int, setMTU func(native library, name string, mtu int) error) (*portable, error) {
	name, err := native.Name()
	if err != nil {
		native.Close()
		return nil, err
	}
	batch := native.BatchSize()
	return &portable{
		native: native,
		name:   name,
		setMTU: setMTU,
		mtu:    mtu,
		in:     newRing(batch),
		out:    newRing(batch),
		sizes:  make([]int, batch),
	}, nil
}

func newRing(n int) [][]byte {
	slab := make([]byte, n*slot)
	ring := make([][]byte, n)
	for i := range ring {
		ring[i] = slab[i*slot : (i+1)*slot-tailroom : (i+1)*slot]
	}
	return ring
}

func (p *portable) Name() string { return p.name }

// Queues is the device itself, which has one.
func (p *portable) Queues() []Queue { return []Queue{p} }

// Takes is true of nothing: the library joins packets by itself where it can.
func (p *portable) Takes(kind GSO) bool { return kind == GSONone }

func (p *portable) Batch() int { return len(p.in) }

func (p *portable) MTU() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mtu
}

func (p *portable) SetMTU(mtu int) error {
	if mtu < MinMTU || mtu > MaxMTU {
		return fmt.Errorf("tun: mtu %d, want %d to %d", mtu, MinMTU, MaxMTU)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.setMTU(p.native, p.name, mtu); err != nil {
		return fmt.Errorf("tun: set mtu %d of %s: %w", mtu, p.name, err)
	}
	p.mtu = mtu
	return nil
}

func (p *portable) Read(frames []Frame) (int, error) {
	limit := min(len(frames), len(p.in))
	if limit == 0 {
		return 0, nil
	}
	for {
		n, err := p.native.Read(p.in[:limit], p.sizes[:limit], headroom)
		if err != nil {
			if errors.Is(err, os.ErrClosed) {
				return 0, fmt.Errorf("tun: read %s: %w", p.name, os.ErrClosed)
			}
			return 0, fmt.Errorf("tun: read %s: %w", p.name, err)
		}
		k := 0
		for i := range n {
			if p.sizes[i] == 0 {
				continue
			}
			frames[k].Offload = Offload{}
			frames[k].Pieces = append(frames[k].Pieces[:0], p.in[i][headroom:headroom+p.sizes[i]])
			k++
		}
		if k > 0 {
			return k, nil
		}
	}
}

// TryRead is 0: the library only waits.
func (p *portable) TryRead([]Frame) (int, error) { return 0, nil }

func (p *portable) Write(frames []Frame) (int, error) {
	total := 0
	for len(frames) > 0 {
		k := min(len(frames), len(p.out))
		p.send = p.send[:0]
		for i, f := range frames[:k] {
			if b, ok := gather(p.out[i], f); ok {
				p.send = append(p.send, b)
			}
		}
		frames = frames[k:]
		if len(p.send) == 0 {
			continue
		}
		sent := len(p.send)
		_, err := p.native.Write(p.send, headroom)
		if errors.Is(err, os.ErrClosed) {
			return total, fmt.Errorf("tun: write %s: %w", p.name, os.ErrClosed)
		}
		total += max(0, sent-refused(err))
	}
	return total, nil
}

// gather copies the packet behind the headroom of buf, and makes the checksum that was
// left to the host: this device leaves it to nobody.
func gather(buf []byte, f Frame) ([]byte, bool) {
	b := buf[:headroom]
	for _, p := range f.Pieces {
		if len(b)+len(p) > len(buf) {
			return nil, false
		}
		b = append(b, p...)
	}
	if len(b) == headroom || f.Offload.GSO != GSONone {
		return nil, false
	}
	return b, f.Offload.complete(b[headroom:])
}

// refused counts the packets that a joined error stands for.
func refused(err error) int {
	if err == nil {
		return 0
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		n := 0
		for _, e := range joined.Unwrap() {
			n += refused(e)
		}
		return n
	}
	return 1
}

func (p *portable) Close() error {
	if err := p.native.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("tun: close %s: %w", p.name, err)
	}
	return nil
}
