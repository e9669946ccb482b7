package netstack

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Ping sends one ICMP echo request of 56 octets to addr, and returns the time
// until its reply came. It waits as long as ctx lets it.
func (s *Stack) Ping(ctx context.Context, addr netip.Addr) (time.Duration, error) {
	rtt, err := s.ping(ctx, addr.Unmap().WithZone(""))
	if err != nil {
		return 0, fmt.Errorf("netstack: ping %s: %w", addr, err)
	}
	return rtt, nil
}

func (s *Stack) ping(ctx context.Context, addr netip.Addr) (time.Duration, error) {
	transport, network := icmp.ProtocolNumber4, ipv4.ProtocolNumber
	request, reply := byte(header.ICMPv4Echo), byte(header.ICMPv4EchoReply)
	if addr.Is6() {
		transport, network = icmp.ProtocolNumber6, ipv6.ProtocolNumber
		request, reply = byte(header.ICMPv6EchoRequest), byte(header.ICMPv6EchoReply)
	}
	var queue waiter.Queue
	ep, terr := s.stack.NewEndpoint(transport, network, &queue)
	if terr != nil {
		return 0, plainError(terr)
	}
	defer ep.Close()
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventErr)
	queue.EventRegister(&entry)
	defer queue.EventUnregister(&entry)
	if terr := ep.Connect(tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFromSlice(addr.AsSlice())}); terr != nil {
		return 0, plainError(terr)
	}

	// Type, code, checksum, identifier, sequence: the endpoint fills in the
	// identifier and the checksum.
	echo := make([]byte, 8+56)
	echo[0] = request
	binary.BigEndian.PutUint16(echo[6:], 1)
	start := time.Now()
	if _, terr := ep.Write(bytes.NewReader(echo), tcpip.WriteOptions{}); terr != nil {
		return 0, plainError(terr)
	}
	for {
		var got bytes.Buffer
		_, terr := ep.Read(&got, tcpip.ReadOptions{})
		if terr == nil {
			b := got.Bytes()
			if len(b) >= 8 && b[0] == reply && binary.BigEndian.Uint16(b[6:]) == 1 {
				return time.Since(start), nil
			}
			continue
		}
		if _, wait := terr.(*tcpip.ErrWouldBlock); !wait {
			return 0, plainError(terr)
		}
		select {
		case <-ready:
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-s.link.closing:
			return 0, net.ErrClosed
		}
	}
}
