package route

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"martlet/tun"
)

// testNamespace is a network namespace with a thread of its own.
type testNamespace struct {
	t    *testing.T
	work chan func()
	fd   int
}

// newNamespace skips the test where namespaces cannot be made.
func newNamespace(t *testing.T) *testNamespace {
	t.Helper()
	n := &testNamespace{t: t, work: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the namespace
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			n.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		ready <- err
		for f := range n.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		close(n.work)
		t.Skipf("needs root for a network namespace: %v", err)
	}
	t.Cleanup(func() { close(n.work); unix.Close(n.fd) })
	n.ip("link set lo up")
	return n
}

// do runs f inside. f must not call t.FailNow; it returns what is wrong.
func (n *testNamespace) do(f func() error) {
	n.t.Helper()
	done := make(chan error)
	n.work <- func() { done <- f() }
	if err := <-done; err != nil {
		n.t.Fatal(err)
	}
}

func (n *testNamespace) output(name string, args ...string) string {
	n.t.Helper()
	var out []byte
	n.do(func() (err error) {
		if out, err = exec.Command(name, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s %v: %w\n%s", name, args, err, out)
		}
		return nil
	})
	return string(out)
}

func (n *testNamespace) ip(command string) string {
	n.t.Helper()
	return n.output("ip", strings.Fields(command)...)
}

// sysctls reads all of /proc/sys/net that a namespace has for IP.
func (n *testNamespace) sysctls() map[string]string {
	n.t.Helper()
	out := map[string]string{}
	n.do(func() error {
		for _, dir := range []string{"/proc/sys/net/ipv4", "/proc/sys/net/ipv6"} {
			err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				if b, err := os.ReadFile(path); err == nil {
					out[path] = strings.TrimSpace(string(b))
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return out
}

// snapshot is everything that a Router may change. What the kernel itself adds to
// eth0 while the link comes up is left out.
func (n *testNamespace) snapshot() map[string]string {
	n.t.Helper()
	out := n.sysctls()
	for _, command := range []string{"rule", "-6 rule", "route show table all", "-6 route show table all", "-brief address"} {
		lines := strings.Split(n.ip(command), "\n")
		lines = slices.DeleteFunc(lines, func(line string) bool {
			return strings.HasPrefix(line, "eth0") || strings.Contains(line, "dev eth0") && strings.Contains(line, "kernel")
		})
		out["ip "+command] = strings.Join(lines, "\n")
	}
	return out
}

func (n *testNamespace) open() tun.Device {
	n.t.Helper()
	var device tun.Device
	n.do(func() (err error) {
		device, err = tun.Open("martlet0", 1400, 1)
		return err
	})
	n.t.Cleanup(func() { device.Close() })
	return device
}

// network is a host and a peer on one link, with the host's router, 192.0.2.1 as
// its default route.
func network(t *testing.T) (host, peer *testNamespace) {
	t.Helper()
	host, peer = newNamespace(t), newNamespace(t)
	host.do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "eth0"
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(peer.fd)})
	})
	for n, addresses := range map[*testNamespace][]string{
		host: {"192.0.2.2/24", "2001:db8::2/64"},
		peer: {"192.0.2.1/24", "198.51.100.1/32", "2001:db8::1/64", "2001:db8:1::1/128"},
	} {
		for _, a := range addresses {
			nodad := ""
			if strings.Contains(a, ":") {
				nodad = " nodad"
			}
			n.ip("address add " + a + " dev eth0" + nodad)
		}
		n.ip("link set eth0 up")
	}
	host.ip("route add default via 192.0.2.1")
	host.ip("-6 route add default via 2001:db8::1")
	return host, peer
}

// socket is a UDP socket inside, with a mark.
func (n *testNamespace) socket(local string, mark uint32) *net.UDPConn {
	n.t.Helper()
	var conn *net.UDPConn
	n.do(func() error {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(local)))
		if err != nil {
			return err
		}
		conn = c
		raw, err := c.SyscallConn()
		if err != nil {
			return err
		}
		return errors.Join(raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark))
		}), err)
	})
	n.t.Cleanup(func() { conn.Close() })
	return conn
}

func TestCloseLeavesNothing(t *testing.T) {
	host, _ := network(t)
	device := host.open()
	host.ip("link set martlet0 up") // as it gets a link-local address, or not
	host.ip("link set martlet0 down")
	host.do(func() error { return os.WriteFile("/proc/sys/net/ipv4/conf/eth0/forwarding", []byte("1"), 0) })
	host.do(func() error { return os.WriteFile("/proc/sys/net/ipv4/conf/all/accept_redirects", []byte("0"), 0) })
	before := host.snapshot()
	dir := t.TempDir()
	router := New(dir, nil)

	full := warrior()
	full.Forward = true
	full.Outside = prefixes("192.0.2.0/24", "2001:db8::/32")
	full.Unreachable = prefixes("198.18.0.0/15", "100::/64")
	for _, c := range []Config{full, gateway(), gateway(), warrior()} {
		host.do(func() error { return router.Set(c) })
	}
	rules := host.ip("rule")
	for _, want := range []string{"5310:\tfrom all fwmark 0x4d000000 lookup main proto 77", "5330:\tnot from all fwmark 0x4d000000 lookup 19780 proto 77"} {
		if !strings.Contains(rules, want) {
			t.Errorf("ip rule lacks %q:\n%s", want, rules)
		}
	}
	if got := host.ip("route show table 19780"); strings.TrimSpace(got) != "default dev martlet0 proto 77 scope link" {
		t.Errorf("the tunnel's table:\n%s", got)
	}
	if got := host.ip("route show table main dev martlet0"); got != "" {
		t.Errorf("in main:\n%s", got)
	}

	// Somebody removes what we set: the next Set puts it back.
	host.ip("rule del pref 5330")
	host.ip("route flush table 19780")
	host.do(func() error { return router.Set(warrior()) })
	if !strings.Contains(host.ip("rule"), "5330:") || host.ip("route show table 19780") == "" {
		t.Error("Set did not put back what was removed")
	}

	host.do(router.Close)
	host.do(router.Close)
	host.ip("link set martlet0 down")
	if diff := cmp.Diff(before, host.snapshot()); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left in the state folder: %v", left)
	}
	device.Close()
}

