package esp

import (
	"encoding/binary"
	"sync"
	"testing"

	"martlet/esp/udpencap"
	"martlet/tun"
)

// manyQueues is a device with several.
type manyQueues struct {
	*channelDevice
	queues []*channelDevice
}

func (d *manyQueues) Queues() (all []tun.Queue) {
	for _, q := range d.queues {
		all = append(all, q)
	}
	return all
}

func (d *manyQueues) Close() error {
	for _, q := range d.queues {
		q.Close()
	}
	return d.channelDevice.Close()
}

// TestNumbersLeaveInOrder: packets of one SA come from several queues at once, and leave in the order
// of their sequence numbers: a peer's replay window may be 32 packets. Other SAs are not held up for
// good, and nothing is lost.
func TestNumbersLeaveInOrder(t *testing.T) {
	const queues, batches, packets = 4, 200, 8
	d := &manyQueues{channelDevice: newDevice(packets, nil)}
	for range queues {
		d.queues = append(d.queues, newDevice(packets, nil))
	}
	var mu sync.Mutex
	last := map[uint32]uint32{}
	total, disorder := 0, 0
	all := make(chan struct{})
	socket := newSocket(ourAddr, 16, func(p udpencap.Packet) error {
		mu.Lock()
		defer mu.Unlock()
		spi, seq := binary.BigEndian.Uint32(p.Data), binary.BigEndian.Uint32(p.Data[4:])
		if seq != last[spi]+1 {
			disorder++
		}
		last[spi] = seq
		if total++; total == queues*batches*packets {
			close(all)
		}
		return nil
	})
	p := New(d, new(events), nil)
	p.AddSocket(socket)
	p.Start()
	b := &bench{t: t, plane: p}
	b.install(b.child(1, "10.1.0.0/16", "10.2.0.0/16"))
	b.install(b.child(2, "10.1.0.0/16", "10.3.0.0/16"))
	var feeding sync.WaitGroup
	for i, q := range d.queues {
		feeding.Go(func() {
			for n := range batches {
				var batch [][]byte
				for k := range packets {
					dst := "10.2.0.1"
					if (n+k+i)%3 == 0 {
						dst = "10.3.0.1"
					}
					batch = append(batch, ip("10.1.0.1", dst, 20))
				}
				q.host <- batch
			}
		})
	}
	feeding.Wait()
	<-all
	p.Close()
	if disorder != 0 || len(last) != 2 {
		t.Errorf("%d packets of %d out of order, %d SAs", disorder, total, len(last))
	}
	if s := p.Stats(); s.Drops.Total() != 0 {
		t.Errorf("%d packets dropped", s.Drops.Total())
	}
}
