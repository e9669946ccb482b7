package interop

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
)

// intranet is what a host behind the gateway serves: pages, echoes, and names that nobody else knows.
type intranet struct {
	names *nameServer
	crowd *crowd
	gate  chan struct{} // closed when the second half of /gate may be sent
}

// The host behind the gateway.
const (
	insideAddr4, insideAddr6 = "10.98.2.80", "fd98:2::80"
	insideName               = "web.inside.test"
	half                     = 1 << 20 // octets, of /gate
	each                     = 256 << 10
)

func newIntranet(ns *namespace, parallel int) *intranet {
	ns.t.Helper()
	four, six := netip.MustParseAddr(insideAddr4), netip.MustParseAddr(insideAddr6)
	n := &intranet{
		names: &nameServer{zone: map[string][]netip.Addr{
			insideName: {four, six}, "four.inside.test": {four}, "six.inside.test": {six},
		}},
		crowd: &crowd{want: parallel, full: make(chan struct{})},
		gate:  make(chan struct{}),
	}
	for _, addr := range []string{insideAddr4, insideAddr6} {
		n.names.serve(ns, addr)
		ns.serveHTTP(net.JoinHostPort(addr, "80"), n.pages())
		ns.echo(net.JoinHostPort(addr, "7"))
	}
	return n
}

func (n *intranet) pages() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s for %s\n", r.Host, r.RemoteAddr)
	})
	// All come at once before any gets its octets.
	mux.HandleFunc("GET /crowd", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-n.crowd.join():
			_, _ = w.Write(make([]byte, each)) // the client tells what it got
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("GET /gate", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(make([]byte, half))
		_ = http.NewResponseController(w).Flush()
		select {
		case <-n.gate:
			_, _ = w.Write(make([]byte, half))
		case <-r.Context().Done():
		}
	})
	return mux
}

// crowd is met when so many have joined it.
type crowd struct {
	mu         sync.Mutex
	here, want int
	full       chan struct{}
}

func (c *crowd) join() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.here++
	if c.here == c.want {
		close(c.full)
	}
	return c.full
}

// serveHTTP serves in the namespace until the end of the test.
func (ns *namespace) serveHTTP(at string, h http.Handler) {
	ns.t.Helper()
	server := &http.Server{Handler: h, ReadHeaderTimeout: patience}
	l := ns.listen(at)
	go func() { _ = server.Serve(l) }() // it ends when it is closed
	ns.t.Cleanup(func() { _ = server.Close() })
}

// packets opens a UDP port in the namespace until the end of the test.
func (ns *namespace) packets(at string) net.PacketConn {
	ns.t.Helper()
	var c net.PacketConn
	if err := ns.inside(func() (err error) {
		c, err = net.ListenPacket("udp", at)
		return err
	}); err != nil {
		ns.t.Fatal(err)
	}
	ns.t.Cleanup(func() { _ = c.Close() })
	return c
}

// answerAll has f answer each datagram; what it does not answer is nil.
func answerAll(c net.PacketConn, f func([]byte) []byte) {
	b := make([]byte, 4096)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return // it is closed
		}
		if out := f(b[:n]); out != nil {
			_, _ = c.WriteTo(out, from) // a lost datagram
		}
	}
}

// echo sends datagrams back, with a word of its own before them.
func (ns *namespace) echo(at string) {
	ns.t.Helper()
	c := ns.packets(at)
	go answerAll(c, func(b []byte) []byte { return slices.Concat([]byte("echo "), b) })
}

// sshd starts sshd with keys of its own and returns the client's file with the key and the options.
func sshd(ns *namespace, t testing.TB) (keyFile string) {
	t.Helper()
	keyFile = ns.dir + "/client"
	command(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keyFile)
	command(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ns.dir+"/host")
	conf := ns.write("sshd_config", fmt.Sprintf(`
ListenAddress %s
ListenAddress [%s]:22
HostKey %s/host
AuthorizedKeysFile %[3]s/client.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
PidFile none
`, insideAddr4, insideAddr6, ns.dir))
	p := ns.spawn("sshd", nil, "unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && exec /usr/sbin/sshd -D -e -f "+conf)
	p.says("listening on " + insideAddr4)
	p.says("listening on " + insideAddr6)
	return keyFile
}
