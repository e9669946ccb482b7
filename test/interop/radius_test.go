package interop

import (
	"fmt"
	"strings"
	"testing"

	"martlet"
)

// radiusUsers: each has what shows that it came from RADIUS.
const radiusUsers = `
alice Cleartext-Password := "alice's password"
	User-Name = "alice",
	Framed-IP-Address = 10.97.0.77,
	Class = "admins",
	Session-Timeout = 3600

bob Cleartext-Password := "bob's password"
	User-Name = "bob",
	Framed-IP-Address = 172.30.0.5

carol.test Cleartext-Password := "none"
	User-Name = "carol.test",
	Class = "admins"

dave Cleartext-Password := "dave's password"

mallory Cleartext-Password := "mallory's password"
	User-Name = "mallory",
	Class = "guests"
`

const gatewayDAE = 3799

// newRADIUSOffice is an office whose gateway leaves logins to FreeRADIUS, which runs on the
// server behind it.
func newRADIUSOffice(t *testing.T, clients int, more, tls string) (*office, *freeradius) {
	t.Helper()
	o := newOffice(t, clients, "")
	o.gateway = newNode(o.ns, "", fmt.Sprintf(`
[radius]
nas_identifier = "gateway.test"
timeout = "500ms"
tries = 2
accounting = true
dae_port = %d
[radius.server.one]
address = %q
secret = %q
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
auth = "eap-radius"
[connection.clients.child.net]
local = ["0.0.0.0/0"]
`, gatewayDAE, serverAddr, radiusSecret, more, shared.pki.cert("ecdsa", swanID), shared.pki.key("ecdsa", swanID)))
	// The way back into the tunnel.
	o.server.ip("route add 10.97.0.0/24 via " + gatewaySide)
	o.server.ip("route add 172.30.0.0/24 via " + gatewaySide)
	return o, startRADIUS(o.server, gatewaySide, radiusUsers, tls)
}

// loginOf is our first client, that logs in with a method, as a user.
func (o *office) loginOf(method, user string) *node {
	login := fmt.Sprintf("user = %q\nsecret = \"%s's password\"\n", user, user)
	if method == "eap-tls" {
		login = fmt.Sprintf("cert = [%q]\nkey = [%q]\n", shared.pki.cert("ecdsa", userID), shared.pki.key("ecdsa", userID))
	}
	if method == "eap-tls" || method == "eap-ttls" || method == "eap-peap" {
		login += fmt.Sprintf("eap_server = %q\neap_ca = [%q]\n", radiusID, shared.pki.ca())
	}
	if method == "eap-ttls" || method == "eap-peap" {
		login += "eap_id = \"anonymous\"\n"
	}
	return newNode(o.clients[0], "", fmt.Sprintf(`
[connection.office]
remote = ["10.99.0.2"]
request = ["ipv4"]
keep = "manual"
[connection.office.local]
auth = %q
id = "device.test"
%s
[connection.office.peer]
auth = "cert"
id = %q
ca = [%q]
[connection.office.child.net]
remote = ["0.0.0.0/0"]
`, method, login, swanID, shared.pki.ca()))
}

// upAs brings a client up and returns its virtual address.
func upAs(m *node) string {
	m.ns.t.Helper()
	m.up("office")
	v4, _ := virtual(m.awaitUp(1))
	return v4
}

// user is who the gateway says that its only SA is.
func (o *office) user(t *testing.T) *martlet.SAStatus {
	t.Helper()
	s := o.gateway.awaitUp(1)
	if len(s.SAs) != 1 {
		t.Fatalf("the gateway has %d SAs", len(s.SAs))
	}
	return &s.SAs[0]
}

// TestRADIUSMethods has our client log in at our gateway with each method, FreeRADIUS being
// the other end of EAP.
func TestRADIUSMethods(t *testing.T) {
	t.Parallel()
	type login struct{ method, user, address string }
	onTLS := []login{{"eap-tls", "carol.test", ""}, {"eap-ttls", "alice", "10.97.0.77"}, {"eap-peap", "alice", "10.97.0.77"}}
	for tls, logins := range map[string][]login{
		"1.2": append(onTLS, login{"eap-mschapv2", "alice", "10.97.0.77"}, login{"eap-md5", "bob", "172.30.0.5"}), // outside of the pool
		"1.3": onTLS,
	} {
		t.Run("TLS "+tls, func(t *testing.T) {
			start(t)
			o, radius := newRADIUSOffice(t, 1, "", tls)
			o.gateway.serve()
			for _, l := range logins {
				m := o.loginOf(l.method, l.user)
				v4 := upAs(m)
				if l.address != "" && v4 != l.address || !strings.HasPrefix(v4, "10.97.0.") && l.address == "" {
					t.Errorf("%s: %s got %s, want %s", l.method, l.user, v4, l.address)
				}
				if got := o.user(t).RemoteID; got != l.user {
					t.Errorf("%s: the gateway knows %s as %q", l.method, l.user, got)
				}
				o.clients[0].ping(v4, serverAddr)
				m.end()
				o.gateway.awaitDown()
			}
			if !strings.Contains(radius.proc.out.String(), `TLS-Session-Version = "TLS `+tls+`"`) {
				t.Errorf("no session of TLS %s", tls)
			}
			o.gateway.end()
		})
	}
}

