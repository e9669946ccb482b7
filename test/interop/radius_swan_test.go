package interop

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// eapPlugins are what charon needs for EAP.
const eapPlugins = "md4 md5 des eap-identity eap-md5 eap-gtc eap-mschapv2 eap-tls eap-ttls eap-radius"

// swanLogin is strongSwan as a client that logs in with a method.
func (o *office) swanLogin(i int, method, user string) *swan {
	ns := o.clients[i]
	for from, to := range map[string]string{
		shared.pki.ca():                  "x509ca/ca.pem",
		shared.pki.cert("ecdsa", userID): "x509/user.pem",
		shared.pki.key("ecdsa", userID):  "private/user.pem",
	} {
		ns.write(to, readFile(ns.t, from))
	}
	certs, eapID := "", user
	switch method {
	case "eap-tls":
		certs = "certs = user.pem\naaa_id = " + radiusID
	case "eap-ttls":
		certs = "aaa_id = " + radiusID
	}
	return startSwan(ns, swanSettings{plugins: eapPlugins, conf: "eap-ttls { phase2_method = md5 }", lines: "make_before_break = yes"}, "", fmt.Sprintf(`
connections { c { version = 2
	remote_addrs = 10.99.%d.2
	vips = 0.0.0.0
	proposals = aes256gcm16-prfsha256-x25519
	local { auth = %s
		eap_id = %s
		%s }
	remote { auth = pubkey
		id = %s }
	children { net { remote_ts = 10.50.0.0/24
		esp_proposals = aes256gcm16 } } } }
secrets { eap-1 { id = %s
	secret = "%s's password" } }
`, i, method, eapID, certs, swanID, user, user))
}

// TestRADIUSStrongSwanClients has strongSwan log in at our gateway with each method that
// Debian's has, FreeRADIUS being the other end of EAP.
func TestRADIUSStrongSwanClients(t *testing.T) {
	start(t)
	if _, err := os.Stat("/usr/lib/ipsec/plugins/libstrongswan-eap-mschapv2.so"); err != nil {
		t.Skip("needs strongSwan's eap-mschapv2 (Debian: libcharon-extauth-plugins)")
	}
	methods := []struct{ method, user, address string }{
		{"eap-md5", "bob", "172.30.0.5"},
		{"eap-mschapv2", "alice", "10.97.0.77"},
		{"eap-gtc", "alice", "10.97.0.77"},
		{"eap-tls", "carol.test", ""},
		{"eap-ttls", "alice", "10.97.0.77"},
	}
	o, _ := newRADIUSOffice(t, len(methods), "", "1.2")
	o.gateway.serve()
	for i, test := range methods {
		s := o.swanLogin(i, test.method, test.user)
		if out, err := s.initiate("net"); err != nil {
			t.Errorf("%s: %v\n%s", test.method, err, out)
			continue
		}
		sa := o.user(t)
		if sa.RemoteID != test.user {
			t.Errorf("%s: the gateway knows %s as %q", test.method, test.user, sa.RemoteID)
		}
		v4, _, _ := strings.Cut(sa.Children[0].Remote[0], "/")
		if test.address != "" && v4 != test.address {
			t.Errorf("%s: %s got %s, want %s", test.method, test.user, v4, test.address)
		}
		if test.user == "alice" && !strings.Contains(s.log(), "AUTH_LIFETIME of 3600s") {
			t.Errorf("%s: strongSwan was not told of Session-Timeout", test.method)
		}
		o.clients[i].ping(v4, serverAddr)
		if out, err := s.ctl("--terminate", "--ike", "c"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		o.gateway.awaitDown()
	}
	o.gateway.end()
}

// TestRADIUSStrongSwanRelay has our client log in with each method at strongSwan, which leaves
// EAP to FreeRADIUS.
func TestRADIUSStrongSwanRelay(t *testing.T) {
	start(t)
	o, _ := newRADIUSOffice(t, 1, "", "1.2")
	o.ns.forward()
	s := startSwan(o.ns, swanSettings{plugins: eapPlugins, conf: fmt.Sprintf(
		"eap-radius { servers { one { address = %s\nsecret = \"%s\"\n } } }", serverAddr, radiusSecret)}, "ecdsa", fmt.Sprintf(`
connections { c { version = 2
	pools = four
	proposals = aes256gcm16-prfsha256-x25519
	local { auth = pubkey
		id = %s
		certs = swan.pem }
	remote { auth = eap-radius
		eap_id = %%any }
	children { net { local_ts = 0.0.0.0/0
		esp_proposals = aes256gcm16 } } } }
pools { four { addrs = 10.97.0.0/24 } }
`, swanID))
	for _, test := range []struct{ method, user string }{
		{"eap-mschapv2", "alice"}, {"eap-md5", "alice"}, {"eap-gtc", "alice"}, {"eap-tls", "carol.test"}, {"eap-ttls", "alice"}, {"eap-peap", "alice"},
	} {
		m := o.loginOf(test.method, test.user)
		v4 := upAs(m)
		if sas := s.sas(); !strings.Contains(sas, "ESTABLISHED") {
			t.Errorf("%s: strongSwan lists\n%s", test.method, sas)
		}
		o.clients[0].ping(v4, serverAddr)
		m.end()
		until(t, "strongSwan lists nothing", func() bool { return !strings.Contains(s.sas(), "ESTABLISHED") })
	}
}

// TestRADIUSReauthentication: strongSwan logs in again, the new SA before the old one goes, and
// keeps its address.
func TestRADIUSReauthentication(t *testing.T) {
	start(t)
	o, radius := newRADIUSOffice(t, 1, "", "1.2")
	o.gateway.serve()
	s := o.swanLogin(0, "eap-md5", "dave")
	if out, err := s.initiate("net"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	before := o.user(t)
	v4, _, _ := strings.Cut(before.Children[0].Remote[0], "/")
	o.clients[0].ping(v4, serverAddr)
	if out, err := s.ctl("--rekey", "--ike", "c", "--reauth"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	until(t, "the gateway has the new SA alone", func() bool {
		now := o.gateway.status()
		return len(now.SAs) == 1 && now.SAs[0].SPIi != before.SPIi && len(now.SAs[0].Children) == 1
	})
	after := o.user(t)
	if got := after.Children[0].Remote[0]; got != v4+"/32" {
		t.Errorf("it had %s and got %s", v4, got)
	}
	o.clients[0].ping(v4, serverAddr)
	radius.record(`User-Name = "dave"`, "Acct-Status-Type = Stop", "User-Request")
	o.gateway.end()
}
