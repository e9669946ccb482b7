package dns

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// everything sends all names to servers of both families.
func everything() Config {
	return Config{Device: "lo", Servers: addrs("10.1.0.53", "fd00:1::53"), Search: []string{"corp.example"}}
}

// split sends some names.
func split() Config {
	return Config{Device: "lo", Servers: addrs("10.1.0.53", "fd00:1::53"), Domains: []string{"corp.example", "lab.example"}, Search: []string{"corp.example", "eu.corp.example"}}
}

// logs are what a person reads.
func logs() (*zap.Logger, func() string) {
	core, seen := observer.New(zap.DebugLevel)
	return zap.New(core), func() string {
		var b strings.Builder
		for _, e := range seen.All() {
			b.WriteString(e.Level.String() + " " + e.Message + "\n")
		}
		return b.String()
	}
}

func TestConfigIsMadePlain(t *testing.T) {
	got, err := Config{
		Device:  "martlet0",
		Servers: addrs("::ffff:10.1.0.53", "10.1.0.53", "fd00:1::53"),
		Domains: []string{"Corp.Example.", "corp.example", "xn--bcher-kva.example"},
		Search:  []string{"_tcp.example"},
	}.normal()
	want := Config{
		Device:  "martlet0",
		Servers: addrs("10.1.0.53", "fd00:1::53"),
		Domains: []string{"corp.example", "xn--bcher-kva.example"},
		Search:  []string{"_tcp.example"},
	}
	if err != nil || !cmp.Equal(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })) {
		t.Errorf("%+v, %v", got, err)
	}
}

// What a peer says becomes lines of files and words of commands.
func TestConfigRefusesWhatWouldBeSomethingElse(t *testing.T) {
	for what, change := range map[string]func(*Config){
		"no server":      func(c *Config) { c.Servers = nil },
		"17 servers":     func(c *Config) { c.Servers = make([]netip.Addr, 17) },
		"invalid server": func(c *Config) { c.Servers = []netip.Addr{{}} },
		"0.0.0.0":        func(c *Config) { c.Servers = addrs("0.0.0.0") },
		"multicast":      func(c *Config) { c.Servers = addrs("ff02::fb") },
		"a zone":         func(c *Config) { c.Servers = addrs("fe80::1%lo") },
		"a line":         func(c *Config) { c.Domains = []string{"a\nnameserver 192.0.2.1"} },
		"two words":      func(c *Config) { c.Search = []string{"a b"} },
		"a path":         func(c *Config) { c.Domains = []string{"../hosts"} },
		"dots":           func(c *Config) { c.Domains = []string{".."} },
		"the root":       func(c *Config) { c.Domains = []string{"."} },
		"nothing":        func(c *Config) { c.Search = []string{""} },
		"an option":      func(c *Config) { c.Domains = []string{"-x"} },
		"a long label":   func(c *Config) { c.Domains = []string{strings.Repeat("a", 64)} },
		"a long name":    func(c *Config) { c.Domains = []string{strings.Repeat("a.", 130)} },
		"umlauts":        func(c *Config) { c.Domains = []string{"bücher.example"} },
		"257 domains":    func(c *Config) { c.Domains = make([]string, 257) },
		"a long search list": func(c *Config) {
			c.Search = []string{strings.Repeat("a.", 120) + "a", strings.Repeat("b.", 120) + "b", strings.Repeat("c.", 120) + "c", strings.Repeat("d.", 120) + "d", strings.Repeat("e.", 120) + "e"}
		},
		"no device":            func(c *Config) { c.Device = "" },
		"a device with spaces": func(c *Config) { c.Device = "tun 0" },
		"a device as a path":   func(c *Config) { c.Device = "../tun0" },
		"a device as a file":   func(c *Config) { c.Device = "tun/0" },
	} {
		c := everything()
		change(&c)
		if _, err := c.normal(); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
}
