package simnet

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"martlet/tun"
)

const (
	tunQueue = 1024 // packets, each way
	tunBatch = 64
)

var (
	_ tun.Device = (*Tun)(nil)
	_ tun.Queue  = (*Tun)(nil)
)

// Tun is a tun.Device made of channels, which a synctest bubble can watch. The test
// is the host: it puts packets in by Inject and takes them out of Packets.
type Tun struct {
	name   string
	mtu    atomic.Int64
	in     chan []byte
	out    chan []byte
	closed chan struct{}
	once   sync.Once
}

// NewTun makes a device.
func NewTun(name string, mtu int) *Tun {
	t := &Tun{name: name, in: make(chan []byte, tunQueue), out: make(chan []byte, tunQueue), closed: make(chan struct{})}
	t.mtu.Store(int64(mtu))
	return t
}

// Inject sends an IP packet from the host into the tunnel, and tells whether there was room
// for it. The packet is copied.
func (t *Tun) Inject(packet []byte) bool {
	select {
	case t.in <- slices.Clone(packet):
		return true
	default:
		return false
	}
}

// Packets are what came out of the tunnel.
func (t *Tun) Packets() <-chan []byte { return t.out }

// Name is the name given to NewTun.
func (t *Tun) Name() string { return t.name }

// MTU is the longest packet in octets.
func (t *Tun) MTU() int { return int(t.mtu.Load()) }

// SetMTU changes it.
func (t *Tun) SetMTU(mtu int) error { t.mtu.Store(int64(mtu)); return nil }

// Queues is the device itself, which has one.
func (t *Tun) Queues() []tun.Queue { return []tun.Queue{t} }

// Takes is true of single packets.
func (t *Tun) Takes(kind tun.GSO) bool { return kind == tun.GSONone }

// Batch is the number of frames worth passing to Read.
func (t *Tun) Batch() int { return tunBatch }

// Read waits for packets of Inject.
func (t *Tun) Read(frames []tun.Frame) (int, error) {
	if len(frames) == 0 {
		return 0, nil
	}
	select {
	case p := <-t.in:
		frames[0] = tun.Frame{Pieces: [][]byte{p}}
	case <-t.closed:
		return 0, fmt.Errorf("simnet: read from %s: %w", t.name, os.ErrClosed)
	}
	n, err := t.TryRead(frames[1:])
	return n + 1, err
}

// TryRead takes packets of Inject that wait.
func (t *Tun) TryRead(frames []tun.Frame) (int, error) {
	for n := range frames {
		select {
		case p := <-t.in:
			frames[n] = tun.Frame{Pieces: [][]byte{p}}
		default:
			return n, nil
		}
	}
	return len(frames), nil
}

// Write puts packets to where Packets finds them; what finds no room is dropped.
func (t *Tun) Write(frames []tun.Frame) (int, error) {
	taken := 0
	for _, f := range frames {
		select {
		case <-t.closed:
			return taken, fmt.Errorf("simnet: write to %s: %w", t.name, os.ErrClosed)
		default:
		}
		select {
		case t.out <- slices.Concat(f.Pieces...):
			taken++
		default:
		}
	}
	return taken, nil
}

// Close ends a blocked Read.
func (t *Tun) Close() error {
	t.once.Do(func() { close(t.closed) })
	return nil
}
