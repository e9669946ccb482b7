package interop

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

const (
	serverAddr  = "10.50.0.2" // behind the gateway, with no way back to the pool
	gatewaySide = "10.50.0.1" // the gateway's address there
)

// office is a gateway with clients in a network in front of it and a server behind it.
// All are Martlet's.
type office struct {
	gateway *node
	ns      *namespace // the gateway's
	server  *namespace
	clients []*namespace
}

// newOffice makes the hosts. The clients reach the gateway at 10.99.N.2 over a wire each.
func newOffice(t *testing.T, clients int, connection string) *office {
	t.Helper()
	o := &office{ns: newNamespace(t, "gw"), server: newNamespace(t, "srv")}
	join(o.ns, "inside "+gatewaySide+"/24", o.server, "eth0 "+serverAddr+"/24")
	for i := range clients {
		c := newNamespace(t, fmt.Sprintf("c%d", i))
		join(c, fmt.Sprintf("eth0 10.99.%d.1/24", i), o.ns, fmt.Sprintf("front%d 10.99.%d.2/24", i, i))
		c.ip(fmt.Sprintf("route add default via 10.99.%d.2", i))
		o.clients = append(o.clients, c)
	}
	o.gateway = newNode(o.ns, "", fmt.Sprintf(`
[pool.four]
addresses = ["10.97.0.0/24"]
[connection.clients]
pool = ["four"]
%s
[connection.clients.local]
auth = "cert"
cert = [%q]
key = [%q]
[connection.clients.peer]
auth = "psk"
secret = %q
[connection.clients.child.net]
local = ["0.0.0.0/0"]
`, connection, shared.pki.cert("ecdsa", swanID), shared.pki.key("ecdsa", swanID), secret))
	return o
}

// client makes a road warrior whose whole traffic goes through the gateway.
func (o *office) client(i int) *node {
	return newNode(o.clients[i], "", fmt.Sprintf(`
[connection.office]
remote = ["10.99.%d.2"]
request = ["ipv4"]
[connection.office.local]
auth = "psk"
id = "client%d.test"
secret = %q
[connection.office.peer]
auth = "cert"
id = %q
ca = [%q]
[connection.office.child.net]
remote = ["0.0.0.0/0"]
`, i, i, secret, swanID, shared.pki.ca()))
}

// connect brings a client up and returns its virtual address.
func connect(t *testing.T, m *node) string {
	t.Helper()
	m.up("office")
	s := m.awaitUp(1)
	v4, _ := virtual(s)
	if !strings.HasPrefix(v4, "10.97.0.") {
		t.Fatalf("virtual addresses are %v", s.SAs[0].Addresses)
	}
	return v4
}

// TestRoadWarrior: everything goes through the tunnel, with each way of the kernel to check
// sources, and the gateway hides the client from the server.
func TestRoadWarrior(t *testing.T) {
	t.Parallel()
	for _, rpFilter := range []string{"0", "1", "2"} {
		t.Run("rp_filter="+rpFilter, func(t *testing.T) {
			start(t)
			o := newOffice(t, 1, "masquerade = true\n")
			c := o.clients[0]
			for _, ns := range []*namespace{c, o.ns} {
				ns.sysctl("net.ipv4.conf.all.rp_filter", rpFilter)
				ns.sysctl("net.ipv4.conf.default.rp_filter", rpFilter)
			}
			c.sysctl("net.ipv4.conf.eth0.rp_filter", rpFilter)
			o.ns.sysctl("net.ipv4.conf.front0.rp_filter", rpFilter)
			o.ns.sysctl("net.ipv4.conf.inside.rp_filter", rpFilter)
			before := forwarding(o.ns)

			o.gateway.serve()
			leaks := tap(c, "eth0", outside)
			unmasked := tap(o.server, "eth0", "arp or icmp6 or (ip6[6] == 0) or (host "+gatewaySide+" and host "+serverAddr+")")
			m := o.client(0)
			v4 := connect(t, m)
			m.present(t)
			c.ping(v4, serverAddr)
			stream(t, c, v4, o.server, serverAddr)
			// Without naming an address, the kernel chooses the virtual one.
			if out, err := c.try("ping", "-n", "-c", "1", "-W", "10", serverAddr); err != nil {
				t.Errorf("ping without a source: %v\n%s", err, out)
			}
			leaks.clean(t)
			unmasked.clean(t)
			m.end()
			o.gateway.awaitDown()
			o.gateway.end()
			if after := forwarding(o.ns); after != before {
				t.Errorf("forwarding was %q before and is %q after", before, after)
			}
		})
	}
}

