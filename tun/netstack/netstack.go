// Package netstack is a host inside the process: gVisor's TCP/IP stack behind
// the face of a tun.Device. Packets that leave the stack are read from it,
// packets for it are written to it; programs use DialContext, ListenTCP and
// ListenPacket in place of the operating system's sockets. It needs no privilege.
//
// The stack has its own timers in real time, so it cannot be used inside a
// testing/synctest bubble.
package netstack

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/stack/gro"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"martlet/tun"
)

// Buffer limits of a TCP connection in octets: at 100 ms of round trip they allow
// about 600 Mbit/s.
const (
	receiveBuffer = 8 << 20
	sendBuffer    = 6 << 20
	initialBuffer = 1 << 20
)

const (
	nic   = 1
	batch = 64
)

// Stack is an in-process host with one interface. Its methods of tun.Device
// follow the rules there; all others may be called by anybody at any time.
type Stack struct {
	stack *stack.Stack
	link  *link

	// inbound side, owned by the caller of Write
	gro gro.GRO

	// outbound side, owned by the caller of Read
	lent [][]byte

	mu        sync.Mutex
	addresses []netip.Addr
	resolver  *net.Resolver

	closeOnce sync.Once
	closed    atomic.Bool
}

var _ tun.Device = (*Stack)(nil)

// New makes a stack whose packets are at most mtu octets long. It has no address
// yet, and a default route for both families. The caller closes it.
func New(mtu int) (*Stack, error) {
	if mtu < tun.MinMTU || mtu > tun.MaxMTU {
		return nil, fmt.Errorf("netstack: mtu %d, want %d to %d", mtu, tun.MinMTU, tun.MaxMTU)
	}
	s := &Stack{
		stack: stack.New(stack.Options{
			NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
			TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
			HandleLocal:        true,
		}),
		link: newLink(mtu),
		lent: make([][]byte, batch),
	}
	s.gro.Init(true)
	s.gro.Dispatcher = s.link
	if err := s.configure(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// configure tunes TCP and creates the interface. RACK stays off for its spurious
// retransmissions, and Reno is used because Cubic's window arithmetic overflowed
// (gVisor issue 11632).
func (s *Stack) configure() error {
	sack := tcpip.TCPSACKEnabled(true)
	recovery := tcpip.TCPRecovery(0)
	reno := tcpip.CongestionControlOption("reno")
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: initialBuffer, Max: receiveBuffer}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: initialBuffer, Max: sendBuffer}
	for _, option := range []tcpip.SettableTransportProtocolOption{&sack, &recovery, &reno, &moderate, &receive, &send} {
		if err := s.stack.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			return fmt.Errorf("netstack: set %T: %s", option, err)
		}
	}
	if err := s.stack.CreateNIC(nic, s.link); err != nil {
		return fmt.Errorf("netstack: create interface: %s", err)
	}
	s.stack.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nic},
		{Destination: header.IPv6EmptySubnet, NIC: nic},
	})
	return nil
}

// Name is "netstack".
func (s *Stack) Name() string { return "netstack" }

// MTU is the longest packet in octets.
func (s *Stack) MTU() int { return int(s.link.MTU()) }

// SetMTU sets the longest packet in octets, for packets from now on.
func (s *Stack) SetMTU(mtu int) error {
	if mtu < tun.MinMTU || mtu > tun.MaxMTU {
		return fmt.Errorf("netstack: mtu %d, want %d to %d", mtu, tun.MinMTU, tun.MaxMTU)
	}
	if err := s.stack.SetNICMTU(nic, uint32(mtu)); err != nil {
		return fmt.Errorf("netstack: set mtu %d: %s", mtu, err)
	}
	return nil
}

// Batch is the number of packets that one Read returns at most.
func (s *Stack) Batch() int { return batch }

// Read waits for packets that leave the stack.
func (s *Stack) Read(frames []tun.Frame) (int, error) {
	limit := min(len(frames), batch)
	if limit == 0 {
		return 0, nil
	}
	pkt, ok := s.link.next()
	if !ok {
		return 0, fmt.Errorf("netstack: read: %w", os.ErrClosed)
	}
	n := 0
	for pkt != nil {
		b := s.lent[n][:0]
		for _, piece := range pkt.AsSlices() {
			b = append(b, piece...)
		}
		pkt.DecRef()
		s.lent[n] = b
		frames[n].Pieces = append(frames[n].Pieces[:0], b)
		n++
		if n == limit {
			break
		}
		pkt = s.link.poll()
	}
	return n, nil
}

