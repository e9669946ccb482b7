package martlet

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"martlet/ike"
)

// A capture goes over the control socket as parts: an octet that says which kind, the length of what
// follows in four octets, and that.
const (
	partPackets = 0 // of a pcap file
	partIKEKeys = 1 // a line of Wireshark's ikev2_decryption_table
	partESPKeys = 2 // lines of its esp_sa
	partCounts  = 3 // how many packets were taken up to here, and how many packets and keys lost, in 8 octets each
)

const (
	partHead = 5
	maxPart  = 1 << 20 // octets behind the head

	queuedPackets = 4 << 20   // octets of packets that wait for a reader
	queuedKeys    = 512 << 10 // and of keys beside them
)

// captureQueue is what waits for the reader of a capture. Whoever writes never waits: what finds no
// place is lost, and counted.
type captureQueue struct {
	mu     sync.Mutex
	parts  []byte
	last   int // where the part of packets begins that is the last in parts; -1 where none is
	counts Captured

	some chan struct{} // full while something waits
}

// newQueuedCapture is a capture into a queue, which has the head of its file already.
func newQueuedCapture() (*Capture, *captureQueue) {
	q := &captureQueue{last: -1, some: make(chan struct{}, 1)}
	c := startCapture(q)
	q.counts = Captured{}
	return c, q
}

// Write takes a record of a pcap file; a lost one is no error.
func (q *captureQueue) Write(record []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.parts)+partHead+len(record) > queuedPackets {
		q.counts.Lost++
		return len(record), nil
	}
	if q.last < 0 || len(q.parts)-q.last-partHead+len(record) > maxPart {
		q.last = len(q.parts)
		q.parts = append(q.parts, partPackets, 0, 0, 0, 0)
	}
	q.parts = append(q.parts, record...)
	binary.BigEndian.PutUint32(q.parts[q.last+1:], uint32(len(q.parts)-q.last-partHead))
	q.counts.Packets++
	q.wake()
	return len(record), nil
}

// keys takes an entry of the key log, if it is wanted.
func (q *captureQueue) keys(e ike.KeyLogEntry, only *captureFilter) {
	if !only.ofConnection(e.Connection) {
		return
	}
	line := keyTableLines(e)
	if line == "" {
		return
	}
	kind := byte(partIKEKeys)
	if e.Child != nil {
		kind = partESPKeys
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.parts)+partHead+len(line) > queuedPackets+queuedKeys {
		q.counts.LostKeys++
		return
	}
	q.put(kind, []byte(line))
	q.wake()
}

// put appends a part. It wants mu.
func (q *captureQueue) put(kind byte, payload []byte) {
	q.last = -1
	q.parts = append(q.parts, kind)
	q.parts = binary.BigEndian.AppendUint32(q.parts, uint32(len(payload)))
	q.parts = append(q.parts, payload...)
}

// wake wants mu.
func (q *captureQueue) wake() {
	select {
	case q.some <- struct{}{}:
	default:
	}
}

// take returns what waits, with how much was taken and lost behind it, and has into for what comes
// next.
func (q *captureQueue) take(into []byte) []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	counts := make([]byte, 0, 3*8)
	for _, n := range []uint64{q.counts.Packets, q.counts.Lost, q.counts.LostKeys} {
		counts = binary.BigEndian.AppendUint64(counts, n)
	}
	q.put(partCounts, counts)
	parts := q.parts
	q.parts, q.last = into[:0], -1
	return parts
}

func (q *captureQueue) count() Captured {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.counts
}

// readPart reads a part into buf, which it returns, longer if need be, with what the part has.
func readPart(r io.Reader, buf []byte) (kind byte, payload []byte, err error) {
	var head [partHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, buf, err
	}
	length := binary.BigEndian.Uint32(head[1:])
	if length > maxPart {
		return 0, buf, fmt.Errorf("martlet: control: a part of %d octets in a capture, want %d at most", length, maxPart)
	}
	if int(length) > cap(buf) {
		buf = make([]byte, length)
	}
	buf = buf[:length]
	_, err = io.ReadFull(r, buf)
	return head[0], buf, err
}
