package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"martlet/tun/proxy"
)

// inside is a whole file of mode "userspace", with an example of each table of it.
const inside = siteToSite + `
[node]
mode = "userspace"
monitor = "127.0.0.1:9586"
drain = "10s"
[proxy.main]
listen = "127.0.0.1:1080"
[proxy.office]
listen = "*:3128"
protocol = "http"
user = "alice"
password = "` + psk + `"
[proxy.open]
listen = "0.0.0.0:1081"
protocol = "socks5"
open = true
[forward.db]
local = "5432:db.corp.example:5432"
[forward.syslog]
local = "udp:*:5140:10.2.0.9:514"
open = true
[forward.web]
remote = "8080:localhost:80"
[dns]
listen = "127.0.0.1:5353"
tunnel = ["corp.example"]
host = ["."]
refuse = ["ads.example"]
tunnel_servers = ["10.2.0.53", "fd00::53"]
host_servers = ["192.0.2.53:5353"]
[userspace]
allow = ["10.0.0.0/8"]
deny = ["10.9.0.0/16"]
map = ["10.77.0.1:53=127.0.0.53:53", "[fd00::1]:80 = [::1]:8080"]
`

// TestInside: each way into the tunnel without a device is read and parsed.
func TestInside(t *testing.T) {
	c := mustParse(t, inside)
	if c.Node.Mode != ModeUserspace || c.Node.Monitor != "127.0.0.1:9586" || c.Node.Drain != Duration(10*time.Second) || len(c.Warnings) != 0 {
		t.Errorf("%+v %v", c.Node, c.Warnings)
	}
	if p := c.Proxies["main"]; p.Name != "main" || p.Protocol != ProtocolBoth || p.Open {
		t.Errorf("%+v", p)
	}
	if p := c.Proxies["office"]; p.Protocol != ProtocolHTTP || p.User != "alice" || string(p.Password.Value) != psk {
		t.Errorf("%+v", p)
	}
	for name, want := range map[string]proxy.Forward{
		"db":     {Network: "tcp", Port: 5432, Target: "db.corp.example", TargetPort: 5432},
		"syslog": {Network: "udp", Bind: "*", Port: 5140, Target: "10.2.0.9", TargetPort: 514},
		"web":    {Network: "tcp", Port: 8080, Target: "localhost", TargetPort: 80},
	} {
		if w := c.Forwards[name]; w.Name != name || w.Parsed != want {
			t.Errorf("%+v, want %+v", w, want)
		}
	}
	d := c.DNS
	rules := []proxy.Rule{{Suffix: "corp.example", To: proxy.Tunnel}, {Suffix: ".", To: proxy.Host}, {Suffix: "ads.example", To: proxy.Refusal}}
	if diff := cmp.Diff(rules, d.Rules); diff != "" {
		t.Error("rules (-want +got):\n" + diff)
	}
	if fmt.Sprint(d.Inside) != "[10.2.0.53:0 [fd00::53]:0]" || fmt.Sprint(d.Outside) != "[192.0.2.53:5353]" {
		t.Errorf("%v %v", d.Inside, d.Outside)
	}
	if fmt.Sprint(c.Userspace.Mapped) != "map[10.77.0.1:53:127.0.0.53:53 [fd00::1]:80:[::1]:8080]" || len(c.Userspace.Allow) != 1 || len(c.Userspace.Deny) != 1 {
		t.Errorf("%+v", c.Userspace)
	}
	if table, any := c.Doors(); !any || table != "proxy.main" {
		t.Errorf("doors: %s %v", table, any)
	}
	if err := c.Complete(); err != nil || len(c.DNS.Rules) != 3 || len(c.Userspace.Mapped) != 2 {
		t.Errorf("once more: %v %+v %+v", err, c.DNS, c.Userspace)
	}
	for text, want := range map[string]string{
		"": "",
		"[userspace]\nallow = [\"10.0.0.0/8\"]\n":     "",
		"[dns]\ntunnel_servers = [\"10.2.0.53\"]\n":   "",
		"[dns]\nlisten = \"127.0.0.1:53\"\n":          "dns",
		"[forward.x]\nlocal = \"1:a:1\"\n":            "forward.x",
		"[proxy.\"a.b\"]\nlisten = \"127.0.0.1:1\"\n": `proxy."a.b"`,
	} {
		if table, any := mustParse(t, text).Doors(); any != (want != "") || any && table != want {
			t.Errorf("%q: doors %q %v, want %q", text, table, any, want)
		}
	}
	// The same port serves two networks, and a port that the system chooses is never taken.
	mustParse(t, "[proxy.a]\nlisten = \"127.0.0.1:0\"\n[proxy.b]\nlisten = \"127.0.0.1:0\"\n[forward.t]\nlocal = \"53:a:53\"\n[forward.u]\nlocal = \"udp:53:a:53\"\n")
}

