package netstack

import (
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// queueLength bounds the packets that wait for a Read.
const queueLength = 512

// link is the link endpoint of the stack. A sender waits while the queue is full,
// which slows TCP down without a loss. What the stack sends from within a
// Write must not wait, since the same goroutine may be the one that Reads: that
// is ICMP and resets, and these are dropped instead.
//
// It ends in two steps: from closing on nobody waits any more, so that the
// stack can abort its connections and still send their resets; from done on
// nothing more comes, and what is queued can be read to the end.
type link struct {
	queue   chan *stack.PacketBuffer
	closing chan struct{}
	done    chan struct{}
	mtu     atomic.Uint32

	closeOnce, doneOnce sync.Once

	mu         sync.RWMutex
	dispatcher stack.NetworkDispatcher
}

var (
	_ stack.LinkEndpoint = (*link)(nil)
	_ stack.GSOEndpoint  = (*link)(nil)
)

func newLink(mtu int) *link {
	l := &link{
		queue:   make(chan *stack.PacketBuffer, queueLength),
		closing: make(chan struct{}),
		done:    make(chan struct{}),
	}
	l.mtu.Store(uint32(mtu))
	return l
}

// WritePackets implements stack.LinkWriter.
func (l *link) WritePackets(packets stack.PacketBufferList) (int, tcpip.Error) {
	n := 0
	for _, pkt := range packets.AsSlice() {
		select {
		case <-l.done:
			return n, &tcpip.ErrClosedForSend{}
		default:
		}
		kept := pkt.IncRef()
		select {
		case l.queue <- kept:
			n++
			continue
		default:
		}
		if fromWrite(pkt) {
			kept.DecRef()
			return n, &tcpip.ErrNoBufferSpace{}
		}
		select {
		case l.queue <- kept:
			n++
		case <-l.closing:
			kept.DecRef()
			return n, &tcpip.ErrClosedForSend{}
		}
	}
	return n, nil
}

// fromWrite tells whether the stack makes such packets inside Stack.Write.
func fromWrite(pkt *stack.PacketBuffer) bool {
	switch pkt.TransportProtocolNumber {
	case header.ICMPv4ProtocolNumber, header.ICMPv6ProtocolNumber:
		return true
	case header.TCPProtocolNumber:
		b := pkt.TransportHeader().Slice()
		return len(b) >= header.TCPMinimumSize && header.TCP(b).Flags()&header.TCPFlagRst != 0
	}
	return false
}

// next waits for a packet; false once the link is shut and the queue is empty.
func (l *link) next() (*stack.PacketBuffer, bool) {
	select {
	case pkt := <-l.queue:
		return pkt, true
	case <-l.done:
		pkt := l.poll()
		return pkt, pkt != nil
	}
}

// poll takes a packet if there is one.
func (l *link) poll() *stack.PacketBuffer {
	select {
	case pkt := <-l.queue:
		return pkt
	default:
		return nil
	}
}

// release lets go those who wait for room in the queue.
func (l *link) release() { l.closeOnce.Do(func() { close(l.closing) }) }

// shut ends the link.
func (l *link) shut() {
	l.release()
	l.doneOnce.Do(func() { close(l.done) })
}

// DeliverNetworkPacket implements stack.NetworkDispatcher for the coalescer.
func (l *link) DeliverNetworkPacket(protocol tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	l.mu.RLock()
	d := l.dispatcher
	l.mu.RUnlock()
	if d != nil {
		d.DeliverNetworkPacket(protocol, pkt)
	}
}

// DeliverLinkPacket implements stack.NetworkDispatcher; there are no packet sockets.
func (l *link) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// Attach implements stack.LinkEndpoint.
func (l *link) Attach(d stack.NetworkDispatcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dispatcher = d
}

// IsAttached implements stack.LinkEndpoint.
func (l *link) IsAttached() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.dispatcher != nil
}

// GSOMaxSize implements stack.GSOEndpoint.
func (*link) GSOMaxSize() uint32 { return 65535 }

// SupportedGSO implements stack.GSOEndpoint: the stack hands whole runs of
// segments to the link layer and cuts them right before WritePackets.
func (*link) SupportedGSO() stack.SupportedGSO { return stack.GVisorGSOSupported }

// MTU implements stack.LinkEndpoint.
func (l *link) MTU() uint32 { return l.mtu.Load() }

// SetMTU implements stack.LinkEndpoint.
func (l *link) SetMTU(mtu uint32) { l.mtu.Store(mtu) }

// The rest of stack.LinkEndpoint: no link-layer header, address or goroutine.

func (*link) MaxHeaderLength() uint16                      { return 0 }
func (*link) LinkAddress() tcpip.LinkAddress               { return "" }
func (*link) SetLinkAddress(tcpip.LinkAddress)             {}
func (*link) Capabilities() stack.LinkEndpointCapabilities { return stack.CapabilityRXChecksumOffload }
func (*link) Wait()                                        {}
func (*link) ARPHardwareType() header.ARPHardwareType      { return header.ARPHardwareNone }
func (*link) AddHeader(*stack.PacketBuffer)                {}
func (*link) ParseHeader(*stack.PacketBuffer) bool         { return true }
func (l *link) Close()                                     { l.shut() }
func (*link) SetOnCloseAction(func())                      {}
