package interop

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const charon = "/usr/lib/ipsec/charon"

// shared is what all tests use: the program under test, and certificates.
var shared struct {
	skip    string // why nothing here can run
	dir     string
	martlet string
	pki     *identities
}

func TestMain(m *testing.M) {
	confine()
	status, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		status = 1
	}
	os.Exit(status)
}

func run(m *testing.M) (status int, err error) {
	shared.skip = missing()
	if shared.skip != "" {
		return m.Run(), nil
	}
	removeLeftovers()
	dir, err := os.MkdirTemp("", "interop")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	shared.dir = dir
	if shared.pki, err = issueIdentities(filepath.Join(dir, "pki")); err != nil {
		return 1, err
	}
	shared.martlet = filepath.Join(dir, "martlet")
	if err := buildMartlet(shared.martlet, raceEnabled); err != nil {
		return 1, err
	}
	// They wait more than they compute: as many run at once as there are slots, on any machine.
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(cap(slots))); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// missing tells what these tests lack on this machine, or "".
func missing() string {
	if os.Getuid() != 0 {
		return "needs root: it makes network namespaces"
	}
	if _, err := os.Stat(charon); err != nil {
		return "needs strongSwan (Debian: strongswan-charon)"
	}
	for tool, pkg := range map[string]string{
		"ip": "iproute2", "nft": "nftables", "tcpdump": "tcpdump", "iperf3": "iperf3", "ping": "iputils-ping",
		"tshark": "tshark", "swanctl": "strongswan-swanctl", "unshare": "util-linux",
	} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Sprintf("needs %s (Debian: %s)", tool, pkg)
		}
	}
	if _, err := os.Stat("/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so"); err != nil {
		return "needs strongSwan's kernel-libipsec (Debian: libcharon-extra-plugins)"
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return "needs /dev/net/tun"
	}
	probe := nsPrefix + "probe"
	if b, err := exec.Command("ip", "netns", "add", probe).CombinedOutput(); err != nil {
		return fmt.Sprintf("cannot make network namespaces here: %s", strings.TrimSpace(string(b)))
	}
	if b, err := exec.Command("ip", "netns", "del", probe).CombinedOutput(); err != nil {
		return fmt.Sprintf("cannot remove network namespaces here: %s", strings.TrimSpace(string(b)))
	}
	return ""
}

// buildMartlet builds the program, with the race detector or as it is released but for the
// profile, with which all packages would be compiled anew.
func buildMartlet(to string, race bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	how, env := "-pgo=off", "CGO_ENABLED=0"
	if race {
		how, env = "-race", "CGO_ENABLED=1"
	}
	args := []string{"build", how, "-o", to, "martlet/cmd/martlet"}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), env)
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, b)
	}
	return nil
}

// slots bounds how many tests have their networks at once.
var slots = make(chan struct{}, 8)

// start skips a test that cannot run here, and lets others run beside it.
func start(t *testing.T) {
	t.Helper()
	if shared.skip != "" {
		t.Skip(shared.skip)
	}
	t.Parallel()
	slots <- struct{}{}
	t.Cleanup(func() { <-slots })
}