// TestRADIUSGroups: Class makes somebody a member of a group, and the others stay out.
func TestRADIUSGroups(t *testing.T) {
	start(t)
	o, radius := newRADIUSOffice(t, 1, "groups = [\"admins\"]\n", "1.2")
	o.gateway.serve()
	m := o.loginOf("eap-mschapv2", "mallory")
	m.up("office")
	if status := m.proc.wait(); status == 0 || !strings.Contains(m.proc.out.String(), "refused") {
		t.Errorf("status %d:\n%s", status, m.proc.out.String())
	}
	o.gateway.proc.says("is in none of the groups [admins]")
	alice := o.loginOf("eap-mschapv2", "alice")
	upAs(alice)
	alice.end()
	if got := attribute(t, radius.record(`User-Name = "alice"`, "Acct-Status-Type = Start"), "Class"); got != "0x61646d696e73" {
		t.Errorf("Class came back as %s", got)
	}
	o.gateway.awaitDown()
	o.gateway.end()
}

// TestRADIUSAccounting compares what FreeRADIUS was told with what the client counted, and
// lets it disconnect a user.
func TestRADIUSAccounting(t *testing.T) {
	start(t)
	o, radius := newRADIUSOffice(t, 1, "", "1.2")
	o.gateway.serve()
	m := o.loginOf("eap-mschapv2", "alice")
	v4 := upAs(m)
	o.clients[0].ping(v4, serverAddr)
	stream(t, o.clients[0], v4, o.server, serverAddr)
	begun := radius.record(`User-Name = "alice"`, "Acct-Status-Type = Start")
	session := attribute(t, begun, "Acct-Session-Id")
	for name, want := range map[string]string{
		"Framed-IP-Address": v4, "NAS-Identifier": "gateway.test", "Calling-Station-Id": "10.99.0.1", "NAS-Port-Type": "Virtual",
	} {
		if got := attribute(t, begun, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	at := fmt.Sprintf("%s:%d", gatewaySide, gatewayDAE)
	if out := radius.radclient(at, "disconnect", "User-Name = \"nobody\"\nEvent-Timestamp = 0\n"); strings.Contains(out, "Disconnect-ACK") || strings.Contains(out, "Disconnect-NAK") {
		t.Errorf("an old order was answered:\n%s", out)
	}
	if out := radius.radclient(at, "disconnect", "User-Name = \"nobody\"\n"); !strings.Contains(out, "Disconnect-NAK") || !strings.Contains(out, "Session-Context-Not-Found") {
		t.Errorf("an order for nobody:\n%s", out)
	}
	if out := radius.radclient(at, "coa", fmt.Sprintf("Acct-Session-Id = %q\nSession-Timeout = 1800\n", session)); !strings.Contains(out, "CoA-ACK") {
		t.Errorf("CoA:\n%s", out)
	}
	counted := m.awaitUp(1).SAs[0].Children[0]
	if out := radius.radclient(at, "disconnect", fmt.Sprintf("User-Name = \"alice\"\nFramed-IP-Address = %s\nMessage-Authenticator = 0x00\n", v4)); !strings.Contains(out, "Disconnect-ACK") {
		t.Errorf("Disconnect-Request:\n%s", out)
	}
	ended := radius.record(session, "Acct-Status-Type = Stop")
	for name, want := range map[string]string{
		"Acct-Terminate-Cause": "Admin-Reset",
		"Acct-Input-Octets":    fmt.Sprint(counted.BytesOut), "Acct-Input-Packets": fmt.Sprint(counted.PacketsOut),
		"Acct-Output-Octets": fmt.Sprint(counted.BytesIn), "Acct-Output-Packets": fmt.Sprint(counted.PacketsIn),
	} {
		if got := attribute(t, ended, name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if status := m.proc.wait(); status == 0 || !strings.Contains(m.proc.out.String(), "closed-by-peer") {
		t.Errorf("the client ended with %d", status)
	}
	o.gateway.end()
	radius.record("Acct-Status-Type = Accounting-Off")
}

// TestRADIUSSilent: a server that does not answer keeps out who needs it and nobody else, and
// both ends are told why.
func TestRADIUSSilent(t *testing.T) {
	start(t)
	o, radius := newRADIUSOffice(t, 2, "", "1.2")
	o.gateway.config = o.ns.write("martlet.toml", strings.Replace(readFile(t, o.gateway.config), radiusSecret, "not its secret at all", 1)+fmt.Sprintf(`
[connection.others]
pool = ["four"]
from = ["10.99.1.0/24"]
[connection.others.local]
auth = "cert"
cert = [%q]
key = [%q]
[connection.others.peer]
auth = "psk"
secret = %q
`, shared.pki.cert("ecdsa", swanID), shared.pki.key("ecdsa", swanID), secret))
	o.gateway.serve()
	m := o.loginOf("eap-mschapv2", "alice")
	m.up("office")
	other := o.client(1)
	connect(t, other) // while the first waits
	if status := m.proc.wait(); status == 0 {
		t.Error("it came in")
	}
	o.gateway.proc.says("no RADIUS server answers")
	o.gateway.proc.says("has another secret")
	if out := radius.proc.out.String(); !strings.Contains(out, "invalid Message-Authenticator") {
		t.Errorf("FreeRADIUS does not say that the secret is wrong")
	}
	other.end()
	o.gateway.end()
}
