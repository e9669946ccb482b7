package proxy

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
)

// Sizes of UDP datagrams in octets. A socket begins with room for the smaller, which
// all that fits in the packets of a tunnel does, and takes the larger when something was cut off.
const (
	usualDatagram   = 4<<10 + 512
	longestDatagram = 64 << 10
)

// mostTroubles is how many errors in a row a UDP socket may have: those that tell of one
// datagram, as ICMP messages do, are not its end.
const mostTroubles = 100

// wsaTooLong is how Windows tells that a datagram was longer than its buffer.
const wsaTooLong = syscall.Errno(10040)

// cut reports whether a datagram did not fit in b, which is the smaller.
func cut(n int, b []byte, err error) bool {
	return len(b) < longestDatagram && (err == nil && n == len(b) || errors.Is(err, wsaTooLong))
}

// datagrams reads from a socket until it is closed. What take gets is valid during the call:
// room octets for a header, and the datagram behind them.
func (o *Options) datagrams(c net.PacketConn, room int, take func(b []byte, from netip.AddrPort)) error {
	buf := make([]byte, room+usualDatagram)
	for troubles := 0; ; {
		n, from, err := c.ReadFrom(buf[room:])
		if err == nil && room+n < len(buf) {
			troubles = 0
			take(buf[:room+n], addrPort(from))
			continue
		}
		if err != nil {
			if troubles++; errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || troubles > mostTroubles {
				return err
			}
		}
		if cut(n, buf[room:], err) {
			buf = make([]byte, room+longestDatagram)
		}
		o.Counters.dropped.Add(1)
	}
}

// listenInside opens a UDP socket in the tunnel for both families, or for IPv4 where there is
// nothing else.
func (o *Options) listenInside() (net.PacketConn, error) {
	c, err := o.Network.ListenPacket("udp", "[::]:0")
	if err != nil {
		c, err = o.Network.ListenPacket("udp4", "0.0.0.0:0")
	}
	return c, err
}
