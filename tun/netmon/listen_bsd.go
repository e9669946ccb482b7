//go:build darwin || freebsd || openbsd

package netmon

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/net/route"
	"golang.org/x/sys/unix"
)

// The numbers of routing.go are those of this system, or this does not compile.
var _ = [1]int{}[rtmAdd-unix.RTM_ADD|rtmDelete-unix.RTM_DELETE|rtmChange-unix.RTM_CHANGE|
	rtmNewAddr-unix.RTM_NEWADDR|rtmDelAddr-unix.RTM_DELADDR|rtmIfInfo-unix.RTM_IFINFO]

// maxMessage is above the length of each message: a header of at most 152 octets and eight
// addresses.
const maxMessage = 4 << 10

// listen has the kernel tell of links, addresses and routes by a routing socket (route(4)).
func (m *monitor) listen() (chan news, error) {
	fd, err := unix.Socket(unix.AF_ROUTE, unix.SOCK_RAW, unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("open a routing socket: %w", err)
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("open a routing socket: %w", err)
	}
	socket, out := os.NewFile(uintptr(fd), "routing socket"), make(chan news)
	ended := make(chan struct{})
	m.tasks.Go(func() {
		select {
		case <-m.stop:
		case <-ended:
		}
		_ = socket.Close() // which ends a read
	})
	m.tasks.Go(func() {
		err := m.read(socket, out)
		close(ended)
		select {
		case <-m.stop:
		default:
			m.lookOut(out, err)
		}
	})
	return out, nil
}

// read passes on what the kernel tells. It returns when the socket is closed, or fails.
func (m *monitor) read(socket *os.File, out chan<- news) error {
	buf := make([]byte, maxMessage)
	for {
		n, err := socket.Read(buf)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			m.notify(out, notice{about: aLoss})
			continue
		case err != nil:
			return err
		}
		about, ok := subject(buf[:n], runtime.GOOS == "openbsd")
		switch {
		case !ok:
		case about == aRoute:
			messages, err := route.ParseRIB(route.RIBTypeRoute, buf[:n])
			if err != nil {
				m.notify(out, notice{about: aLink}) // a look does no harm
				continue
			}
			for _, r := range messages {
				if r, ok := r.(*route.RouteMessage); ok {
					m.notify(out, notice{about: aRoute, link: r.Index, to: destination(r)})
				}
			}
		default:
			m.notify(out, notice{about: about})
		}
	}
}

// destination is where a route leads.
func destination(r *route.RouteMessage) netip.Prefix {
	return prefix(at(r, unix.RTAX_DST), at(r, unix.RTAX_NETMASK), r.Flags&unix.RTF_HOST != 0)
}

// at is one of the addresses of a message; invalid if it has none there.
func at(r *route.RouteMessage, which int) netip.Addr {
	if which >= len(r.Addrs) {
		return netip.Addr{}
	}
	switch a := r.Addrs[which].(type) {
	case *route.Inet4Addr:
		return netip.AddrFrom4(a.IP)
	case *route.Inet6Addr:
		return netip.AddrFrom16(a.IP)
	}
	return netip.Addr{}
}