// TestInsideFaults has one fault of each kind of those tables.
func TestInsideFaults(t *testing.T) {
	long := strings.Repeat("x", 256)
	for name, tt := range map[string]struct{ text, key, reason string }{
		"mode":                        {"[node]\nmode = \"kernel\"\n", "node.mode", `unknown mode "kernel" (hint: "tun", "userspace" or "auto")`},
		"monitor without port":        {"[node]\nmonitor = \"127.0.0.1\"\n", "node.monitor", "is not an address and a port"},
		"monitor's port":              {"[node]\nmonitor = \"127.0.0.1:http\"\n", "node.monitor", "must be a number"},
		"proxy needs userspace":       {"[node]\nmode = \"tun\"\n[proxy.p]\nlisten = \"127.0.0.1:1080\"\n", "proxy.p", `node.mode is "tun"`},
		"forward needs userspace":     {"[node]\nmode = \"tun\"\n[forward.f]\nlocal = \"1:a:1\"\n", "forward.f", `node.mode is "tun"`},
		"DNS needs userspace":         {"[node]\nmode = \"tun\"\n[dns]\nlisten = \"127.0.0.1:53\"\n", "dns", `node.mode is "tun"`},
		"name of a proxy":             {"[proxy.\"a b\"]\nlisten = \"127.0.0.1:1080\"\n", `proxy."a b"`, "is no name"},
		"name of a forward":           {"[forward.-f]\nlocal = \"1:a:1\"\n", "forward.-f", "is no name"},
		"proxy without address":       {"[proxy.p]\n", "proxy.p", "listen is missing"},
		"proxy's address":             {"[proxy.p]\nlisten = \"1080\"\n", "proxy.p.listen", "is not an address and a port"},
		"proxy at a name":             {"[proxy.p]\nlisten = \"vpn.example.com:1080\"\n", "proxy.p.listen", "vpn.example.com"},
		"proxy open to all":           {"[proxy.p]\nlisten = \"*:1080\"\n", "proxy.p.listen", "no password is set"},
		"proxy's protocol":            {"[proxy.p]\nlisten = \"127.0.0.1:1080\"\nprotocol = \"socks4\"\n", "proxy.p.protocol", `unknown protocol "socks4" (hint: "socks5", "http" or "both")`},
		"password without user":       {"[proxy.p]\nlisten = \"*:1080\"\npassword = \"" + psk + "\"\n", "proxy.p", "has a password and no user"},
		"user without password":       {"[proxy.p]\nlisten = \"127.0.0.1:1080\"\nuser = \"u\"\n", "proxy.p", "has a user and no password"},
		"long user":                   {"[proxy.p]\nlisten = \"*:1080\"\nuser = \"" + long + "\"\npassword = \"" + psk + "\"\n", "proxy.p", "longer than 255 octets"},
		"long password":               {"[proxy.p]\nlisten = \"*:1080\"\nuser = \"u\"\npassword = \"" + long + "\"\n", "proxy.p", "longer than 255 octets"},
		"empty password":              {"[proxy.p]\nlisten = \"127.0.0.1:1080\"\nuser = \"u\"\npassword = \"\"\n", "proxy.p.password", "the secret is empty"},
		"two proxies at one port":     {"[proxy.p]\nlisten = \"127.0.0.1:1080\"\n[proxy.q]\nlisten = \"127.0.0.1:1080\"\n", "proxy.q.listen", "proxy.p.listen listens on 127.0.0.1:1080 already"},
		"forward at a proxy's port":   {"[proxy.p]\nlisten = \"127.0.0.1:1080\"\n[forward.f]\nlocal = \"127.0.0.1:1080:a:1\"\n", "forward.f.local", "proxy.p.listen listens"},
		"DNS at a forward's port":     {"[forward.f]\nlocal = \"udp:127.0.0.1:53:a:53\"\n[dns]\nlisten = \"127.0.0.1:53\"\n", "dns.listen", "forward.f.local listens"},
		"monitor at a proxy's port":   {"[proxy.p]\nlisten = \"127.0.0.1:1080\"\n[node]\nmonitor = \"127.0.0.1:1080\"\n", "node.monitor", "proxy.p.listen listens"},
		"monitor at the port for DNS": {"[dns]\nlisten = \"127.0.0.1:53\"\n[node]\nmonitor = \"127.0.0.1:53\"\n", "node.monitor", "dns.listen listens"},
		"forward that leads nowhere":  {"[forward.f]\nopen = true\n", "forward.f", "one of local and remote must be set"},
		"forward both ways":           {"[forward.f]\nlocal = \"1:a:1\"\nremote = \"1:a:1\"\n", "forward.f", "one of local and remote must be set"},
		"forward's form":              {"[forward.f]\nlocal = \"5432\"\n", "forward.f.local", "expected [udp:][bind:]port:host:port"},
		"forward's form, from inside": {"[forward.f]\nremote = \"1:a:99999\"\n", "forward.f.remote", "the port of the target"},
		"forward is a number":         {"[forward.f]\nlocal = 5432\n", "forward.f.local", "expected a string, got an integer"},
		"forward open to all":         {"[forward.f]\nlocal = \"*:1:a:1\"\n", "forward.f.local", "is not a loopback address"},
		"DNS open to all":             {"[dns]\nlisten = \"0.0.0.0:53\"\n", "dns.listen", "is not a loopback address"},
		"DNS without port":            {"[dns]\nlisten = \"127.0.0.1\"\n", "dns.listen", "is not an address and a port"},
		"DNS open without address":    {"[dns]\nopen = true\n", "dns", "listen is missing"},
		"DNS rules without address":   {"[dns]\nrefuse = [\"ads.example\"]\n", "dns", "listen is missing"},
		"DNS servers without address": {"[dns]\nhost_servers = [\"192.0.2.53\"]\n", "dns", "listen is missing"},
		"suffix":                      {"[dns]\nlisten = \"127.0.0.1:53\"\ntunnel = [\"corp example\"]\n", "dns.tunnel[0]", "is not the suffix of a name"},
		"suffix with an empty part":   {"[dns]\nlisten = \"127.0.0.1:53\"\nhost = [\"a\", \"corp..example\"]\n", "dns.host[1]", "has an empty or a too long part"},
		"suffix twice":                {"[dns]\nlisten = \"127.0.0.1:53\"\ntunnel = [\"corp.example\"]\nrefuse = [\"Corp.Example.\"]\n", "dns.refuse[0]", `"Corp.Example." stands in dns.tunnel already`},
		"server inside":               {"[dns]\nlisten = \"127.0.0.1:53\"\ntunnel_servers = [\"10.2.0.53\", \"ns.corp.example\"]\n", "dns.tunnel_servers[1]", `expected an IP address, got "ns.corp.example"`},
		"server outside":              {"[dns]\nlisten = \"127.0.0.1:53\"\nhost_servers = [\"192.0.2.53:dns\"]\n", "dns.host_servers[0]", "expected an IP address"},
		"map without target":          {"[userspace]\nmap = [\"10.77.0.1:53\"]\n", "userspace.map[0]", "expected ADDRESS:PORT=ADDRESS:PORT"},
		"map to a name":               {"[userspace]\nmap = [\"10.77.0.1:53=localhost:53\"]\n", "userspace.map[0]", "expected ADDRESS:PORT=ADDRESS:PORT"},
		"map of all ports":            {"[userspace]\nmap = [\"10.77.0.1:0=127.0.0.1:53\"]\n", "userspace.map[0]", "expected ADDRESS:PORT=ADDRESS:PORT"},
		"map to no port":              {"[userspace]\nmap = [\"10.77.0.1:53=127.0.0.1:0\"]\n", "userspace.map[0]", "expected ADDRESS:PORT=ADDRESS:PORT"},
		"map to anywhere":             {"[userspace]\nmap = [\"10.77.0.1:53=0.0.0.0:53\"]\n", "userspace.map[0]", "expected ADDRESS:PORT=ADDRESS:PORT"},
		"map to a group":              {"[userspace]\nmap = [\"10.77.0.1:53=224.0.0.1:53\"]\n", "userspace.map[0]", "expected ADDRESS:PORT=ADDRESS:PORT"},
		"map of numbers":              {"[userspace]\nmap = [53]\n", "userspace.map[0]", "expected a string, got an integer"},
		"map twice":                   {"[userspace]\nmap = [\"10.77.0.1:53=127.0.0.1:53\", \"10.77.0.1:53=127.0.0.1:54\"]\n", "userspace.map[1]", "10.77.0.1:53 is mapped already"},
		"allow with host bits":        {"[userspace]\nallow = [\"10.0.0.1/8\"]\n", "userspace.allow[0]", "write 10.0.0.0/8"},
		"proxy as others call it":     {"[socks5]\nlisten = \"127.0.0.1:1080\"\n", "socks5", "it is called proxy here"},
		"forward as others call it":   {"[port_forward]\n", "port_forward", "it is called forward here"},
		"user as others call it":      {"[proxy.p]\nlisten = \"127.0.0.1:1080\"\nusername = \"u\"\n", "proxy.p.username", "it is called user here"},
		"resolvers as others call it": {"[dns]\nlisten = \"127.0.0.1:53\"\nnameservers = [\"10.2.0.53\"]\n", "dns.nameservers", "it is called tunnel_servers here"},
		"metrics as others call it":   {"[metrics]\n", "metrics", "that is monitor in [node]"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("test.toml", []byte(tt.text), t.TempDir(), nil)
			all, ok := errors.AsType[Errors](err)
			if !ok {
				t.Fatalf("no fault found: %v", err)
			}
			if e := all[0]; e.Key != tt.key || !strings.Contains(e.Error(), tt.reason) || e.Line == 0 || len(all) > 1 {
				t.Errorf("got:  %v\nwant: %s: … %s", err, tt.key, tt.reason)
			}
			if strings.Contains(err.Error(), psk) {
				t.Errorf("the password shows: %v", err)
			}
		})
	}
}
