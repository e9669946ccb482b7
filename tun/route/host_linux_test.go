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
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"martlet/test/netns"
	"martlet/tun"
)

// testNamespace is a host of its own.
type testNamespace struct {
	*netns.Namespace
	t *testing.T
}

func newNamespace(t *testing.T) *testNamespace {
	t.Helper()
	return &testNamespace{netns.New(t), t}
}

// sysctls reads all of /proc/sys/net that a namespace has for IP.
func (n *testNamespace) sysctls() map[string]string {
	n.t.Helper()
	out := map[string]string{}
	n.Do(func() error {
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
		lines := strings.Split(n.IP(command), "\n")
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
	n.Do(func() (err error) {
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
	host.Cable("eth0", peer.Namespace, "eth0")
	for n, addresses := range map[*testNamespace][]string{
		host: {"192.0.2.2/24", "2001:db8::2/64"},
		peer: {"192.0.2.1/24", "198.51.100.1/32", "2001:db8::1/64", "2001:db8:1::1/128"},
	} {
		for _, a := range addresses {
			nodad := ""
			if strings.Contains(a, ":") {
				nodad = " nodad"
			}
			n.IP("address add " + a + " dev eth0" + nodad)
		}
		n.IP("link set eth0 up")
	}
	host.IP("route add default via 192.0.2.1")
	host.IP("-6 route add default via 2001:db8::1")
	return host, peer
}

// socket is a UDP socket inside, with a mark.
func (n *testNamespace) socket(local string, mark uint32) *net.UDPConn {
	n.t.Helper()
	var conn *net.UDPConn
	n.Do(func() error {
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
	host.IP("link set martlet0 up") // as it gets a link-local address, or not
	host.IP("link set martlet0 down")
	host.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/conf/eth0/forwarding", []byte("1"), 0) })
	host.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/conf/all/accept_redirects", []byte("0"), 0) })
	before := host.snapshot()
	dir := t.TempDir()
	router := New(dir, nil)

	full := warrior()
	full.Forward = true
	full.Outside = prefixes("192.0.2.0/24", "2001:db8::/32")
	full.Unreachable = prefixes("198.18.0.0/15", "100::/64")
	for _, c := range []Config{full, gateway(), gateway(), warrior()} {
		host.Do(func() error { return router.Set(c) })
	}
	rules := host.IP("rule")
	for _, want := range []string{"5310:\tfrom all fwmark 0x4d000000 lookup main proto 77", "5330:\tnot from all fwmark 0x4d000000 lookup 19780 proto 77"} {
		if !strings.Contains(rules, want) {
			t.Errorf("ip rule lacks %q:\n%s", want, rules)
		}
	}
	if got := host.IP("route show table 19780"); strings.TrimSpace(got) != "default dev martlet0 proto 77 scope link" {
		t.Errorf("the tunnel's table:\n%s", got)
	}
	if got := host.IP("route show table main dev martlet0"); got != "" {
		t.Errorf("in main:\n%s", got)
	}

	// Somebody removes what we set: the next Set puts it back.
	host.IP("rule del pref 5330")
	host.IP("route flush table 19780")
	host.Do(func() error { return router.Set(warrior()) })
	if !strings.Contains(host.IP("rule"), "5330:") || host.IP("route show table 19780") == "" {
		t.Error("Set did not put back what was removed")
	}

	host.Do(router.Close)
	host.Do(router.Close)
	host.IP("link set martlet0 down")
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
	host.Do(func() error {
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
	host.Do(func() error { return Recover(dir, nil) })
	if diff := cmp.Diff(during, host.snapshot()); diff != "" {
		t.Errorf("Recover touched what a living process has set (-before +after):\n%s", diff)
	}
	// Nor does one that does not know the other's folder.
	host.Do(func() error { return Recover(t.TempDir(), nil) })
	if diff := cmp.Diff(during, host.snapshot()); diff != "" {
		t.Errorf("Recover of another folder touched what a living process has set (-before +after):\n%s", diff)
	}

	if err := process.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	process.Wait()
	if host.IP("rule") == before["ip rule"] {
		t.Error("the killed child left no rules: the test shows nothing")
	}
	for range 2 {
		host.Do(func() error { return Recover(dir, nil) })
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
	host.Do(func() error { return killed.Set(kept()) })
	device.Close()
	files := stateFiles(dir)
	if len(files) != 1 {
		t.Fatalf("state files: %v", files)
	}
	killed.file.file.Close() // as the kernel does for a killed process
	if err := os.WriteFile(files[0], []byte(`{"boot`), 0o600); err != nil {
		t.Fatal(err)
	}
	host.Do(func() error { return Recover(dir, nil) })
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
	host.Do(func() error { return first.Set(warrior()) })
	host.Do(func() error {
		if err := second.Set(warrior()); err == nil || !strings.Contains(err.Error(), "in use") {
			return fmt.Errorf("second Set: got %v, want that the device is in use", err)
		}
		return nil
	})
	host.Do(first.Close)
	host.Do(func() error { return second.Set(warrior()) })
	host.Do(second.Close)
}

func TestErrors(t *testing.T) {
	host := newNamespace(t)
	router := New(t.TempDir(), nil)
	host.Do(func() error {
		err := router.Set(warrior())
		var routeError *Error
		if !errors.As(err, &routeError) || !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "open the TUN first") {
			return fmt.Errorf("without a device: got %v", err)
		}
		return nil
	})
	host.Do(router.Close)
}

func TestSourceWithin(t *testing.T) {
	host, _ := network(t)
	host.IP("address add 10.1.0.1/24 dev lo")
	for _, test := range []struct {
		within []netip.Prefix
		want   string
	}{
		{prefixes("10.1.0.0/16"), "10.1.0.1"},
		{prefixes("10.2.0.0/16", "2001:db8::/48"), "2001:db8::2"},
		{prefixes("127.0.0.0/8", "10.2.0.0/16"), "invalid IP"},
	} {
		host.Do(func() error {
			got, err := SourceWithin(test.within)
			if err != nil || got.String() != test.want {
				return fmt.Errorf("within %v: got %v, %v, want %s", test.within, got, err, test.want)
			}
			return nil
		})
	}
}
