package netstack

import (
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"martlet/tun"
)

// link is the link endpoint of the stack. What leaves the stack waits in its queue.
// What the stack sends from within a Write must not wait there, since the same goroutine
// may be the one that Reads: that is ICMP and resets, and these are dropped instead.
type link struct {
	queue   *queue
	closing chan struct{}
	mtu     atomic.Uint32

	closeOnce sync.Once

	mu         sync.RWMutex
	dispatcher stack.NetworkDispatcher
}

var (
	_ stack.LinkEndpoint = (*link)(nil)
	_ stack.GSOEndpoint  = (*link)(nil)
)

func newLink(mtu int) *link {
	l := &link{queue: newQueue(), closing: make(chan struct{})}
	l.mtu.Store(uint32(mtu))
	return l
}

// WritePackets implements stack.LinkWriter.
func (l *link) WritePackets(packets stack.PacketBufferList) (int, tcpip.Error) {
	for n, pkt := range packets.AsSlice() {
		if err := l.queue.put(pkt, !fromWrite(pkt)); err != nil {
			return n, err
		}
	}
	return packets.Len(), nil
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

// release lets go those who wait for room in the queue.
func (l *link) release() {
	l.closeOnce.Do(func() { close(l.closing) })
	l.queue.release()
}

// shut ends the link.
func (l *link) shut() {
	l.release()
	l.queue.shut()
}

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

// GSOMaxSize implements stack.GSOEndpoint. The stack fills a run with as much payload as
// this leaves after all the headers that it knows. A run is of whole segments, as many as fit into
// one datagram's worth of memory when they are sealed, so that those of several runs can be
// sent together: only segments of equal length can.
func (l *link) GSOMaxSize() uint32 {
	const (
		headers = header.TCPTotalHeaderMaximumSize + 1 // what the stack leaves room for
		options = 40                                   // the stack's segments always have room for all
		sealing = 64                                   // what ESP adds to a packet, about
	)
	mtu := l.MTU()
	segments := max(tun.MaxMTU/(mtu+sealing), 1)
	return min(headers+segments*(mtu-header.IPv4MinimumSize-header.TCPMinimumSize-options), tun.MaxMTU)
}

// SupportedGSO implements stack.GSOEndpoint: runs of TCP segments come as one packet,
// with the checksum of the pseudo header alone; so does a single segment of a connection.
func (*link) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }

// Capabilities implements stack.LinkEndpoint. Incoming checksums are verified before the
// stack sees a packet. Of what goes out and is not a run of TCP the stack makes the
// checksums itself: what it would leave of UDP is a zero, which says that there is none, also in
// fragments where nobody could make it later.
func (*link) Capabilities() stack.LinkEndpointCapabilities { return stack.CapabilityRXChecksumOffload }

// MTU implements stack.LinkEndpoint.
func (l *link) MTU() uint32 { return l.mtu.Load() }

// SetMTU implements stack.LinkEndpoint.
func (l *link) SetMTU(mtu uint32) { l.mtu.Store(mtu) }

// The rest of stack.LinkEndpoint: no link-layer header, address or goroutine.

func (*link) MaxHeaderLength() uint16                 { return 0 }
func (*link) LinkAddress() tcpip.LinkAddress          { return "" }
func (*link) SetLinkAddress(tcpip.LinkAddress)        {}
func (*link) Wait()                                   {}
func (*link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }
func (*link) AddHeader(*stack.PacketBuffer)           {}
func (*link) ParseHeader(*stack.PacketBuffer) bool    { return true }
func (l *link) Close()                                { l.shut() }
func (*link) SetOnCloseAction(func())                 {}
