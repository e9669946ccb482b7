package firewall

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
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
	enterNamespace(t)
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

func TestTablesOfOthersStay(t *testing.T) {
	needNft(t)
	enterNamespace(t)
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
	enterNamespace(t)
	bridge := netlink.NewLinkAttrs()
	bridge.Name = "alive"
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: bridge}); err != nil {
		t.Skipf("the kernel makes no bridge here: %v", err)
	}
	alive := Rules{Device: "alive", IsolateClients: true}
	for _, r := range []Rules{alive, gateway()} {
		if err := New(nil).Set(r); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := Recover(nil); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(alive.String(), nft(t, "list", "ruleset")); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}
