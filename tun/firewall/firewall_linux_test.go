package firewall

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"martlet/test/netns"
)

func nft(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("nft", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("nft %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func needNft(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs the program nft, of the package nftables, to look at the result")
	}
}

func TestKernelHasWhatTheTextSays(t *testing.T) {
	needNft(t)
	netns.Enter(t)
	fw := New(nil)
	if err := fw.Set(gateway()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(gatewayTable, nft(t, "list", "ruleset")); diff != "" {
		t.Errorf("nft list ruleset (-want +got):\n%s", diff)
	}

	warrior := Rules{Device: "martlet0", Mark: 7, RestoreMark: true}
	if err := fw.Set(warrior); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(warrior.String(), nft(t, "list", "ruleset")); diff != "" {
		t.Errorf("after a second Set (-want +got):\n%s", diff)
	}

	renamed := Rules{Device: "martlet1", IsolateClients: true}
	if err := fw.Set(renamed); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(renamed.String(), nft(t, "list", "ruleset")); diff != "" {
		t.Errorf("after another device (-want +got):\n%s", diff)
	}

	if err := fw.Set(Rules{Device: "martlet1", ClampMSS: 1}); err == nil {
		t.Error("Set took an impossible MTU")
	}
	if diff := cmp.Diff(renamed.String(), nft(t, "list", "ruleset")); diff != "" {
		t.Errorf("after a refused Set (-want +got):\n%s", diff)
	}

	for range 2 {
		if err := fw.Clear(); err != nil {
			t.Fatal(err)
		}
		if got := nft(t, "list", "ruleset"); got != "" {
			t.Errorf("after Clear:\n%s", got)
		}
	}
}

// sockets are those of nftables that this thread's namespace has, by inode.
func sockets(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/thread-self/net/netlink")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[1] == strconv.Itoa(unix.NETLINK_NETFILTER) && f[2] != "0" { // 0 is the kernel's
			out = append(out, f[len(f)-1])
		}
	}
	return out
}

// The kernel lets nobody begin a transaction while it waits for what was deleted, which it
// does when a socket is closed.
func TestSocketStaysOpen(t *testing.T) {
	netns.Enter(t)
	fw := New(nil)
	set := func(r Rules) []string {
		t.Helper()
		if err := fw.Set(r); err != nil {
			t.Fatal(err)
		}
		return sockets(t)
	}
	first := set(gateway())
	if len(first) != 2 {
		t.Fatalf("sockets %v, want one that acts and one that watches", first)
	}
	for _, r := range []Rules{gateway(), {Device: "martlet1", IsolateClients: true}} {
		if diff := cmp.Diff(first, set(r)); diff != "" {
			t.Errorf("after another Set (-before +after):\n%s", diff)
		}
	}
	// The answers to one that failed must not be taken for those to the next.
	f := fw.(*firewall)
	f.mu.Lock()
	ended := f.watch.done
	err := f.commit("break", func(c *nftables.Conn) error {
		c.DelTable(&nftables.Table{Name: "nobody's", Family: nftables.TableFamilyINet})
		c.AddTable(&nftables.Table{Name: "never", Family: nftables.TableFamilyINet})
		return nil
	})
	f.mu.Unlock()
	<-ended
	if err == nil {
		t.Error("a table was deleted that is not there")
	}
	again := set(gateway())
	if len(again) != 2 || slices.ContainsFunc(again, func(s string) bool { return slices.Contains(first, s) }) {
		t.Errorf("after an error sockets %v, want others than %v", again, first)
	}
	if err := fw.Clear(); err != nil {
		t.Fatal(err)
	}
	if left := sockets(t); len(left) != 0 {
		t.Errorf("left open: %v", left)
	}
}

func TestTablesOfOthersStay(t *testing.T) {
	needNft(t)
	netns.Enter(t)
	nft(t, "add", "table", "inet", "filter")
	before := nft(t, "list", "ruleset")
	fw := New(nil)
	if err := fw.Set(gateway()); err != nil {
		t.Fatal(err)
	}
	if err := fw.Clear(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, nft(t, "list", "ruleset")); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

// A killed process leaves its table and no interface; a living one has both.
func TestRecover(t *testing.T) {
	needNft(t)
	netns.Enter(t)
	bridge := netlink.NewLinkAttrs()
	bridge.Name = "alive"
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: bridge}); err != nil {
		t.Skipf("the kernel makes no bridge here: %v", err)
	}
	alive := Rules{Device: "alive", IsolateClients: true}
	for _, r := range []Rules{alive, gateway()} {
		fw := New(nil)
		if err := errors.Join(fw.Set(r), fw.Leave()); err != nil { // nobody watches over it
			t.Fatal(err)
		}
	}
	if found, err := Recover("martlet0", nil); err != nil || found {
		t.Errorf("found %v, %v, beside what was to be kept", found, err)
	}
	if diff := cmp.Diff(alive.String()+gateway().String(), nft(t, "list", "ruleset")); diff != "" {
		t.Errorf("with the table that was to be kept (-want +got):\n%s", diff)
	}
	for _, want := range []bool{true, false} {
		if found, err := Recover("", nil); err != nil || found != want {
			t.Fatalf("found %v, %v; want %v", found, err, want)
		}
		if diff := cmp.Diff(alive.String(), nft(t, "list", "ruleset")); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}
