package interop

import (
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"
)

// association is a SOCKS5 client of UDP ASSOCIATE (RFC 1928 §4, §7).
type association struct {
	t       testing.TB
	control net.Conn // as long as it is open the association is
	packets net.Conn
}

// associate asks a proxy that takes everybody for an association, from within the namespace.
func (ns *namespace) associate(proxy string) *association {
	ns.t.Helper()
	a := &association{t: ns.t}
	err := ns.inside(func() (err error) {
		if a.control, err = net.Dial("tcp", proxy); err != nil {
			return err
		}
		if _, err := a.control.Write([]byte{5, 1, 0}); err != nil {
			return err
		}
		reply := make([]byte, 2, 10)
		if _, err := io.ReadFull(a.control, reply); err != nil || reply[0] != 5 || reply[1] != 0 {
			return fmt.Errorf("the proxy says %x, %w", reply, err)
		}
		if _, err := a.control.Write([]byte{5, 3, 0, 1, 0, 0, 0, 0, 0, 0}); err != nil {
			return err
		}
		reply = reply[:10]
		if _, err := io.ReadFull(a.control, reply); err != nil || reply[1] != 0 || reply[3] != 1 {
			return fmt.Errorf("the proxy says %x, %w", reply, err)
		}
		at := net.UDPAddr{IP: net.IP(reply[4:8]), Port: int(reply[8])<<8 | int(reply[9])}
		a.packets, err = net.Dial("udp", at.String())
		return err
	})
	if err != nil {
		ns.t.Fatal(err)
	}
	return a
}

func (a *association) close() {
	_ = a.packets.Close() // nothing is kept in it
	_ = a.control.Close()
}

// ask sends a datagram, again and again until there is an answer, and returns that.
func (a *association) ask(to net.Addr, text []byte) []byte {
	a.t.Helper()
	packet := slices.Concat(udpHeader(to), text)
	var b []byte
	until(a.t, "an answer from "+to.String()+" through the proxy", func() bool {
		var err error
		b, err = exchange(a.packets, packet)
		return err == nil
	})
	header := 10
	if len(b) > 3 && b[3] == 4 {
		header = 22
	}
	if len(b) < header || b[2] != 0 {
		a.t.Fatalf("the proxy sends %x", b)
	}
	return b[header:]
}

// exchange sends a datagram and waits a while for one back.
func exchange(c net.Conn, out []byte) ([]byte, error) {
	if _, err := c.Write(out); err != nil {
		return nil, err
	}
	if err := c.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return nil, err
	}
	b := make([]byte, 4096)
	n, err := c.Read(b)
	return b[:n], err
}

// hostPort is a destination whose name the proxy resolves.
type hostPort struct {
	host string
	port uint16
}

func (hostPort) Network() string  { return "udp" }
func (h hostPort) String() string { return net.JoinHostPort(h.host, fmt.Sprint(h.port)) }

// udpHeader is what stands before a datagram.
func udpHeader(to net.Addr) []byte {
	header := []byte{0, 0, 0}
	var port int
	switch to := to.(type) {
	case hostPort:
		header = append(append(header, 3, byte(len(to.host))), to.host...)
		port = int(to.port)
	case *net.UDPAddr:
		if four := to.IP.To4(); four != nil {
			header = append(append(header, 1), four...)
		} else {
			header = append(append(header, 4), to.IP...)
		}
		port = to.Port
	}
	return append(header, byte(port>>8), byte(port))
}