// forwarding is whether a host forwards.
func forwarding(ns *namespace) string {
	ns.t.Helper()
	return strings.TrimSpace(ns.run("cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"))
}

// present fails the test if what undone looks for is not there while the tunnel is up: then
// undone would prove nothing.
func (m *node) present(t *testing.T) {
	t.Helper()
	if out := m.ns.ip("-br link"); !strings.Contains(out, "martlet0") {
		t.Errorf("no device martlet0:\n%s", out)
	}
	if out := m.ns.ip("rule"); !strings.Contains(out, "19809") || !strings.Contains(out, "0x4d61") {
		t.Errorf("no rule for the mark or for table 19809:\n%s", out)
	}
	if out := m.ns.ip("route show table 19809"); !strings.Contains(out, "dev martlet0") {
		t.Errorf("no route in table 19809:\n%s", out)
	}
}

// TestClientsApart: clients of one gateway cannot reach each other, unless the configuration
// lets them.
func TestClientsApart(t *testing.T) {
	t.Parallel()
	for name, together := range map[string]bool{"default": false, "peer_to_peer": true} {
		t.Run(name, func(t *testing.T) {
			start(t)
			o := newOffice(t, 2, fmt.Sprintf("masquerade = true\npeer_to_peer = %v\n", together))
			o.gateway.serve()
			a, b := o.client(0), o.client(1)
			addrA, addrB := connect(t, a), connect(t, b)
			if addrA == addrB {
				t.Fatalf("both clients have %s", addrA)
			}
			o.clients[0].ping(addrA, serverAddr)
			o.clients[1].ping(addrB, serverAddr)
			if together {
				o.clients[0].ping(addrA, addrB)
				o.clients[1].ping(addrB, addrA)
			} else {
				o.clients[0].silent(addrA, addrB)
				o.clients[1].silent(addrB, addrA)
			}
			a.end()
			b.end()
			o.gateway.end()
		})
	}
}

// TestKilled: a program that was killed leaves nothing behind that its next start and end
// do not put right, and stands in nobody's way.
func TestKilled(t *testing.T) {
	start(t)
	o := newOffice(t, 1, "masquerade = true\n")
	before := forwarding(o.ns)
	o.gateway.serve()
	m := o.client(0)
	v4 := connect(t, m)
	o.clients[0].ping(v4, serverAddr)

	m.proc.stop(syscall.SIGKILL)
	v4 = connect(t, m)
	o.clients[0].ping(v4, serverAddr)

	o.gateway.proc.stop(syscall.SIGKILL)
	o.gateway.serve()
	m.proc.stop(syscall.SIGKILL) // it would need a while to see that the gateway knows it no more
	v4 = connect(t, m)
	o.clients[0].ping(v4, serverAddr)

	m.end()
	o.gateway.end()
	if after := forwarding(o.ns); after != before {
		t.Errorf("forwarding was %q before and is %q after", before, after)
	}
}

// TestDown: martlet down closes a connection at both ends, and without a name the program.
func TestDown(t *testing.T) {
	start(t)
	o := newOffice(t, 1, "")
	o.gateway.serve()
	m := o.client(0)
	connect(t, m)
	if out, err := m.martlet("down", "-c", m.config); err != nil {
		t.Errorf("martlet down: %v\n%s", err, out)
	}
	if status := m.proc.wait(); status != 0 {
		t.Errorf("martlet up ended with status %d after martlet down", status)
	}
	m.undone()
	o.gateway.awaitDown()
	if out, err := m.martlet("status", "-c", m.config); err == nil {
		t.Errorf("martlet status of none that runs succeeds:\n%s", out)
	}
	if out, err := o.gateway.martlet("down", "-c", o.gateway.config); err != nil {
		t.Errorf("martlet down: %v\n%s", err, out)
	}
	if status := o.gateway.proc.wait(); status != 0 {
		t.Errorf("martlet serve ended with status %d after martlet down", status)
	}
	o.gateway.undone()
}
