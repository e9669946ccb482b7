package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The addresses of the two hosts on their wire, and those inside the tunnel.
const (
	outerA, outerB = "10.99.1.1", "10.99.1.2"
	innerA, innerB = "10.98.1.1", "10.98.2.1"
)

const nsName = "mltb"

// network is two hosts, A and B, each a namespace, and what lies between them: a wire, or
// other hosts. All that runs in it ends with it.
type network struct {
	bench *bench
	dir   string
	state string // for what Martlet keeps in /run, which is memory on most hosts, but not in every container
	hosts []*host
	a, b  *host
	procs []*process
}

// host is a network namespace.
type host struct {
	net  *network
	name string
}

// newNetwork is A and B on one wire.
func (b *bench) newNetwork(ctx context.Context) (*network, error) {
	n, err := b.newHosts(ctx)
	if err != nil {
		return nil, err
	}
	if err := join(ctx, n.a, "eth0 "+outerA+"/24", n.b, "eth0 "+outerB+"/24"); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// newHosts is A, B and more hosts, each alone. What a host is called ends its namespace's name.
func (b *bench) newHosts(ctx context.Context, more ...string) (n *network, err error) {
	b.count++
	name := fmt.Sprintf("%s%d-%d", nsName, os.Getpid(), b.count)
	n = &network{bench: b, dir: filepath.Join(b.dir, name), state: filepath.Join("/dev/shm", name)}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	for _, dir := range []string{n.dir, n.state} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
	}
	for _, letter := range append([]string{"a", "b"}, more...) {
		h := &host{n, name + letter}
		n.hosts = append(n.hosts, h)
		if err := ip(ctx, "netns add "+h.name); err != nil {
			return nil, err
		}
		if err := h.ip(ctx, "link set lo up"); err != nil {
			return nil, err
		}
	}
	n.a, n.b = n.hosts[0], n.hosts[1]
	return n, nil
}

// join lays a wire between two hosts. An end is the name of its interface and an address.
func join(ctx context.Context, a *host, aEnd string, b *host, bEnd string) error {
	aName, aAddr, _ := strings.Cut(aEnd, " ")
	bName, bAddr, _ := strings.Cut(bEnd, " ")
	if err := ip(ctx, "link add name "+aName+" netns "+a.name+" type veth peer name "+bName+" netns "+b.name); err != nil {
		return err
	}
	for _, args := range []string{
		"-n " + a.name + " addr add " + aAddr + " dev " + aName,
		"-n " + b.name + " addr add " + bAddr + " dev " + bName,
		"-n " + a.name + " link set " + aName + " up",
		"-n " + b.name + " link set " + bName + " up",
	} {
		if err := ip(ctx, args); err != nil {
			return err
		}
	}
	return nil
}

// close ends what runs in the network, the last first, and removes it.
func (n *network) close() {
	for i := len(n.procs) - 1; i >= 0; i-- {
		n.procs[i].stop()
	}
	for _, h := range n.hosts {
		if _, err := os.Stat("/run/netns/" + h.name); err == nil {
			if b, err := exec.Command("ip", "netns", "del", h.name).CombinedOutput(); err != nil {
				progress("%s is left behind: %s", h.name, b)
			}
		}
	}
	for _, dir := range []string{n.dir, n.state} {
		if err := os.RemoveAll(dir); err != nil {
			progress("%v", err)
		}
	}
}

// blame adds to an error what the programs said last.
func (n *network) blame(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	said := ""
	for _, p := range n.procs {
		if out := strings.TrimSpace(p.out.String()); out != "" {
			said += "\n" + p.name + " said:\n" + tail(out, 5)
		}
	}
	return fmt.Errorf("%w%s", err, said)
}

// start runs a program in the host until the network closes.
func (h *host) start(name string, env []string, args ...string) (*process, error) {
	// ip becomes the program: the process is the program's.
	p, err := spawn(name, env, append([]string{"ip", "netns", "exec", h.name}, args...)...)
	if err == nil {
		h.net.procs = append(h.net.procs, p)
	}
	return p, err
}

// child runs a part of the harness in the host.
func (h *host) child(name string, args ...string) (*process, error) {
	return h.start(name, nil, append([]string{h.net.bench.self, childWord, name}, args...)...)
}

// run runs a program in the host to its end.
func (h *host) run(ctx context.Context, limit time.Duration, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return command(ctx, append([]string{"ip", "netns", "exec", h.name}, args...)...)
}

// ip runs ip for the host.
func (h *host) ip(ctx context.Context, args string) error { return ip(ctx, "-n "+h.name+" "+args) }

func ip(ctx context.Context, args string) error {
	_, err := command(ctx, append([]string{"ip"}, strings.Fields(args)...)...)
	return err
}

// write writes a file for the programs of the network and returns its path.
func (n *network) write(name, text string) (string, error) {
	path := filepath.Join(n.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// removeLeftovers deletes the namespaces of runs that were killed.
func removeLeftovers() {
	entries, err := os.ReadDir("/run/netns")
	if err != nil {
		return // none were ever made
	}
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), nsName)
		pid, _, ok := strings.Cut(rest, "-")
		if _, err := strconv.Atoi(pid); !ours || !ok || err != nil {
			continue
		}
		if _, err := os.Stat("/proc/" + pid); os.IsNotExist(err) {
			_ = exec.Command("ip", "netns", "del", e.Name()).Run() // the next run tries again
		}
	}
}
