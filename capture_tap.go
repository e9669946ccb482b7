package martlet

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"martlet/esp/udpencap"
	"martlet/ike"
	"martlet/tun"
)

// captures are those that run on a Node: of packets on sockets, of packets at the device, and of
// keys. The zero value is ready.
type captures struct {
	outer, inner captureSet
	keys         keyTaps
	count        atomic.Int32 // of those over the control socket
}

// captureSet is read by the packet loops: while it is empty a batch of packets costs them one load.
type captureSet struct {
	mu      sync.Mutex // serialises changes
	running atomic.Pointer[[]*Capture]
}

func (s *captureSet) add(c *Capture) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []*Capture{c}
	if before := s.running.Load(); before != nil {
		all = append(all, *before...)
	}
	s.running.Store(&all)
}

// remove takes a capture out. A loop may still give it the batch that it has in hand.
func (s *captureSet) remove(c *Capture) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(*s.running.Load())
	all = slices.DeleteFunc(all, func(other *Capture) bool { return other == c })
	if len(all) == 0 {
		s.running.Store(nil)
		return
	}
	s.running.Store(&all)
}

// socket is s, whose packets are captured.
func (c *captures) socket(s udpencap.Socket) udpencap.Socket {
	return &tappedSocket{Socket: s, to: &c.outer}
}

type tappedSocket struct {
	udpencap.Socket
	to *captureSet
}

// Readers are those of the socket, captured.
func (t *tappedSocket) Readers() []udpencap.Reader {
	readers := slices.Clone(t.Socket.Readers())
	for i, r := range readers {
		readers[i] = &tappedReader{r, t}
	}
	return readers
}

type tappedReader struct {
	udpencap.Reader
	socket *tappedSocket
}

func (r *tappedReader) Read(packets []udpencap.Packet) (int, error) {
	n, err := r.Reader.Read(packets)
	if to := r.socket.to.running.Load(); to != nil {
		r.socket.received(*to, packets[:n])
	}
	return n, err
}

func (r *tappedReader) ReadMore(packets []udpencap.Packet) (int, error) {
	n, err := r.Reader.ReadMore(packets)
	if to := r.socket.to.running.Load(); to != nil {
		r.socket.received(*to, packets[:n])
	}
	return n, err
}

func (t *tappedSocket) received(to []*Capture, packets []udpencap.Packet) {
	for i := range packets {
		p := &packets[i]
		for _, c := range to {
			if c.only.passes(p.Remote.Addr(), p.Remote.Addr()) {
				c.packet(p.Remote, p.Local, p, t.Encap())
			}
		}
	}
}

func (t *tappedSocket) Write(packets []udpencap.Packet) (int, error) {
	n, err := t.Socket.Write(packets)
	if to := t.to.running.Load(); to != nil {
		t.sent(*to, packets[:n])
	}
	return n, err
}

func (t *tappedSocket) sent(to []*Capture, packets []udpencap.Packet) {
	for i := range packets {
		p := &packets[i]
		local := p.Local
		if !local.IsValid() {
			local = t.LocalAddr()
		}
		for _, c := range to {
			if c.only.passes(p.Remote.Addr(), p.Remote.Addr()) {
				c.packet(local, p.Remote, p, t.Encap())
			}
		}
	}
}

// Counters passes on what the socket counted, if it counts.
func (t *tappedSocket) Counters() udpencap.Counters {
	if c, ok := t.Socket.(interface{ Counters() udpencap.Counters }); ok {
		return c.Counters()
	}
	return udpencap.Counters{}
}

// device is d, whose packets are captured.
func (c *captures) device(d tun.Device) tun.Device { return &tappedDevice{Device: d, to: &c.inner} }

type tappedDevice struct {
	tun.Device
	to *captureSet
}

// Queues are those of the device, captured.
func (d *tappedDevice) Queues() []tun.Queue {
	queues := slices.Clone(d.Device.Queues())
	for i, q := range queues {
		queues[i] = &tappedQueue{q, d.to}
	}
	return queues
}

type tappedQueue struct {
	tun.Queue
	to *captureSet
}

func (q *tappedQueue) Read(frames []tun.Frame) (int, error) {
	n, err := q.Queue.Read(frames)
	if to := q.to.running.Load(); to != nil {
		captureFrames(*to, frames[:n])
	}
	return n, err
}

func (q *tappedQueue) TryRead(frames []tun.Frame) (int, error) {
	n, err := q.Queue.TryRead(frames)
	if to := q.to.running.Load(); to != nil {
		captureFrames(*to, frames[:n])
	}
	return n, err
}

// Write captures what the device is given, before it is the device's: it does not say which of
// them it takes.
func (q *tappedQueue) Write(frames []tun.Frame) (int, error) {
	if to := q.to.running.Load(); to != nil {
		captureFrames(*to, frames)
	}
	return q.Queue.Write(frames)
}

func captureFrames(to []*Capture, frames []tun.Frame) {
	for i := range frames {
		src, dst, ok := endsOf(frames[i].Pieces)
		for _, c := range to {
			if !ok || c.only.passes(src, dst) {
				c.frame(&frames[i])
			}
		}
	}
}

// endsOf are the addresses of an IP packet, whose headers are in the first piece.
func endsOf(pieces [][]byte) (src, dst netip.Addr, ok bool) {
	if len(pieces) == 0 || len(pieces[0]) < 20 {
		return src, dst, false
	}
	switch head := pieces[0]; {
	case head[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(head[12:])), netip.AddrFrom4([4]byte(head[16:])), true
	case head[0]>>4 == 6 && len(head) >= 40:
		return netip.AddrFrom16([16]byte(head[8:])), netip.AddrFrom16([16]byte(head[24:])), true
	}
	return src, dst, false
}

// keyTaps are who wants the keys of SAs as these come.
type keyTaps struct {
	mu sync.Mutex
	to map[*captureQueue]*captureFilter
}

func (k *keyTaps) add(q *captureQueue, only *captureFilter) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.to == nil {
		k.to = map[*captureQueue]*captureFilter{}
	}
	k.to[q] = only
}

func (k *keyTaps) remove(q *captureQueue) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.to, q)
}

// write gives an entry to those who want it.
func (k *keyTaps) write(e ike.KeyLogEntry) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for q, only := range k.to {
		q.keys(e, only)
	}
}

// logKeys gives the secrets of an SA to those who asked for them.
func (n *Node) logKeys(e ike.KeyLogEntry) {
	if n.keylog != nil {
		n.keylog.write(e)
	}
	n.captures.keys.write(e)
}
