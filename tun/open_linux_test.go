package tun_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"martlet/tun"
	"martlet/tun/netstack"
)

// enterNamespace moves the test's goroutine into a network namespace of its own,
// which ends with it.
func enterNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread dies with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("needs root for a network namespace: %v", err)
	}
}

func TestDevice(t *testing.T) {
	enterNamespace(t)
	device, err := tun.Open("martlet0", 1400)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	check := func(mtu int) {
		t.Helper()
		link, err := netlink.LinkByName("martlet0")
		if err != nil {
			t.Fatal(err)
		}
		if device.Name() != "martlet0" || device.MTU() != mtu || link.Attrs().MTU != mtu || device.Batch() < 1 {
			t.Errorf("name %s, mtu %d, batch %d; the kernel says %d", device.Name(), device.MTU(), device.Batch(), link.Attrs().MTU)
		}
	}
	check(1400)
	if err := device.SetMTU(1300); err != nil {
		t.Error(err)
	}
	check(1300)
	if err := device.SetMTU(100); err == nil {
		t.Error("took an MTU of 100")
	}
	check(1300)

	_, err = tun.Open("martlet0", 1400)
	if !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "choose another name") {
		t.Errorf("name taken: got %v", err)
	}
	_, err = tun.Open("a name that is much too long", 1400)
	if err == nil || !strings.Contains(err.Error(), "15 characters") {
		t.Errorf("name too long: got %v", err)
	}
	counted, err := tun.Open("many%d", 1400)
	if err != nil || counted.Name() != "many0" {
		t.Fatalf("numbered name: %v", err)
	}
	counted.Close()

	blocked := make(chan error)
	go func() {
		_, err := device.Read(make([]tun.Frame, 1))
		blocked <- err
	}()
	if err := device.Close(); err != nil {
		t.Error(err)
	}
	if err := device.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := <-blocked; !errors.Is(err, os.ErrClosed) {
		t.Errorf("blocked Read: got %v", err)
	}
	if _, err := device.Write([]tun.Frame{{Pieces: [][]byte{{0x45}}}}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Write after Close: got %v", err)
	}
	if _, err := netlink.LinkByName("martlet0"); err == nil {
		t.Error("the interface is still there")
	}
}

// Without the right to it: the test binary again, as nobody.
func TestOpenWithoutRight(t *testing.T) {
	if os.Getenv("MARTLET_TUN_CHILD") != "" {
		_, err := tun.Open("martlet0", 1400)
		fmt.Print(err)
		return
	}
	if os.Getuid() != 0 {
		t.Skip("needs root to become nobody")
	}
	binary, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "martlet-tun-") //nolint:usetesting // the folder of t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	program := dir + "/program"
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(program, binary, 0o755)); err != nil { //nolint:gosec // another user shall run it
		t.Fatal(err)
	}
	child := exec.Command(program, "-test.run=^TestOpenWithoutRight$")
	child.Dir = "/"
	child.Env = append(os.Environ(), "MARTLET_TUN_CHILD=1")
	child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := child.CombinedOutput()
	if err != nil {
		t.Skipf("cannot run a program as nobody: %v\n%s", err, out)
	}
	if !strings.Contains(string(out), "CAP_NET_ADMIN") || !strings.Contains(string(out), "run as root") {
		t.Errorf("got %s", out)
	}
}

// The kernel's TCP over the device to one of our stacks: super-packets are cut on
// the way out and joined on the way in.
func TestTraffic(t *testing.T) {
	enterNamespace(t)
	device, err := tun.Open("martlet0", 1400)
	if err != nil {
		t.Fatal(err)
	}
	link, err := netlink.LinkByName("martlet0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	// What the kernel does not take is not counted.
	n, err := device.Write([]tun.Frame{{Pieces: [][]byte{{0xff, 0, 0, 0}}}, {}, {Pieces: [][]byte{make([]byte, 70000)}}})
	if n != 0 || err != nil {
		t.Errorf("rubbish: took %d, %v", n, err)
	}
	stack, err := netstack.New(1400)
	if err != nil {
		t.Fatal(err)
	}
	var pumps sync.WaitGroup
	pump := func(from, to tun.Device) {
		frames := make([]tun.Frame, from.Batch())
		for {
			n, err := from.Read(frames)
			if err != nil {
				return
			}
			to.Write(frames[:n])
		}
	}
	pumps.Go(func() { pump(device, stack) })
	pumps.Go(func() { pump(stack, device) })
	defer pumps.Wait()
	defer device.Close()
	defer stack.Close()

	for _, pair := range [][2]string{{"10.9.0.2/24", "10.9.0.1"}, {"fd00:9::2/64", "fd00:9::1"}} {
		own, err := netlink.ParseAddr(pair[0])
		if err != nil {
			t.Fatal(err)
		}
		own.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, own); err != nil {
			t.Fatal(err)
		}
		remote := netip.MustParseAddr(pair[1])
		if err := stack.AddAddress(remote); err != nil {
			t.Fatal(err)
		}
		l, err := stack.ListenTCP(netip.AddrPortFrom(remote, 80))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				io.Copy(c, c)
				c.Close()
			}
		}()

		c, err := net.Dial("tcp", netip.AddrPortFrom(remote, 80).String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		const size = 16 << 20
		go func() {
			io.Copy(c, io.LimitReader(rand.NewChaCha8([32]byte{1}), size))
			c.(*net.TCPConn).CloseWrite()
		}()
		want := rand.NewChaCha8([32]byte{1})
		total, a, b := 0, make([]byte, 64<<10), make([]byte, 64<<10)
		for {
			n, err := c.Read(a)
			want.Read(b[:n])
			if string(a[:n]) != string(b[:n]) {
				t.Fatalf("%s: the octets from %d on are not those sent", remote, total)
			}
			total += n
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if total != size {
			t.Errorf("%s: got %d octets of %d", remote, total, size)
		}
	}
}
