package netstack

import (
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// What waits for a Read is bounded by a number of packets and by their octets; the
// last may exceed the octets.
const (
	queueLength = 512
	queueOctets = 1 << 20
)

// queue holds the packets that left the stack until they are read. A sender waits
// while it is full, which slows TCP down without a loss. One who may not wait is refused.
//
// It ends in two steps: from closing on nobody waits any more, so that the
// stack can abort its connections and still send their resets; from done on
// nothing more comes, and what is queued can be read to the end.
type queue struct {
	mu      sync.Mutex
	arrived sync.Cond // the reader waits here
	room    sync.Cond // senders wait here

	ring          [queueLength]*stack.PacketBuffer
	first, length int
	octets        int
	waiting       int // senders that wait for room
	closing, done bool
}

func newQueue() *queue {
	q := &queue{}
	q.arrived.L, q.room.L = &q.mu, &q.mu
	return q
}

// put queues a packet, with a reference of its own.
func (q *queue) put(pkt *stack.PacketBuffer, wait bool) tcpip.Error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.done && (q.length == queueLength || q.octets >= queueOctets) {
		switch {
		case !wait:
			return &tcpip.ErrNoBufferSpace{}
		case q.closing:
			return &tcpip.ErrClosedForSend{}
		}
		q.waiting++
		q.room.Wait()
		q.waiting--
	}
	if q.done {
		return &tcpip.ErrClosedForSend{}
	}
	q.ring[(q.first+q.length)%queueLength] = pkt.IncRef()
	q.length++
	q.octets += pkt.Size()
	if q.length == 1 {
		q.arrived.Signal()
	}
	return nil
}

// take moves packets into the start of packets, as many as fit there and whose octets
// with those of spare behind each fit into limit; but one at least. With wait it
// returns 0 only where the queue is done and empty. Senders that wait go on once half
// of the queue is free.
func (q *queue) take(packets []*stack.PacketBuffer, limit, spare int, wait bool) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	for wait && q.length == 0 && !q.done {
		q.arrived.Wait()
	}
	n := 0
	for ; n < len(packets) && q.length > 0; n++ {
		pkt := q.ring[q.first]
		size := pkt.Size()
		limit -= size + spare
		if n > 0 && limit < 0 {
			break
		}
		packets[n], q.ring[q.first] = pkt, nil
		q.first = (q.first + 1) % queueLength
		q.length--
		q.octets -= size
	}
	if q.waiting > 0 && q.length <= queueLength/2 && q.octets <= queueOctets/2 {
		q.room.Broadcast()
	}
	return n
}

// release lets go those who wait for room.
func (q *queue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closing = true
	q.room.Broadcast()
}

// shut ends the queue.
func (q *queue) shut() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closing, q.done = true, true
	q.room.Broadcast()
	q.arrived.Broadcast()
}
