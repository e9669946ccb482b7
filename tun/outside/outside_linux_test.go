package outside

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMark: a socket that is dialled or listens has the mark, and none where none is asked for.
func TestMark(t *testing.T) {
	for _, mark := range []uint32{0, 0x4d4c, 0x80000001} {
		for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
			config := net.ListenConfig{Control: Way{Mark: mark, Table: 9, Tunnel: "none"}.Control}
			c, err := config.ListenPacket(t.Context(), "udp", address)
			switch {
			case errors.Is(err, unix.EPERM):
				t.Skipf("needs CAP_NET_ADMIN for a mark: %v", err)
			case errors.Is(err, unix.EADDRNOTAVAIL):
				continue // no IPv6 here
			case err != nil:
				t.Fatal(err)
			}
			defer c.Close()
			raw, err := c.(*net.UDPConn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			var got int
			var failed error
			err = raw.Control(func(fd uintptr) { got, failed = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK) })
			if err := errors.Join(err, failed); err != nil {
				t.Fatal(err)
			}
			if uint32(got) != mark {
				t.Errorf("%s: mark %#x, want %#x", address, got, mark)
			}
		}
	}
}

// TestNoWayOut: a socket is not left to the tunnel where nothing else leads out.
func TestNoWayOut(t *testing.T) {
	const inside = "MARTLET_OUTSIDE_INSIDE"
	if os.Getenv(inside) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestNoWayOut$", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		out, err := cmd.CombinedOutput()
		if errors.Is(err, syscall.EPERM) {
			t.Skipf("needs root for a network namespace: %v", err)
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	for address, v4 := range map[string]bool{"192.0.2.1:4500": true, "0.0.0.0:0": true, "[2001:db8::1]:4500": false, "[::]:0": false} {
		if o, err := (Way{}).bound(v4, address, boundIF); !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("%s: %+v, %v", address, o, err)
		}
	}
}
