package netstack

import (
	"cmp"
	"fmt"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Options are what a stack may take of memory. The zero value is for speed.
type Options struct {
	// ReceiveBuffer and SendBuffer are the octets that a TCP connection may come to buffer in either
	// direction. 0 is 8 MiB and 6 MiB, by which at 100 ms of round trip about 600 Mbit/s
	// pass.
	ReceiveBuffer, SendBuffer int
	// Memory is the octets that all connections together may come to have received before
	// somebody reads them, about: it is divided by their number, but each may have 32 KiB. 0
	// sets no bound. What is sent has none like it.
	Memory int
}

const (
	defaultReceiveBuffer = 8 << 20
	defaultSendBuffer    = 6 << 20
	leastBuffer          = 32 << 10
)

// buffers bounds those of the TCP connections of a stack.
type buffers struct {
	options Options

	mu     sync.Mutex
	shares int // among how many connections the memory is divided; 0 before the first time
}

// limitSending sets what each connection may buffer of what it sends. It must not become less
// later: of a connection that has more, gVisor would not wake who waits for room.
func (s *Stack) limitSending() error {
	most := max(cmp.Or(s.buffers.options.SendBuffer, defaultSendBuffer), leastBuffer)
	return s.set(&tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: initial(most), Max: most})
}

// divide gives each connection its share for what it receives, when another one has come. Those that
// have more already keep it.
func (s *Stack) divide() error {
	b := &s.buffers
	b.mu.Lock()
	defer b.mu.Unlock()
	shares := 1
	// Steps of a quarter spare most connections this.
	for n := int(s.stack.Stats().TCP.CurrentConnected.Value()); b.options.Memory != 0 && shares < n; {
		shares += 1 + shares/4
	}
	if shares == b.shares {
		return nil
	}
	b.shares = shares
	most := cmp.Or(b.options.ReceiveBuffer, defaultReceiveBuffer)
	if b.options.Memory != 0 {
		most = min(most, b.options.Memory/shares)
	}
	most = max(most, leastBuffer)
	return s.set(&tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: initial(most), Max: most})
}

// initial is what a connection begins with.
func initial(most int) int { return max(most/8, leastBuffer) }

func (s *Stack) set(option tcpip.SettableTransportProtocolOption) error {
	if err := s.stack.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
		return fmt.Errorf("netstack: set %T: %s", option, err)
	}
	return nil
}