// A Router whose process is killed leaves rules and sysctls; Recover takes them
// away and leaves those of the living.
func TestRecoverAfterKill(t *testing.T) {
	if dir := os.Getenv("MARTLET_ROUTE_CHILD"); dir != "" {
		child(t, dir)
		return
	}
	host, _ := network(t)
	dir := t.TempDir()
	before := host.snapshot()

	var process *exec.Cmd
	host.do(func() error {
		process = exec.Command(os.Args[0], "-test.run=^TestRecoverAfterKill$")
		process.Env = append(os.Environ(), "MARTLET_ROUTE_CHILD="+dir)
		process.Stderr = os.Stderr
		out, err := process.StdoutPipe()
		if err != nil {
			return err
		}
		if _, err = process.StdinPipe(); err != nil { // open until Wait, so that the child lives
			return err
		}
		if err := process.Start(); err != nil {
			return err
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || line != "ready\n" {
			return fmt.Errorf("the child said %q, %w", line, err)
		}
		return nil
	})
	during := host.snapshot()
	if during["ip rule"] == before["ip rule"] || during["/proc/sys/net/ipv4/ip_forward"] != "1" {
		t.Error("the child has set nothing")
	}
	host.do(func() error { return Recover(dir, nil) })
	if diff := cmp.Diff(during, host.snapshot()); diff != "" {
		t.Errorf("Recover touched what a living process has set (-before +after):\n%s", diff)
	}
	// Nor does one that does not know the other's folder.
	host.do(func() error { return Recover(t.TempDir(), nil) })
	if diff := cmp.Diff(during, host.snapshot()); diff != "" {
		t.Errorf("Recover of another folder touched what a living process has set (-before +after):\n%s", diff)
	}

	if err := process.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	process.Wait()
	if host.ip("rule") == before["ip rule"] {
		t.Error("the killed child left no rules: the test shows nothing")
	}
	for range 2 {
		host.do(func() error { return Recover(dir, nil) })
		if diff := cmp.Diff(before, host.snapshot()); diff != "" {
			t.Errorf("(-before +after):\n%s", diff)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left in the state folder: %v", left)
	}
}

// child sets up what its parent will kill.
func child(t *testing.T, dir string) {
	device, err := tun.Open("martlet0", 1400, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	if err := New(dir, nil).Set(kept()); err != nil {
		t.Fatal(err)
	}
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadByte()
}

// A state file that is cut off does not keep the rules from being found.
func TestRecoverWithoutState(t *testing.T) {
	host := newNamespace(t)
	before := host.snapshot()
	dir := t.TempDir()
	device := host.open()
	killed := New(dir, nil).(*router)
	host.do(func() error { return killed.Set(kept()) })
	device.Close()
	files := stateFiles(dir)
	if len(files) != 1 {
		t.Fatalf("state files: %v", files)
	}
	killed.file.file.Close() // as the kernel does for a killed process
	if err := os.WriteFile(files[0], []byte(`{"boot`), 0o600); err != nil {
		t.Fatal(err)
	}
	host.do(func() error { return Recover(dir, nil) })
	after := host.snapshot()
	for _, command := range []string{"ip rule", "ip -6 rule", "ip route show table all", "ip -6 route show table all"} {
		if diff := cmp.Diff(before[command], after[command]); diff != "" {
			t.Errorf("%s (-before +after):\n%s", command, diff)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left in the state folder: %v", left)
	}
}

func TestSecondRouterOfOneDevice(t *testing.T) {
	host := newNamespace(t)
	host.open()
	dir := t.TempDir()
	first, second := New(dir, nil), New(dir, nil)
	host.do(func() error { return first.Set(warrior()) })
	host.do(func() error {
		if err := second.Set(warrior()); err == nil || !strings.Contains(err.Error(), "in use") {
			return fmt.Errorf("second Set: got %v, want that the device is in use", err)
		}
		return nil
	})
	host.do(first.Close)
	host.do(func() error { return second.Set(warrior()) })
	host.do(second.Close)
}

func TestErrors(t *testing.T) {
	host := newNamespace(t)
	router := New(t.TempDir(), nil)
	host.do(func() error {
		err := router.Set(warrior())
		var routeError *Error
		if !errors.As(err, &routeError) || !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "open the TUN first") {
			return fmt.Errorf("without a device: got %v", err)
		}
		return nil
	})
	host.do(router.Close)
}

func TestSourceWithin(t *testing.T) {
	host, _ := network(t)
	host.ip("address add 10.1.0.1/24 dev lo")
	for _, test := range []struct {
		within []netip.Prefix
		want   string
	}{
		{prefixes("10.1.0.0/16"), "10.1.0.1"},
		{prefixes("10.2.0.0/16", "2001:db8::/48"), "2001:db8::2"},
		{prefixes("127.0.0.0/8", "10.2.0.0/16"), "invalid IP"},
	} {
		host.do(func() error {
			got, err := SourceWithin(test.within)
			if err != nil || got.String() != test.want {
				return fmt.Errorf("within %v: got %v, %v, want %s", test.within, got, err, test.want)
			}
			return nil
		})
	}
}
