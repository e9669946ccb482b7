package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// worker is the process that speaks to the network: the only child of the one that was started, or that
// one itself where there is none.
func (p *process) worker() int {
	p.t.Helper()
	pid := p.cmd.Process.Pid
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, name := range tasks {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // the thread is gone
		}
		if child, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			return child
		}
	}
	return pid
}

// killWorker kills the process that speaks to the network.
func (m *node) killWorker() {
	m.ns.t.Helper()
	pid := m.proc.worker()
	if pid == m.proc.cmd.Process.Pid {
		m.ns.t.Fatal("nobody but the process that was started does the work")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		m.ns.t.Fatal(err)
	}
}

// died waits for the end after that, which is a failure that systemd answers by a new start.
func (m *node) died() {
	m.ns.t.Helper()
	if status := m.proc.wait(); status != 1 || !strings.Contains(m.proc.out.String(), "the process that speaks to the network died: signal: killed") {
		m.ns.t.Errorf("it ended with %d:\n%s", status, tail(m.proc.out.String(), 10))
	}
}

// TestPrivilegesDropped: what speaks to the network as nobody, without any right, does all that the
// whole program does; whichever of the two processes is killed, the host is as it was.
func TestPrivilegesDropped(t *testing.T) {
	start(t)
	r := newRoads(t)
	r.enter(homeAddr)
	r.warrior.resolvers("nameserver " + homeRouter + "\n")
	g := r.swanGateway("mobike = yes")
	r.warrior.write("psk", secret+"\n")
	m := r.warriorNode("")
	text := strings.Replace(readFile(t, m.config), fmt.Sprintf("secret = %q", secret), `secret = "file:psk"`, 1) + fmt.Sprintf("[dns]\ntunnel_servers = [%q]\n", inB4)
	text = strings.Replace(text, "[node]", "[node]\nuser = \"nobody\"", 1)
	m.config = r.warrior.write("martlet.toml", text)
	m.up("office")
	v4, _ := virtual(m.awaitUp(1))

	status := readFile(t, fmt.Sprintf("/proc/%d/status", m.proc.worker()))
	for _, want := range []string{
		`Uid:\t65534\t65534\t65534\t65534\n`, `Groups:\t *\n`, `NoNewPrivs:\t1\n`,
		`CapInh:\t0+\n`, `CapPrm:\t0+\n`, `CapEff:\t0+\n`, `CapBnd:\t0+\n`, `CapAmb:\t0+\n`,
	} {
		if !regexp.MustCompile(want).MatchString(status) {
			t.Errorf("the status of what speaks to the network is not %q:\n%s", want, status)
		}
	}
	m.proc.says("runs as nobody without capabilities")
	if s := m.status(); s.PID != m.proc.cmd.Process.Pid {
		t.Errorf("martlet status names process %d, and %d is the one to signal", s.PID, m.proc.cmd.Process.Pid)
	}

	r.warrior.ping(v4, inB4)
	asks := func() string { return r.warrior.run("cat", "/etc/resolv.conf") }
	until(t, "names are asked inside", func() bool { return strings.Contains(asks(), inB4) })
	r.enter(awayAddr)
	until(t, "the gateway knows where the warrior is", func() bool { return strings.Contains(g.sas(), awayAddr) })
	r.warrior.ping(v4, inB4)

	// Files that only root reads, one of which no start has seen.
	r.warrior.write("more/psk", "another secret of sixteen and more\n")
	r.warrior.write("martlet.toml", text+fmt.Sprintf("[connection.other]\nremote = [%q]\n[connection.other.local]\nauth = \"psk\"\nid = \"x.test\"\nsecret = \"file:more/psk\"\n[connection.other.peer]\nauth = \"psk\"\nid = \"y.test\"\n", officeAddr))
	if out, err := m.martlet(control(m, "reload")...); err != nil {
		t.Errorf("martlet reload: %v\n%s", err, out)
	}
	if list := m.status().Connections; strings.Join(list, " ") != "office other" {
		t.Errorf("connections are %q", list)
	}
	if err := m.proc.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until(t, "it has read its file again", func() bool { return strings.Count(m.proc.out.String(), "reloaded") >= 2 })

	m.killWorker()
	m.died()
	m.undone()
	if got := asks(); got != "nameserver "+homeRouter+"\n" {
		t.Errorf("the host's resolvers are not its own again:\n%s", got)
	}
	if _, err := os.Lstat(r.warrior.dir + "/control.sock"); err == nil {
		t.Error("the control socket is still there")
	}

	m.up("office")
	m.awaitUp(1)
	until(t, "names are asked inside", func() bool { return strings.Contains(asks(), inB4) })
	m.proc.stop(syscall.SIGKILL) // and what has its output is gone too
	m.up("office")
	v4, _ = virtual(m.awaitUp(1))
	r.warrior.ping(v4, inB4)
	until(t, "names are asked inside", func() bool { return strings.Contains(asks(), inB4) })
	m.end()
	if got := asks(); got != "nameserver "+homeRouter+"\n" {
		t.Errorf("the host's resolvers are not its own again after a crash and an end:\n%s", got)
	}

	if out, err := m.martlet("up", "-c", m.config, "--background", "--log", r.warrior.dir+"/up.log", "office"); err != nil {
		t.Fatalf("in the background: %v\n%s", err, out)
	}
	v4, _ = virtual(m.status())
	r.warrior.ping(v4, inB4)
	if out, err := m.martlet(control(m, "down")...); err != nil {
		t.Errorf("martlet down: %v\n%s", err, out)
	}
	m.undone()
}

// TestDeathLeavesKillSwitch: a kill switch outlives the process that speaks to the network.
func TestDeathLeavesKillSwitch(t *testing.T) {
	start(t)
	h := newClosedHost(t)
	h.swanGateway("")
	h.node = h.closedNode(secret)
	h.node.config = h.warrior.write("martlet.toml", strings.Replace(readFile(t, h.node.config), "0.0.0.0/0", netB4, 1))
	h.node.up("office")
	v4, _ := virtual(h.node.awaitUp(1))
	h.warrior.ping(v4, inB4)
	leaks := h.watch()
	own := sing(h.warrior, canaryTargets())
	h.node.killWorker()
	h.node.died()
	own.heard(t, "when who speaks to the network is dead")
	if !h.isClosed() || !strings.Contains(h.node.proc.out.String(), "the kill switch stays in force") {
		t.Errorf("the host is open, or nobody is told:\n%s", tail(h.node.proc.out.String(), 10))
	}
	h.closed()
	own.silence()
	leaks.clean(t)
	if out, err := h.node.martlet("down", "-c", h.node.config); err != nil || !strings.Contains(out, "kill switch") {
		t.Errorf("martlet down: %v\n%s", err, out)
	}
	h.open()
}
