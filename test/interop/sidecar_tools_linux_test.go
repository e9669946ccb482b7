package interop

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// as is the namespace for a test below that of its own.
func (ns *namespace) as(t testing.TB) *namespace { return &namespace{t: t, name: ns.name, dir: ns.dir} }

// curl is its command line for a page that must come.
func curl(args ...string) []string {
	return append([]string{"curl", "-q", "-sS", "--fail", "--max-time", "50"}, args...)
}

// page fetches a page in the namespace, and fails the test unless the host that has it says for which of
// its addresses it is.
func (ns *namespace) page(t *testing.T, client string, args ...string) {
	t.Helper()
	out, err := ns.try(args...)
	if err != nil || !strings.Contains(out, " for "+client) {
		t.Errorf("%v: %v\n%swant a page for %s", args, err, out, client)
	}
}

// client is how a page shows an address of the pod inside, by the family of what was asked for.
func (s *sidecar) client(t *testing.T, four bool) string {
	t.Helper()
	v4, v6 := s.virtual(t)
	if four {
		return v4 + ":"
	}
	return "[" + v6 + "]:"
}

// insideNames are names with an address of one family, by whether it is IPv4.
var insideNames = map[bool]string{true: "four.inside.test", false: "six.inside.test"}

// insideHosts are addresses as URLs have them.
var insideHosts = map[bool]string{true: insideAddr4, false: "[" + insideAddr6 + "]"}

func (s *sidecar) socksNames(t *testing.T) {
	for four, name := range insideNames {
		s.pod.page(t, s.client(t, four), curl("-x", "socks5h://"+socks, "http://"+name+"/")...)
	}
	s.pod.page(t, "", curl("-x", "socks5h://"+socks, "http://"+insideName+"/")...)
	// The names of both, for applications that are told by the environment.
	s.pod.page(t, s.client(t, true), append([]string{"env", "ALL_PROXY=socks5h://" + socks}, curl("http://four.inside.test/")...)...)
	if out, err := s.pod.try(curl("-x", "socks5h://"+socks, "http://nobody.inside.test/")...); err == nil {
		t.Errorf("a name that nobody has leads to:\n%s", out)
	}
}

func (s *sidecar) socksAddresses(t *testing.T) {
	for four, host := range insideHosts {
		s.pod.page(t, s.client(t, four), curl("-x", "socks5://"+socks, "http://"+host+"/")...)
		s.pod.page(t, s.client(t, four), curl("-x", "socks5h://"+socks, "http://"+host+"/")...)
	}
}

// socksRelayedNames: curl resolves by itself, and asks the relay since resolv.conf names that.
func (s *sidecar) socksRelayedNames(t *testing.T) {
	conf := s.pod.write("relay.conf", "nameserver 127.0.0.1\n")
	for four, name := range insideNames {
		s.pod.page(t, s.client(t, four), append([]string{
			"unshare", "-m", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, conf,
		}, curl("-x", "socks5://"+socks, "http://"+name+"/")...)...)
	}
}

func (s *sidecar) httpGet(t *testing.T) {
	for _, hosts := range []map[bool]string{insideNames, insideHosts} {
		for four, host := range hosts {
			s.pod.page(t, s.client(t, four), append([]string{"env", "http_proxy=http://" + socks}, curl("http://"+host+"/")...)...)
		}
	}
}

func (s *sidecar) httpConnect(t *testing.T) {
	for _, hosts := range []map[bool]string{insideNames, insideHosts} {
		for four, host := range hosts {
			s.pod.page(t, s.client(t, four), curl("--proxytunnel", "-x", "http://"+socks, "http://"+host+"/")...)
		}
	}
}

func (s *sidecar) dig(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		for kind, want := range map[string]string{"A": insideAddr4, "AAAA": insideAddr6} {
			args := []string{"dig", "@127.0.0.1", "+short", "+tries=3", "+time=10", insideName, kind}
			if network == "tcp" {
				args = append(args, "+tcp")
			}
			if out, err := s.pod.try(args...); err != nil || strings.TrimSpace(out) != want {
				t.Errorf("%v: %v %q, want %s", args, err, out, want)
			}
		}
	}
	if out, err := s.pod.try("dig", "@127.0.0.1", "+tries=3", "+time=10", "nobody.inside.test", "A"); err != nil || !strings.Contains(out, "status: NXDOMAIN") {
		t.Errorf("a name that nobody has: %v\n%s", err, out)
	}
	if s.intranet.names.times(insideName, "udp") == 0 {
		t.Error("the resolver inside was not asked")
	}
}

