package interop

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// loaded is a road warrior and a gateway of ours with a tunnel between them, and what they had
// dropped before there was load.
type loaded struct {
	*roads
	client, gateway *node
	v4              string
}

func newLoaded(t *testing.T) *loaded {
	t.Helper()
	l := &loaded{roads: newRoads(t)}
	l.open(l.warriorNode(""))
	return l
}

// open has a client bring the tunnel up.
func (l *loaded) open(client *node) {
	l.enter(homeAddr)
	l.gateway = l.gatewayNode("", netB4)
	l.gateway.serve()
	l.client = client
	l.client.up("office")
	l.v4, _ = virtual(l.client.awaitUp(1))
	l.warrior.ping(l.v4, inB4)
}

// busy fills the tunnel in both directions for some seconds.
func (l *loaded) busy(seconds int, more ...string) *process {
	s := l.roads.gateway.spawn("iperf3", nil, "iperf3", "-s", "-1", "-B", inB4, "--forceflush")
	s.says("Server listening")
	p := l.warrior.spawn("iperf3", nil, append([]string{"iperf3", "-c", inB4, "-B", l.v4, "-t", strconv.Itoa(seconds), "--forceflush"}, more...)...)
	p.says("connected to")
	return p
}

// unasked is far more packets than a host sends by itself while a test runs, and far fewer than a
// tunnel that is full of TCP loses at once.
const unasked = 20

// lossless fails the test if either end dropped a packet for a reason that has to do with SAs.
// Overflowing queues of the machine are none.
func (l *loaded) lossless(t *testing.T) {
	t.Helper()
	for name, n := range map[string]*node{"client": l.client, "gateway": l.gateway} {
		for reason, count := range n.now().Drops {
			switch reason {
			case "esp-no-sa", "esp-no-policy", "esp-replay", "esp-too-old", "esp-bad-icv", "esp-bad-padding", "esp-bad-inner",
				"esp-selector", "esp-exhausted", "esp-too-big", "esp-socket", "esp-device", "esp-panic":
				// A host sends what nobody asked for, to its own link: no policy takes it.
				if reason != "esp-no-policy" || count > unasked {
					t.Errorf("%s: %d packets dropped: %s", name, count, reason)
				}
			}
		}
	}
}

// TestRekeyUnderLoad: both SAs are rekeyed again and again while TCP fills the tunnel both ways, and
// not a packet is lost by it.
func TestRekeyUnderLoad(t *testing.T) {
	start(t)
	l := newLoaded(t)
	p := l.busy(8, "--bidir")
	seen := map[string]bool{}
	for i := range 6 {
		m := []*node{l.client, l.gateway}[i%2]
		name := m.now().SAs[0].Connection
		if out, err := m.martlet(control(m, "rekey", name, "net")...); err != nil {
			t.Fatalf("rekey of the child: %v\n%s", err, out)
		}
		if out, err := m.martlet(control(m, "rekey", name)...); err != nil {
			t.Fatalf("rekey of the IKE SA: %v\n%s", err, out)
		}
		until(t, "both SAs are new", func() bool {
			s := l.client.now()
			if len(s.SAs) != 1 || len(s.SAs[0].Children) != 1 || seen[s.SAs[0].SPIi] || seen[s.SAs[0].Children[0].SPIIn] {
				return false
			}
			seen[s.SAs[0].SPIi], seen[s.SAs[0].Children[0].SPIIn] = true, true
			return true
		})
	}
	if status := p.wait(); status != 0 {
		t.Errorf("iperf3 ended with %d:\n%s", status, tail(p.out.String(), 10))
	}
	l.lossless(t)
	l.client.end()
	l.gateway.end()
}

// TestRoamUnderLoad: the client goes to another network while TCP fills the tunnel both ways. The
// network before stays until the new one is used, so that nothing need be lost.
func TestRoamUnderLoad(t *testing.T) {
	start(t)
	l := newLoaded(t)
	before := l.client.now()
	p := l.busy(8, "--bidir")
	old := fmt.Sprintf("eth%d", l.links)
	for _, addr := range []string{awayAddr, homeAddr} {
		router := addr[:strings.LastIndex(addr, ".")] + ".1"
		l.links++
		join(l.warrior, fmt.Sprintf("eth%d %s/24", l.links, addr), l.router, fmt.Sprintf("road%d %s/24", l.links, router))
		l.warrior.ip("route replace default via " + router)
		until(t, "the tunnel goes from "+addr, func() bool {
			s := l.gateway.now()
			return len(s.SAs) == 1 && s.SAs[0].RemoteAddr.Addr().String() == addr
		})
		l.warrior.ip("link del " + old) // nothing is on its way to it any more
		old = fmt.Sprintf("eth%d", l.links)
	}
	if status := p.wait(); status != 0 {
		t.Errorf("iperf3 ended with %d:\n%s", status, tail(p.out.String(), 10))
	}
	if after := l.client.now(); !sameSA(before, after) {
		t.Errorf("the SA is another one: %+v", after.SAs)
	}
	l.lossless(t)
	l.client.end()
	l.gateway.end()
}

// TestOverload: ten seconds of datagrams as fast as the machine makes them. Memory stays as it is,
// and liveness checks and rekeying get through.
func TestOverload(t *testing.T) {
	start(t)
	l := newLoaded(t)
	before := l.client.now()
	p := l.busy(10, "-u", "-b", "0", "-l", "1200")
	p.says("]   2.")
	early := [2]int{l.client.resident(t), l.gateway.resident(t)}
	for _, what := range [][]string{{"rekey", "office", "net"}, {"rekey", "office"}} {
		if out, err := l.client.martlet(control(l.client, what...)...); err != nil {
			t.Errorf("%v under load: %v\n%s", what, err, out)
		}
	}
	until(t, "both SAs are new", func() bool {
		s := l.client.now()
		return len(s.SAs) == 1 && len(s.SAs[0].Children) == 1 && !sameSA(before, s) &&
			s.SAs[0].Children[0].SPIIn != before.SAs[0].Children[0].SPIIn
	})
	p.says("]   8.")
	for i, m := range []*node{l.client, l.gateway} {
		if late := m.resident(t); late > early[i]+4<<10 {
			t.Errorf("end %d holds %d KiB after ten seconds, and %d after two", i, late, early[i])
		}
	}
	p.wait()
	l.warrior.ping(l.v4, inB4)
	if after := l.client.now(); len(after.SAs) != 1 {
		t.Errorf("%d SAs in the end", len(after.SAs))
	}
	l.client.end()
	l.gateway.end()
}

// control is a command for the node's own socket.
func control(m *node, args ...string) []string {
	return append(args, "--control", m.ns.dir+"/control.sock")
}

// resident is the memory of the process that speaks to the network in KiB.
func (m *node) resident(t *testing.T) int {
	t.Helper()
	return m.memory(t, "VmRSS")
}

// memory is a figure of that process's memory, as /proc names it, in KiB.
func (m *node) memory(t *testing.T, name string) int {
	t.Helper()
	return memoryOf(t, m.proc.worker(), name)
}

func memoryOf(t *testing.T, pid int, name string) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(name + `:\s+(\d+) kB`).FindSubmatch(b)
	if match == nil {
		t.Fatalf("no %s in %s", name, b)
	}
	n, err := strconv.Atoi(string(match[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
