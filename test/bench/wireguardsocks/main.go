// Wireguardsocks is wireproxy's data path: WireGuard that ends in the TCP/IP stack of its own
// module, behind a SOCKS5 library. Its only argument is a file with an address to have inside,
// an MTU, and an address to serve SOCKS5 on, a line each, and behind them the configuration in
// wireguard's protocol.
//
// The harness builds it with the dependencies that wireguard's module names, so it imports
// nothing of ours.
package main

import (
	"fmt"
	"io"
	"log"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/armon/go-socks5"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/netstack"
)

func main() {
	if len(os.Args) != 2 {
		fail(fmt.Errorf("usage: %s FILE", os.Args[0]))
	}
	fail(serve(os.Args[1]))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "wireguardsocks:", err)
	os.Exit(1)
}

// serve returns only if something fails.
func serve(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	lines := strings.SplitN(string(text), "\n", 4)
	if len(lines) < 4 {
		return fmt.Errorf("%s lacks lines", file)
	}
	inner, err := netip.ParseAddr(lines[0])
	if err != nil {
		return err
	}
	mtu, err := strconv.Atoi(lines[1])
	if err != nil {
		return err
	}
	tun, stack, err := netstack.CreateNetTUN([]netip.Addr{inner}, nil, mtu)
	if err != nil {
		return err
	}
	dev := device.NewDevice(tun, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, ""))
	if err := dev.IpcSet(lines[3]); err != nil {
		return err
	}
	if err := dev.Up(); err != nil {
		return err
	}
	// The library logs every connection that ends early.
	server, err := socks5.New(&socks5.Config{Dial: stack.DialContext, Logger: log.New(io.Discard, "", 0)})
	if err != nil {
		return err
	}
	return server.ListenAndServe("tcp", lines[2])
}
