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
type link struct {
	queue chan *stack.PacketBuffer
	done  chan struct{}
	mtu   atomic.Uint32

	once sync.Once

	mu         sync.RWMutex
	dispatcher stack.NetworkDispatcher
}

var (
	_ stack.LinkEndpoint = (*link)(nil)
	_ stack.GSOEndpoint  = (*link)(nil)
)

func newLink(mtu int) *link {
	l := &link{queue: make(chan *stack.PacketBuffer, queueLength), done: make(chan struct{})}
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
		case <-l.done:
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

// next waits for a packet; false once the link is shut.
func (l *link) next() (*stack.PacketBuffer, bool) {
	select {
	case <-l.done:
		return nil, false
	default:
	}
	select {
	case pkt := <-l.queue:
		return pkt, true
	case <-l.done:
		return nil, false
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

// shut wakes all who wait. What is queued stays until drain.
func (l *link) shut() { l.once.Do(func() { close(l.done) }) }

func (l *link) drain() {
	for pkt := l.poll(); pkt != nil; pkt = l.poll() {
		pkt.DecRef()
	}
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
