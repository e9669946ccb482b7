package netstack

import (
	"runtime"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// fill queues packets of some size until there is no more room, and returns their number.
func fill(q *queue, size int) (n int) {
	for {
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(make([]byte, size))})
		err := q.put(pkt, false)
		pkt.DecRef()
		if err != nil {
			return n
		}
		n++
	}
}

// drain takes everything, one packet at a time.
func drain(q *queue) (n int) {
	var packets [1]*stack.PacketBuffer
	for q.take(packets[:], 1, 0, false) == 1 {
		packets[0].DecRef()
		n++
	}
	return n
}

func TestQueueBounds(t *testing.T) {
	q := newQueue()
	for range 3 { // the ring goes round
		if n := fill(q, 100); n != queueLength {
			t.Errorf("%d small packets, want %d", n, queueLength)
		}
		if n := drain(q); n != queueLength || q.octets != 0 {
			t.Errorf("%d came out, %d octets left", n, q.octets)
		}
		if n := fill(q, 50_000); n != queueOctets/50_000+1 {
			t.Errorf("%d large packets, want %d", n, queueOctets/50_000+1)
		}
		drain(q)
	}
}

func TestQueueTake(t *testing.T) {
	q := newQueue()
	fill(q, 1000)
	defer drain(q)
	packets := make([]*stack.PacketBuffer, 10)
	for _, test := range []struct{ limit, spare, want int }{
		{1, 0, 1}, {1063, 64, 1}, {2127, 64, 1}, {2128, 64, 2}, {5500, 0, 5}, {1 << 20, 64, 10},
	} {
		n := q.take(packets, test.limit, test.spare, true)
		if n != test.want {
			t.Errorf("%d octets with %d: got %d packets, want %d", test.limit, test.spare, n, test.want)
		}
		for _, pkt := range packets[:n] {
			pkt.DecRef()
		}
	}
}

// sender waits for room; its error comes when it has been let go.
func sender(q *queue) <-chan tcpip.Error {
	out := make(chan tcpip.Error, 1)
	go func() {
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData([]byte("late"))})
		defer pkt.DecRef()
		out <- q.put(pkt, true)
	}()
	for {
		q.mu.Lock()
		waiting := q.waiting
		q.mu.Unlock()
		if waiting > 0 {
			return out
		}
		runtime.Gosched()
	}
}

func TestQueueWaits(t *testing.T) {
	for name, size := range map[string]int{"packets": 10, "octets": 50_000} {
		t.Run(name, func(t *testing.T) {
			q := newQueue()
			n := fill(q, size)
			late := sender(q)
			var packets [1]*stack.PacketBuffer
			for n > 0 {
				q.take(packets[:], 1, 0, false)
				packets[0].DecRef()
				n--
			}
			if err := <-late; err != nil {
				t.Fatal(err)
			}
			if q.take(packets[:], 1, 0, true) != 1 || string(packets[0].Data().AsRange().ToSlice()) != "late" {
				t.Error("what waited did not come last")
			}
			packets[0].DecRef()
		})
	}
}

func TestQueueEnds(t *testing.T) {
	q := newQueue()
	n := fill(q, 10)
	late := sender(q)
	q.release()
	if err := <-late; err == nil {
		t.Error("took a packet without room")
	}
	if drain(q) != n || fill(q, 10) != n {
		t.Error("takes nothing between release and shut")
	}
	q.shut()
	var packets [64]*stack.PacketBuffer
	for n > 0 {
		got := q.take(packets[:], 1<<20, 0, true)
		if got == 0 {
			t.Fatalf("%d packets lost", n)
		}
		for _, pkt := range packets[:got] {
			pkt.DecRef()
		}
		n -= got
	}
	if q.take(packets[:], 1<<20, 0, true) != 0 || fill(q, 10) != 0 {
		t.Error("goes on after its end")
	}
}
