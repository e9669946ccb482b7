package netstack

import (
	"bytes"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// relay carries octets both ways until both sides have closed or one failed.
func (c *session) relay() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if !c.outward() {
			c.abort()
		}
		c.halves.Add(1)
	}()
	if !c.inward() {
		c.abort()
	}
	c.halves.Add(1)
	<-done
}

// outward carries what the client sends, until it has closed its side; false if that did
// not go well.
func (c *session) outward() bool {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	c.queue.EventRegister(&entry)
	defer c.queue.EventUnregister(&entry)
	var b *block
	release := func() {
		if b != nil {
			c.f.blocks.give(b)
			b = nil
		}
	}
	defer release()
	for {
		if b == nil {
			b = c.f.blocks.take()
		}
		into := tcpip.SliceWriter(b[:])
		got, terr := c.endpoint.Read(&into, tcpip.ReadOptions{})
		switch terr.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			release()
			select {
			case <-ready:
				continue
			case <-c.ctx.Done():
				return false
			}
		case *tcpip.ErrClosedForReceive:
			return c.closeOutside()
		default:
			return false
		}
		c.touch()
		c.f.tcp.fromClients.Add(uint64(got.Count))
		if _, err := c.outside.Write(b[:got.Count]); err != nil {
			return false
		}
	}
}

// closeOutside tells the destination that the client has sent all.
func (c *session) closeOutside() bool {
	if half, ok := c.outside.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite() == nil
	}
	return true
}

// inward carries what the destination sends, likewise.
func (c *session) inward() bool {
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventHUp | waiter.EventErr)
	c.queue.EventRegister(&entry)
	defer c.queue.EventUnregister(&entry)
	r := newReader(c.outside, &c.f.blocks)
	defer r.release()
	var payload bytes.Reader
	for {
		b, err := r.read()
		if err != nil {
			return false
		}
		if len(b) == 0 {
			return c.endpoint.Shutdown(tcpip.ShutdownWrite) == nil
		}
		c.touch()
		c.f.tcp.toClients.Add(uint64(len(b)))
		payload.Reset(b)
		for payload.Len() > 0 {
			_, terr := c.endpoint.Write(&payload, tcpip.WriteOptions{})
			switch terr.(type) {
			case nil:
			case *tcpip.ErrWouldBlock:
				select {
				case <-ready:
				case <-c.ctx.Done():
					return false
				}
			default:
				return false
			}
		}
	}
}
