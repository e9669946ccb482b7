package martlet

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"martlet/config"
	"martlet/tun/netstack"
)

// computer is the files of a system with so many MiB of memory, and limits of control groups.
func computer(mib int, group string, limits map[string]string) fs.FS {
	m := fstest.MapFS{
		"proc/meminfo":     {Data: fmt.Appendf(nil, "MemTotal:       %d kB\nMemFree:        10 kB\n", mib<<10)},
		"proc/self/cgroup": {Data: []byte("4:memory:/other\n0::" + group + "\n")},
	}
	for at, limit := range limits {
		m["sys/fs/cgroup"+at+"/memory.max"] = &fstest.MapFile{Data: []byte(limit + "\n")}
	}
	return m
}

func TestFootprint(t *testing.T) {
	for name, test := range map[string]struct {
		system  fs.FS
		profile string
		want    Footprint
		said    int
	}{
		"large":             {computer(4096, "/", nil), "", Footprint{Memory: 4096 << 20}, 0},
		"asked for":         {computer(4096, "/", nil), "small", Footprint{Small: true, Memory: 4096 << 20}, 0},
		"little":            {computer(128, "/", nil), "", Footprint{Small: true, Memory: 128 << 20}, 1},
		"just enough":       {computer(256, "/", nil), "", Footprint{Memory: 256 << 20}, 0},
		"in a container":    {computer(4096, "/", map[string]string{"": "67108864"}), "", Footprint{Small: true, Memory: 64 << 20, Container: true}, 1},
		"both":              {computer(4096, "/", map[string]string{"": "67108864"}), "small", Footprint{Small: true, Memory: 64 << 20, Container: true}, 0},
		"a group above":     {computer(4096, "/a/b", map[string]string{"/a": "536870912", "/a/b": "max"}), "", Footprint{Memory: 512 << 20, Container: true}, 0},
		"the least":         {computer(4096, "/a/b", map[string]string{"/a": "536870912", "/a/b": "1073741824"}), "", Footprint{Memory: 512 << 20, Container: true}, 0},
		"no limit":          {computer(4096, "/a", map[string]string{"/a": "max"}), "", Footprint{Memory: 4096 << 20}, 0},
		"a limit of no use": {computer(4096, "/a", map[string]string{"/a": "9223372036854771712"}), "", Footprint{Memory: 4096 << 20}, 0},
		"outside":           {computer(4096, "/../x", map[string]string{"": "max"}), "", Footprint{Memory: 4096 << 20}, 0},
		"not Linux":         {fstest.MapFS{}, "", Footprint{}, 0},
		"rubbish":           {fstest.MapFS{"proc/meminfo": {Data: []byte("MemTotal: -1 kB\n")}, "proc/self/cgroup": {Data: []byte("0::\n0")}}, "", Footprint{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c := &config.Config{Node: config.Node{Profile: test.profile}}
			got := footprintOf(c, test.system)
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			core, logs := observer.New(zap.InfoLevel)
			if got.say(c, zap.New(core)); logs.Len() != test.said {
				t.Errorf("%d log lines, want %d", logs.Len(), test.said)
			}
		})
	}
}

// TestFootprintBounds: what the size of a machine makes of queues and buffers.
func TestFootprintBounds(t *testing.T) {
	for _, test := range []struct {
		f      Footprint
		socket int
		stack  netstack.Options
	}{
		{Footprint{}, 4 << 20, netstack.Options{SendBuffer: 6 << 20}},
		{Footprint{Memory: 64 << 30}, 4 << 20, netstack.Options{SendBuffer: 6 << 20, Memory: 1<<31 - 1}},
		{Footprint{Memory: 512 << 20}, 2 << 20, netstack.Options{SendBuffer: 2 << 20, Memory: 32 << 20}},
		{Footprint{Small: true, Memory: 64 << 30}, 512 << 10, netstack.Options{ReceiveBuffer: 1 << 20, SendBuffer: 96 << 10, Memory: 16 << 20}},
	} {
		if got := test.f.socketBuffer(); got != test.socket {
			t.Errorf("%+v: sockets buffer %d, want %d", test.f, got, test.socket)
		}
		if got := test.f.tcpBuffers(); got != test.stack {
			t.Errorf("%+v: the stack has %+v, want %+v", test.f, got, test.stack)
		}
		if n := test.f.lanes(false); n != 1 {
			t.Errorf("%+v: a client has %d lanes", test.f, n)
		}
		if n := test.f.lanes(true); n < 1 || n&(n-1) != 0 || n > 8 || test.f.Small && n != 1 {
			t.Errorf("%+v: a gateway has %d lanes", test.f, n)
		}
	}
}

// TestLanes: a gateway takes ESP by as many readers as it has lanes, and a small one by one.
func TestLanes(t *testing.T) {
	for _, profile := range []string{"", "profile = \"small\"\n"} {
		n := startNode(t, true, strings.Replace(gatewayText, "[node]\n", "[node]\n"+profile, 1))
		lanes := n.footprint.lanes(true)
		if f := footprintOf(n.Config, os.DirFS("/")); f != n.footprint {
			t.Errorf("the node has %+v, want %+v", n.footprint, f)
		}
		if profile != "" && len(n.engines.shards) != 1 {
			t.Errorf("%d engines", len(n.engines.shards))
		}
		for _, s := range n.sockets.open {
			// One more has IKE, unless the system cannot tell it apart.
			if readers := len(s.Readers()); s.Encap() && readers != 1 && readers != 1+lanes {
				t.Errorf("%d readers, %d lanes", readers, lanes)
			}
		}
	}
}
