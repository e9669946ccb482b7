package tun_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"martlet/test/netns"
	"martlet/tun"
)

func TestDevice(t *testing.T) {
	netns.Enter(t)
	device, err := tun.Open("martlet0", 1400, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	if limits := device.(interface{ Limits() []string }).Limits(); len(device.Queues()) != 3 || len(limits) > 0 {
		t.Errorf("%d queues, %q", len(device.Queues()), limits)
	}
	check := func(mtu int) {
		t.Helper()
		link, err := netlink.LinkByName("martlet0")
		if err != nil {
			t.Fatal(err)
		}
		if device.Name() != "martlet0" || device.MTU() != mtu || link.Attrs().MTU != mtu || device.Queues()[0].Batch() < 1 {
			t.Errorf("name %s, mtu %d, batch %d; the kernel says %d", device.Name(), device.MTU(), device.Queues()[0].Batch(), link.Attrs().MTU)
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

	_, err = tun.Open("martlet0", 1400, 1)
	if !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "choose another name") {
		t.Errorf("name taken: got %v", err)
	}
	_, err = tun.Open("a name that is much too long", 1400, 1)
	if err == nil || !strings.Contains(err.Error(), "15 characters") {
		t.Errorf("name too long: got %v", err)
	}
	counted, err := tun.Open("many%d", 1400, 1)
	if err != nil || counted.Name() != "many0" {
		t.Fatalf("numbered name: %v", err)
	}
	counted.Close()

	blocked := make(chan error)
	for _, q := range device.Queues() {
		go func() {
			_, err := q.Read(make([]tun.Frame, 1))
			blocked <- err
		}()
	}
	if err := device.Close(); err != nil {
		t.Error(err)
	}
	if err := device.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	for range device.Queues() {
		if err := <-blocked; !errors.Is(err, os.ErrClosed) {
			t.Errorf("blocked Read: got %v", err)
		}
	}
	if _, err := device.Queues()[0].TryRead(make([]tun.Frame, 1)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("TryRead after Close: got %v", err)
	}
	if err := device.SetMTU(1400); !errors.Is(err, os.ErrClosed) {
		t.Errorf("SetMTU after Close: got %v", err)
	}
	if _, err := device.Queues()[0].Write([]tun.Frame{{Pieces: [][]byte{{0x45}}}}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Write after Close: got %v", err)
	}
	if _, err := netlink.LinkByName("martlet0"); err == nil {
		t.Error("the interface is still there")
	}
}

// Without the right to it: the test binary again, as nobody.
func TestOpenWithoutRight(t *testing.T) {
	if os.Getenv("MARTLET_TUN_CHILD") != "" {
		_, err := tun.Open("martlet0", 1400, 1)
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

// What the kernel does not take is not counted.
func TestWriteRefused(t *testing.T) {
	s := newSite(t, tun.Open, 1)
	q := s.device.Queues()[0]
	ping := []byte{
		0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 10, 9, 0, 2, 10, 9, 0, 1,
		8, 0, 0xf7, 0xff, 0, 0, 0, 0,
	}
	good := tun.Frame{Pieces: [][]byte{ping[:20], nil, ping[20:]}}
	many := tun.Frame{}
	for range 2000 {
		many.Pieces = append(many.Pieces, ping)
	}
	n, err := q.Write([]tun.Frame{
		{Pieces: [][]byte{{0xff, 0, 0, 0}}},
		{},
		{Pieces: [][]byte{{}}},
		{Pieces: [][]byte{make([]byte, 70000)}},
		many,
		{Pieces: [][]byte{ping}, Offload: tun.Offload{Partial: true, Start: 20, Offset: 7}},
		{Pieces: [][]byte{ping}, Offload: tun.Offload{Partial: true, Start: -20, Offset: 2}},
		{Pieces: [][]byte{ping}, Offload: tun.Offload{GSO: tun.GSOTCPv4, Header: 40, Segment: 1000}},
		{Pieces: [][]byte{ping}, Offload: tun.Offload{GSO: 77, Header: 24, Segment: 2, Partial: true, Start: 20, Offset: 2}},
		good,
	})
	if n != 1 || err != nil {
		t.Errorf("took %d, %v", n, err)
	}
}
