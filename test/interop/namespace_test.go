package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

const nsName = "mlt"

var (
	nsPrefix = fmt.Sprintf("%s%d-", nsName, os.Getpid())
	nsCount  atomic.Int64
)

// removeLeftovers deletes the namespaces of runs that were killed.
func removeLeftovers() {
	entries, err := os.ReadDir("/run/netns")
	if err != nil {
		return // none were ever made
	}
	for _, e := range entries {
		pid, _, ok := strings.Cut(strings.TrimPrefix(e.Name(), nsName), "-")
		if _, err := strconv.Atoi(pid); !ok || err != nil || !strings.HasPrefix(e.Name(), nsName) {
			continue
		}
		if _, err := os.Stat("/proc/" + pid); os.IsNotExist(err) {
			_ = exec.Command("ip", "netns", "del", e.Name()).Run() // the next run tries again
		}
	}
}

// namespace is a network namespace: a host of its own. dir holds the files of its programs.
type namespace struct {
	t    testing.TB
	name string
	dir  string
	// resolvConf is the /etc/resolv.conf of programs of the namespace.
	resolvConf string
}

// resolvers makes text their /etc/resolv.conf. The file stays the same one, which those that run see.
func (ns *namespace) resolvers(text string) {
	ns.t.Helper()
	if err := os.WriteFile(ns.resolvConf, []byte(text), 0o644); err != nil { //nolint:gosec // as on every host
		ns.t.Fatal(err)
	}
}

func newNamespace(t testing.TB, role string) *namespace {
	t.Helper()
	ns := &namespace{t: t, name: fmt.Sprintf("%s%d%s", nsPrefix, nsCount.Add(1), role)}
	ns.dir = filepath.Join(shared.dir, ns.name)
	if err := os.Mkdir(ns.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	command(t, "ip", "netns", "add", ns.name)
	// What `ip netns exec` shows its programs as theirs, so that they leave the machine's alone.
	etc := filepath.Join("/etc/netns", ns.name)
	if err := os.MkdirAll(etc, 0o755); err != nil {
		t.Fatal(err)
	}
	ns.resolvConf = filepath.Join(etc, "resolv.conf")
	ns.resolvers("# of a namespace of tests\n")
	t.Cleanup(func() {
		if err := os.RemoveAll(etc); err != nil {
			t.Error(err)
		}
		if b, err := exec.Command("ip", "netns", "del", ns.name).CombinedOutput(); err != nil {
			t.Errorf("ip netns del: %s", b)
		}
	})
	ns.ip("link set lo up")
	return ns
}

// ip runs ip in the namespace.
func (ns *namespace) ip(args string) string {
	ns.t.Helper()
	return command(ns.t, "ip", append([]string{"-n", ns.name}, strings.Fields(args)...)...)
}

// argv is a command line that runs in the namespace.
func (ns *namespace) argv(args ...string) []string {
	return append([]string{"ip", "netns", "exec", ns.name}, args...)
}

// run runs a command in the namespace, which must succeed, and returns its output.
func (ns *namespace) run(args ...string) string {
	ns.t.Helper()
	argv := ns.argv(args...)
	return command(ns.t, argv[0], argv[1:]...)
}

// try runs a command in the namespace and tells how it ended.
func (ns *namespace) try(args ...string) (string, error) {
	argv := ns.argv(args...)
	b, err := exec.CommandContext(ns.t.Context(), argv[0], argv[1:]...).CombinedOutput()
	return string(b), err
}

// sysctl sets a value below /proc/sys.
func (ns *namespace) sysctl(name, value string) {
	ns.t.Helper()
	ns.run("sh", "-c", fmt.Sprintf("echo %s > /proc/sys/%s", value, strings.ReplaceAll(name, ".", "/")))
}

// nft loads rules.
func (ns *namespace) nft(rules string) {
	ns.t.Helper()
	ns.write("rules.nft", rules)
	ns.run("nft", "-f", filepath.Join(ns.dir, "rules.nft"))
}

// write writes a file of the namespace's programs and returns its path.
func (ns *namespace) write(name, text string) string {
	ns.t.Helper()
	path := filepath.Join(ns.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		ns.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		ns.t.Fatal(err)
	}
	return path
}

// forward makes the namespace a router.
func (ns *namespace) forward() {
	ns.t.Helper()
	ns.sysctl("net.ipv4.ip_forward", "1")
	ns.sysctl("net.ipv6.conf.all.forwarding", "1")
}

// join links two namespaces by a veth pair. Each end is a name and addresses.
func join(a *namespace, aEnd string, b *namespace, bEnd string) {
	a.t.Helper()
	fa, fb := strings.Fields(aEnd), strings.Fields(bEnd)
	command(a.t, "ip", "link", "add", "name", fa[0], "netns", a.name, "type", "veth", "peer", "name", fb[0], "netns", b.name)
	for _, e := range []struct {
		ns   *namespace
		name string
		addr []string
	}{{a, fa[0], fa[1:]}, {b, fb[0], fb[1:]}} {
		for _, addr := range e.addr {
			nodad := ""
			if strings.Contains(addr, ":") {
				nodad = " nodad"
			}
			e.ns.ip("addr add " + addr + " dev " + e.name + nodad)
		}
		e.ns.ip("link set " + e.name + " up")
	}
}

// command runs a command that must succeed.
func command(t testing.TB, name string, args ...string) string {
	t.Helper()
	b, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, b)
	}
	return string(b)
}
