package netstack

import (
	"io"
	"net"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// mayReceive is what a connection of the stack may have received that nobody has read.
func mayReceive(t *testing.T, s *Stack) (o tcpip.TCPReceiveBufferSizeRangeOption) {
	t.Helper()
	if err := s.stack.TransportProtocolOption(tcp.ProtocolNumber, &o); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestBuffers(t *testing.T) {
	for _, test := range []struct {
		o             Options
		receive, send int
	}{
		{Options{}, 8 << 20, 6 << 20},
		{Options{Memory: 1 << 20}, 1 << 20, 6 << 20},
		{Options{ReceiveBuffer: 64 << 10, SendBuffer: 96 << 10, Memory: 1 << 20}, 64 << 10, 96 << 10},
		{Options{ReceiveBuffer: 1, SendBuffer: 1}, leastBuffer, leastBuffer},
	} {
		s, err := New(1400, test.o)
		if err != nil {
			t.Fatal(err)
		}
		var send tcpip.TCPSendBufferSizeRangeOption
		if err := s.stack.TransportProtocolOption(tcp.ProtocolNumber, &send); err != nil {
			t.Fatal(err)
		}
		if receive := mayReceive(t, s); receive.Max != test.receive || send.Max != test.send || receive.Default > receive.Max || send.Default > send.Max {
			t.Errorf("%+v: receive %+v, send %+v", test.o, receive, send)
		}
		s.Close()
	}
}

// TestMemoryIsDivided: the more connections there are, dialled and accepted, the less each may
// buffer; all of them work, both ways, and those that came first go on.
func TestMemoryIsDivided(t *testing.T) {
	o := Options{SendBuffer: 64 << 10, Memory: 1 << 20}
	client, server := joinedWith(t, o,
		func(from, to *Stack) { pump(t, from, to, nil, true) },
		func(from, to *Stack) { pump(t, from, to, nil, false) })
	const octets = 300 << 10
	at := listen(t, server, "10.9.0.1:0", echo)
	talk := func(c net.Conn) {
		var both sync.WaitGroup
		both.Go(func() {
			if _, err := c.Write(make([]byte, octets)); err != nil {
				t.Error(err)
			}
		})
		if n, err := io.CopyN(io.Discard, c, octets); err != nil {
			t.Errorf("%d octets came back: %v", n, err)
		}
		both.Wait()
	}
	var conns []net.Conn
	for range 40 {
		conns = append(conns, dial(t, client, "tcp", at.String()))
		if len(conns) == 1 {
			talk(conns[0])
		}
	}
	var all sync.WaitGroup
	for _, c := range conns {
		all.Go(func() { talk(c) })
	}
	all.Wait()
	for _, s := range []*Stack{client, server} {
		if got := mayReceive(t, s).Max; got != leastBuffer {
			t.Errorf("%d connections may have %d octets each", len(conns), got)
		}
	}
}