func (s *sidecar) socksUDP(t *testing.T) {
	a := s.pod.as(t).associate(socks)
	defer a.close()
	for _, server := range []string{insideAddr4, insideAddr6} {
		for kind, want := range map[dnsmessage.Type]string{dnsmessage.TypeA: insideAddr4, dnsmessage.TypeAAAA: insideAddr6} {
			to := &net.UDPAddr{IP: net.ParseIP(server), Port: 53}
			if got := addresses(t, a.ask(to, query(t, insideName, kind))); got != want {
				t.Errorf("%s says that %v of %s is %s, want %s", server, kind, insideName, got, want)
			}
		}
	}
	if got := string(a.ask(hostPort{insideName, 7}, []byte("by name"))); got != "echo by name" {
		t.Errorf("the echo is %q", got)
	}
}

func (s *sidecar) localForwards(t *testing.T) {
	s.pod.page(t, "", curl("http://127.0.0.1:8080/")...)
	s.pod.page(t, s.client(t, false), curl("http://127.0.0.1:8086/")...)
	s.pod.as(t).echoes("127.0.0.1:8007")
}

func (s *sidecar) remoteForwards(t *testing.T) {
	v4, v6 := s.virtual(t)
	for _, addr := range []string{v4, v6} {
		s.host.page(t, "127.0.0.1:", curl("http://"+net.JoinHostPort(addr, "2280")+"/")...)
		s.host.as(t).echoes(net.JoinHostPort(addr, "2207"))
	}
}

// echoes sends a datagram from the namespace until it comes back.
func (ns *namespace) echoes(to string) {
	ns.t.Helper()
	var c net.Conn
	err := ns.inside(func() (err error) {
		c, err = net.Dial("udp", to)
		return err
	})
	if err != nil {
		ns.t.Fatal(err)
	}
	defer c.Close()
	var got []byte
	until(ns.t, "an echo from "+to, func() bool {
		got, err = exchange(c, []byte("hello"))
		return err == nil
	})
	if string(got) != "echo hello" {
		ns.t.Errorf("%s sends %q", to, got)
	}
}

// ssh: its ProxyCommand speaks to the running martlet by the control socket, which the pod's containers
// can share.
func (s *sidecar) ssh(t *testing.T) {
	socket := fmt.Sprintf("/proc/%d/root/run/martlet/control.sock", s.martlet.main.cmd.Process.Pid)
	for four, name := range insideNames {
		out, err := s.pod.try("ssh", "-F", "none", "-i", s.sshKey, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
			"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
			"-o", "ProxyCommand="+s.martlet.cell.Root+"/martlet nc --control "+socket+" %h:%p",
			"root@"+name, "echo $SSH_CONNECTION; seq 1 20000 | tail -n 1")
		if from, _, _ := strings.Cut(strings.Trim(s.client(t, four), "[]:"), "]"); err != nil || !strings.HasPrefix(out, from+" ") || !strings.HasSuffix(out, "\n20000\n") {
			t.Errorf("ssh to %s: %v\n%swant a connection from %s", name, err, out, from)
		}
	}
}

func (s *sidecar) ping(t *testing.T) {
	for _, host := range []string{insideAddr4, insideAddr6, insideName} {
		if status, out := s.martlet.exec("/martlet", "ping", "-n", "1", host); status != 0 || !strings.Contains(out, " answered in ") {
			t.Errorf("martlet ping %s: %d\n%s", host, status, out)
		}
	}
}

// downloads: all come at once, since the server waits for the last before it answers any.
func (s *sidecar) downloads(t *testing.T) {
	idle, open := s.martlet.memory(t, "VmRSS"), s.served(t)
	out, err := s.pod.try(append(curl("-Z", "--parallel-immediate", "--parallel-max", strconv.Itoa(parallel), "-x", "socks5h://"+socks,
		"-o", "/dev/null", "-w", "%{http_code} %{size_download}\n"), fmt.Sprintf("http://four.inside.test/crowd?[1-%d]", parallel))...)
	busy, most := s.martlet.memory(t, "VmRSS"), s.martlet.memory(t, "VmHWM")
	if got := strings.Count(out, fmt.Sprintf("200 %d\n", each)); err != nil || got != parallel {
		t.Errorf("%d of %d downloads came: %v\n%s", got, parallel, err, tail(out, 5))
	}
	t.Logf("resident: %d KiB idle, %d KiB after %d downloads at once, %d KiB at most", idle, busy, parallel, most)
	if most > residentCeiling {
		t.Errorf("%d KiB were resident, want at most %d", most, residentCeiling)
	}
	// What is half closed when the gateway dies would wait for TCP to ask again.
	until(t, "the connections of the downloads are gone", func() bool { return s.served(t) <= open })
}

// served is how many connections the host behind the gateway has.
func (s *sidecar) served(t *testing.T) int {
	t.Helper()
	out, err := s.host.try("ss", "-Hnt", "state", "connected", "exclude", "time-wait")
	if err != nil {
		t.Fatalf("ss: %v\n%s", err, out)
	}
	return strings.Count(out, "\n")
}

// memory is a figure of the memory of the container's program, as /proc names it, in KiB.
func (c *container) memory(t *testing.T, name string) int {
	t.Helper()
	return memoryOf(t, c.main.cmd.Process.Pid, name)
}