// Write hands packets to the stack. Packets of one TCP flow in the same call are
// joined before the stack sees them.
func (s *Stack) Write(frames []tun.Frame) (int, error) {
	if s.closed.Load() {
		return 0, fmt.Errorf("netstack: write: %w", os.ErrClosed)
	}
	taken := 0
	for _, f := range frames {
		size := 0
		for _, piece := range f.Pieces {
			size += len(piece)
		}
		if size == 0 || size > tun.MaxMTU {
			continue
		}
		view := buffer.NewView(size)
		for _, piece := range f.Pieces {
			view.Write(piece)
		}
		var protocol tcpip.NetworkProtocolNumber
		switch view.AsSlice()[0] >> 4 {
		case 4:
			protocol = header.IPv4ProtocolNumber
		case 6:
			protocol = header.IPv6ProtocolNumber
		default:
			view.Release()
			continue
		}
		if !intact(view.AsSlice()) {
			view.Release()
			continue
		}
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(view)})
		pkt.NetworkProtocolNumber = protocol
		pkt.RXChecksumValidated = true
		s.gro.Enqueue(pkt)
		pkt.DecRef()
		taken++
	}
	s.gro.Flush()
	return taken, nil
}

// Close ends all connections and listeners. Read returns the resets of those
// connections, and then an error that wraps os.ErrClosed. Close waits for the
// stack's goroutines.
func (s *Stack) Close() error {
	s.closeOnce.Do(func() {
		s.closed.Store(true)
		s.link.release()
		s.stack.Close()
		s.stack.Wait()
		s.link.shut()
	})
	return nil
}

// SetAddresses makes addresses the addresses of the stack; those that it had and
// that are not among them go, with the connections that use them left to time
// out. Prefix lengths say nothing here: everything is behind the one interface.
func (s *Stack) SetAddresses(addresses []netip.Prefix) error {
	want := make([]netip.Addr, 0, len(addresses))
	for _, p := range addresses {
		want = append(want, p.Addr().Unmap().WithZone(""))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range slices.Clone(s.addresses) {
		if !slices.Contains(want, a) {
			if err := s.remove(a); err != nil {
				return err
			}
		}
	}
	for _, a := range want {
		if err := s.add(a); err != nil {
			return err
		}
	}
	return nil
}

// AddAddress gives the stack one more address; it is no error if it has it.
func (s *Stack) AddAddress(a netip.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.add(a.Unmap().WithZone(""))
}

// RemoveAddress takes an address away; it is no error if the stack has it not.
func (s *Stack) RemoveAddress(a netip.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remove(a.Unmap().WithZone(""))
}

// Addresses are those of the stack, in the order in which they came.
func (s *Stack) Addresses() []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.addresses)
}

func (s *Stack) add(a netip.Addr) error {
	if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() {
		return fmt.Errorf("netstack: add address %s: not the address of a host", a)
	}
	if slices.Contains(s.addresses, a) {
		return nil
	}
	protocol := tcpip.ProtocolAddress{
		Protocol:          networkOf(a),
		AddressWithPrefix: tcpip.AddrFromSlice(a.AsSlice()).WithPrefix(),
	}
	if err := s.stack.AddProtocolAddress(nic, protocol, stack.AddressProperties{}); err != nil {
		return fmt.Errorf("netstack: add address %s: %s", a, err)
	}
	s.addresses = append(s.addresses, a)
	return nil
}

func (s *Stack) remove(a netip.Addr) error {
	i := slices.Index(s.addresses, a)
	if i < 0 {
		return nil
	}
	if err := s.stack.RemoveAddress(nic, tcpip.AddrFromSlice(a.AsSlice())); err != nil {
		return fmt.Errorf("netstack: remove address %s: %s", a, err)
	}
	s.addresses = slices.Delete(s.addresses, i, i+1)
	return nil
}

func networkOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}
