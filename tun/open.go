//go:build linux || darwin || windows || freebsd || openbsd

package tun

import (
	"errors"
	"fmt"
	"os"
	"sync"

	wgtun "golang.zx2c4.com/wireguard/tun"
)

const (
	// headroom stands before each packet that goes to the host: the library puts
	// its virtio header of 10 octets there.
	headroom = 16
	// slot holds headroom and the longest packet. Only the pages that packets
	// touch become resident.
	slot = headroom + 65535
)

// Open makes a TUN interface named name with the given MTU in octets. On macOS
// the name must be "utun" or "utunN"; on Linux "%d" in it is replaced by the
// first free number.
//
// The interface is down and has no address: package route sees to both. It
// vanishes with Close and with the process.
//
// Errors are of type *OpenError; its Hint says what to do.
func Open(name string, mtu int) (Device, error) {
	if mtu < MinMTU || mtu > MaxMTU {
		return nil, &OpenError{Name: name, Err: fmt.Errorf("mtu %d, want %d to %d", mtu, MinMTU, MaxMTU)}
	}
	native, err := create(name, mtu)
	if err != nil {
		return nil, &OpenError{Name: name, Hint: hint(err), Err: err}
	}
	actual, err := native.Name()
	if err != nil {
		native.Close()
		return nil, &OpenError{Name: name, Err: err}
	}
	batch := native.BatchSize()
	return &host{
		native: native,
		name:   actual,
		mtu:    mtu,
		in:     newRing(batch),
		out:    newRing(batch),
		sizes:  make([]int, batch),
	}, nil
}

// host is a TUN interface of the operating system as a Device.
type host struct {
	native wgtun.Device
	name   string

	mu  sync.Mutex
	mtu int

	in    [][]byte // what Read lends
	out   [][]byte // what Write copies into
	send  [][]byte // scratch of Write
	sizes []int
}

func newRing(n int) [][]byte {
	slab := make([]byte, n*slot)
	ring := make([][]byte, n)
	for i := range ring {
		ring[i] = slab[i*slot : (i+1)*slot : (i+1)*slot]
	}
	return ring
}

func (h *host) Name() string { return h.name }

func (h *host) Batch() int { return len(h.in) }

func (h *host) MTU() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mtu
}

func (h *host) SetMTU(mtu int) error {
	if mtu < MinMTU || mtu > MaxMTU {
		return fmt.Errorf("tun: mtu %d, want %d to %d", mtu, MinMTU, MaxMTU)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := setMTU(h.native, h.name, mtu); err != nil {
		return fmt.Errorf("tun: set mtu %d of %s: %w", mtu, h.name, err)
	}
	h.mtu = mtu
	return nil
}

func (h *host) Read(frames []Frame) (int, error) {
	limit := min(len(frames), len(h.in))
	if limit == 0 {
		return 0, nil
	}
	for {
		n, err := h.native.Read(h.in[:limit], h.sizes[:limit], headroom)
		if errors.Is(err, wgtun.ErrTooManySegments) {
			err = nil // the rest of a super-packet with very small segments is lost
		}
		if err != nil {
			if errors.Is(err, os.ErrClosed) {
				return 0, fmt.Errorf("tun: read %s: %w", h.name, os.ErrClosed)
			}
			return 0, fmt.Errorf("tun: read %s: %w", h.name, err)
		}
		k := 0
		for i := range n {
			if h.sizes[i] == 0 {
				continue
			}
			frames[k].Pieces = append(frames[k].Pieces[:0], h.in[i][headroom:headroom+h.sizes[i]])
			k++
		}
		if k > 0 {
			return k, nil
		}
	}
}

func (h *host) Write(frames []Frame) (int, error) {
	total := 0
	for len(frames) > 0 {
		k := min(len(frames), len(h.out))
		h.send = h.send[:0]
		for i, f := range frames[:k] {
			if b, ok := gather(h.out[i], f); ok {
				h.send = append(h.send, b)
			}
		}
		frames = frames[k:]
		if len(h.send) == 0 {
			continue
		}
		sent := len(h.send)
		_, err := h.native.Write(h.send, headroom)
		if errors.Is(err, os.ErrClosed) {
			return total, fmt.Errorf("tun: write %s: %w", h.name, os.ErrClosed)
		}
		total += max(0, sent-refused(err))
	}
	return total, nil
}

// gather copies the packet behind the headroom of buf. The capacity stays that
// of the slot, so that the library can append the next segments of a flow.
func gather(buf []byte, f Frame) ([]byte, bool) {
	b := buf[:headroom]
	for _, p := range f.Pieces {
		if len(b)+len(p) > cap(buf) {
			return nil, false
		}
		b = append(b, p...)
	}
	return b, len(b) > headroom
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

func (h *host) Close() error {
	if err := h.native.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("tun: close %s: %w", h.name, err)
	}
	return nil
}
