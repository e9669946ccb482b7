package netstack

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
)

// ForwardConfig says how clients are forwarded; the zero value of each field is a default.
type ForwardConfig struct {
	// Destinations says where clients may go; Forwarder.SetDestinations changes it.
	Destinations Destinations
	// Map has destinations that stand for others, for TCP and UDP: 10.77.0.1:53, which may be an
	// address of the stack, for a resolver. What is mapped to is not judged.
	Map map[netip.AddrPort]netip.AddrPort

	// Dial opens sockets of the host; the network is tcp4, tcp6, udp4 or udp6, the address
	// a literal one. The remote address of what it returns is judged again. Default: a
	// net.Dialer with Control.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Control is called for each socket of the default Dial before it connects.
	Control func(network, address string, c syscall.RawConn) error
	// ListenEcho opens a socket for ICMP echo that needs no privilege; the network is udp4 or udp6,
	// as in golang.org/x/net/icmp, whose ListenPacket is the default. Addresses are
	// *net.UDPAddr.
	ListenEcho func(network string) (net.PacketConn, error)
	// Interfaces are the addresses of this host with their networks; it is asked every few
	// seconds. Default: those of all its interfaces.
	Interfaces func() ([]netip.Prefix, error)
	// Warn is told once what a person should know, as that the host allows no ICMP
	// echo. It may be called by any goroutine, and must not wait.
	Warn func(text string)

	// What may be open at once, in total and for one address of a client. Each TCP
	// connection and UDP flow has a file descriptor. More TCP connections are reset, more
	// handshakes are not answered; of UDP flows and echoes the longest unused ends.
	MaxTCP, MaxTCPEach               int // connections; 2048, 512
	MaxHandshakes, MaxHandshakesEach int // of these, not established yet; 1024, 256
	MaxUDP, MaxUDPEach               int // flows; 2048, 512
	MaxEchoes, MaxEchoesEach         int // requests without a reply; 4096, 256; MaxEchoes at most 32768

	// Memory is about what the buffers of all TCP connections may hold at most, in octets: the
	// more there are, the smaller are those of the next. Options.Memory, or 256 MiB.
	Memory int

	DialTimeout    time.Duration // of a TCP connection; 30 s
	TCPIdle        time.Duration // 2 h 4 min
	TCPHalfClosed  time.Duration // without traffic, after one side has closed; 4 min
	UDPIdle        time.Duration // 5 min
	DNSIdle        time.Duration // UDP to port 53; 30 s
	EchoIdle       time.Duration // a request whose reply is awaited; 1 min
	KeepAlive      time.Duration // of TCP, both sides, before the first probe; 10 min
	handshake      time.Duration // for the client's last acknowledgment; 30 s
	lingering      time.Duration // for the client's acknowledgment of the end; 1 min
	hostsAddresses time.Duration // how often Interfaces is asked; 10 s
}

// withDefaults fills in what is zero.
func (c ForwardConfig) withDefaults() ForwardConfig {
	number := func(n *int, d int) {
		if *n <= 0 {
			*n = d
		}
	}
	number(&c.MaxTCP, 2048)
	number(&c.MaxTCPEach, 512)
	number(&c.MaxHandshakes, 1024)
	number(&c.MaxHandshakesEach, 256)
	number(&c.MaxUDP, 2048)
	number(&c.MaxUDPEach, 512)
	number(&c.MaxEchoes, 4096)
	number(&c.MaxEchoesEach, 256)
	c.MaxEchoes = min(c.MaxEchoes, 1<<15)
	number(&c.Memory, 256<<20)
	duration := func(t *time.Duration, d time.Duration) {
		if *t <= 0 {
			*t = d
		}
	}
	duration(&c.DialTimeout, 30*time.Second)
	// RFC 5382 §5 REQ-5: at least 2 hours and 4 minutes; partially closed, 4 minutes.
	duration(&c.TCPIdle, 2*time.Hour+4*time.Minute)
	duration(&c.TCPHalfClosed, 4*time.Minute)
	// RFC 4787 §4.3 REQ-5: not below 2 minutes, 5 or more recommended, and less for some
	// well-known ports.
	duration(&c.UDPIdle, 5*time.Minute)
	duration(&c.DNSIdle, 30*time.Second)
	// RFC 5508 §3.2 REQ-2: at least 60 seconds.
	duration(&c.EchoIdle, time.Minute)
	duration(&c.KeepAlive, 10*time.Minute)
	duration(&c.handshake, 30*time.Second)
	duration(&c.lingering, time.Minute)
	duration(&c.hostsAddresses, 10*time.Second)
	if c.Dial == nil {
		d := &net.Dialer{
			Control:         c.Control,
			KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: c.KeepAlive, Interval: probeInterval, Count: probes},
		}
		c.Dial = d.DialContext
	}
	if c.ListenEcho == nil {
		c.ListenEcho = func(network string) (net.PacketConn, error) {
			if network == "udp4" {
				return icmp.ListenPacket(network, "0.0.0.0")
			}
			return icmp.ListenPacket(network, "::")
		}
	}
	if c.Interfaces == nil {
		c.Interfaces = hostAddresses
	}
	if c.Warn == nil {
		c.Warn = func(string) {}
	}
	return c
}

// Probes of a connection that may be dead.
const (
	probeInterval = 75 * time.Second
	probes        = 9
)
