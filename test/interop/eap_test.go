package interop

import (
	"cmp"
	"fmt"
	"strings"
	"testing"
	"time"

	"martlet/crypto/pki"
)

const (
	user     = "alice@martlet.test"
	password = "open sesame"
)

// eapScenario is a way to log in, tried with each side as the client.
type eapScenario struct {
	name string
	// As client: Martlet's local table and what else it says, and strongSwan's remote
	// sections.
	local, more, swanRemote string
	// As gateway: Martlet's peer table with what stands behind it, and strongSwan's local
	// sections.
	peer, gatewayMore, swanLocal string

	tls13    bool   // by TLS 1.3
	alone    string // what the gateway proves itself by, where that is EAP
	kind     string // of keys; empty: ecdsa
	one      bool   // with Martlet as client only
	identity string // of the client at our gateway; empty: user
	wrong    bool   // strongSwan has another password
	fails    *failure
}

// users are our gateway's accounts.
const users = "[user.\"" + user + "\"]\npassword = \"" + password + "\"\n"

// certOf is what a table has of a certificate of a kind.
func certOf(kind, id string) string {
	return fmt.Sprintf("cert = [%q]\nkey = [%q]\n", shared.pki.cert(kind, id), shared.pki.key(kind, id))
}

func withPassword(auth string) string {
	return fmt.Sprintf("auth = %q\nuser = %q\nsecret = %q\n", auth, user, password)
}

func eapScenarios() []eapScenario {
	swanUser := func(auth string) string {
		return "local { auth = " + auth + "\n id = " + user + "\n eap_id = " + user + " }"
	}
	swanCert := func(auth string) string {
		return "local { auth = " + auth + "\n id = " + swanID + "\n certs = swan.pem }"
	}
	wrong := &failure{says: "code: eap-wrong-password", status: 4, logs: "eap-wrong-password", swanSays: "EAP_MSCHAPV2 method failed"}
	ca := "id = \"" + swanID + "\"\nca = [\"" + shared.pki.ca() + "\"]\n"
	all := []eapScenario{
		{
			name:  "mschapv2",
			local: withPassword("eap-mschapv2"), swanRemote: "remote { auth = eap-mschapv2\n eap_id = %any }",
			peer: "auth = \"eap-mschapv2\"\n" + users, swanLocal: swanUser("eap-mschapv2"),
		},
		{
			name:  "mschapv2-wrong-password",
			local: withPassword("eap-mschapv2"), swanRemote: "remote { auth = eap-mschapv2\n eap_id = %any }",
			peer: "auth = \"eap-mschapv2\"\n" + users, swanLocal: swanUser("eap-mschapv2"),
			wrong: true, fails: wrong,
		},
		{
			name:  "md5",
			local: withPassword("eap-md5"), swanRemote: "remote { auth = eap-md5\n eap_id = %any }",
			peer: "auth = \"eap-md5\"\n" + users, swanLocal: swanUser("eap-md5"),
		},
		{
			name:  "certificate-then-mschapv2",
			local: "auth = \"cert\"\n" + certOf("ecdsa", martletID) + "[connection.site.local2]\n" + withPassword("eap-mschapv2"),
			swanRemote: "remote-1 { auth = pubkey\n id = " + martletID + " }\n" +
				"remote-2 { auth = eap-mschapv2\n eap_id = %any }",
			peer:      "auth = \"cert\"\n" + ca + "[connection.site.peer2]\nauth = \"eap\"\n" + users,
			swanLocal: strings.Replace(swanCert("pubkey"), "local", "local-1", 1) + "\n" + strings.Replace(swanUser("eap-mschapv2"), "local", "local-2", 1),
		},
	}
	// TLS 1.2 is charon's default. Its TLS 1.3 inside EAP is older than RFC 9190: as a server
	// it sends no protected success (§2.5) and makes another key, so that it must be refused;
	// as a client it crashes at the protected success. TestEAPOnTLS of package ike has both
	// ends by TLS 1.3, and so has FreeRADIUS.
	all = append(all, eapScenario{
		name:  "tls",
		local: "auth = \"eap-tls\"\n" + certOf("ecdsa", martletID), swanRemote: "remote { auth = eap-tls\n eap_id = %any }",
		peer: "auth = \"eap-tls\"\n" + ca, swanLocal: swanCert("eap-tls"), identity: swanID,
	}, eapScenario{
		name: "tls-1.3", tls13: true, one: true, fails: &failure{says: "code: eap-early-success", status: 4},
		local: "auth = \"eap-tls\"\ntls = \"1.3\"\n" + certOf("ecdsa", martletID), swanRemote: "remote { auth = eap-tls\n eap_id = %any }",
	}, eapScenario{
		name: "tls-alone", alone: "eap-tls",
		local: "auth = \"eap-tls\"\n" + certOf("ecdsa", martletID) + "eap_ca = [\"" + shared.pki.ca() + "\"]\n", more: "eap_only = true\n", swanRemote: "remote { auth = eap-tls\n eap_id = %any }",
		peer: "auth = \"eap-tls\"\n" + ca, gatewayMore: "eap_only = true\n", swanLocal: swanCert("eap-tls"), identity: swanID,
	})
	return append(all,
		eapScenario{
			name:  "ttls", // as client; as gateway the other side refuses what we offer first
			local: withPassword("eap-ttls"), swanRemote: "remote { auth = eap-ttls\n eap_id = %any }",
			peer: "auth = \"eap\"\n" + users, swanLocal: swanUser("eap-ttls"),
		},
		eapScenario{
			name: "ttls-alone", alone: "eap-ttls",
			local: withPassword("eap-ttls") + "eap_ca = [\"" + shared.pki.ca() + "\"]\n", more: "eap_only = true\n", swanRemote: "remote { auth = eap-ttls\n eap_id = %any }",
			peer: "auth = \"eap-ttls\"\n" + users, gatewayMore: "eap_only = true\n", swanLocal: swanUser("eap-ttls"),
		},
		eapScenario{
			name: "tls-fragments", kind: "rsa", // whose certificates do not fit one packet
			local: "auth = \"eap-tls\"\n" + certOf("rsa", martletID), swanRemote: "remote { auth = eap-tls\n eap_id = %any }",
			peer: "auth = \"eap-tls\"\n" + ca, swanLocal: swanCert("eap-tls"), identity: swanID,
		},
		eapScenario{
			name: "md5-without-identity", one: true, // the gateway takes IDi for the user
			local: withPassword("eap-md5"), swanRemote: "remote { auth = eap-md5\n id = " + user + " }",
		},
		eapScenario{
			name:  "tls-by-nak",
			local: "auth = \"eap\"\n" + certOf("ecdsa", martletID), swanRemote: "remote { auth = eap-tls\n eap_id = %any }",
			peer: "auth = \"eap\"\n" + ca + users, swanLocal: swanCert("eap-tls"), identity: swanID,
		},
	)
}

func (sc eapScenario) play(t *testing.T, initiate bool) {
	p := &pair{scenario: scenario{name: sc.name, fails: sc.fails}, initiate: initiate, net: direct(t, false)}
	leaks := tap(p.net.wire, p.net.wireName, outside)
	p.m = newNode(p.net.a, "", sc.toml(p))
	settings := swanSettings{plugins: eapPlugins}
	if sc.tls13 {
		settings.lines = "tls { version_max = 1.3 }"
		// It names the authorities that have RSA keys, and none is not allowed.
		p.net.b.write("x509ca/rsa.pem", rsaAuthority(t))
	}
	p.s = startSwan(p.net.b, settings, sc.keys(), sc.swanctl(p))
	if sc.fails != nil {
		p.refuse(t)
		leaks.clean(t)
		return
	}
	if initiate {
		p.m.up("site")
	} else {
		p.m.serve()
		if out, err := p.s.initiate("net"); err != nil {
			t.Fatalf("swanctl --initiate: %v\n%s", err, out)
		}
	}
	p.status = p.m.awaitUp(1)
	p.traffic(t, inA4, inB4)
	want := swanID
	if !initiate && sc.identity == "" {
		want = user
	}
	if got := p.status.SAs[0].RemoteID; got != want {
		t.Errorf("the other side is %s, want %s", got, want)
	}
	p.counters(t)
	leaks.clean(t)
	p.close(t)
}

func (sc eapScenario) keys() string { return cmp.Or(sc.kind, "ecdsa") }

func (sc eapScenario) toml(p *pair) string {
	child := fmt.Sprintf("[connection.site.child.net]\nlocal = [%q]\nremote = [%q]\n", netA4, netB4)
	if p.initiate {
		peer := fmt.Sprintf("auth = \"cert\"\nid = %q\nca = [%q]\n", swanID, shared.pki.ca())
		if sc.alone != "" {
			peer = fmt.Sprintf("auth = \"eap\"\nid = %q\n", swanID)
		}
		return fmt.Sprintf("[connection.site]\nremote = [%q]\n%s[connection.site.local]\n%s[connection.site.peer]\n%s%s",
			p.net.addrB, sc.more, sc.local, peer, child)
	}
	local := "auth = \"cert\"\n"
	if sc.alone != "" {
		local = "auth = \"eap\"\n"
	}
	return fmt.Sprintf("[connection.site]\n%s[connection.site.local]\n%s%s[connection.site.peer]\n%s",
		sc.gatewayMore, local, certOf(sc.keys(), martletID), sc.peer) + child
}

func (sc eapScenario) swanctl(p *pair) string {
	secret := password
	if sc.wrong {
		secret = "something else"
	}
	gateway, proof := "%any", cmp.Or(sc.alone, "pubkey")
	local, remote := "local { auth = "+proof+"\n id = "+swanID+"\n certs = swan.pem }", sc.swanRemote
	if !p.initiate {
		gateway = p.net.addrA
		local, remote = sc.swanLocal, "remote { auth = "+proof+"\n id = "+martletID+" }"
	}
	return fmt.Sprintf(`
connections { c { version = 2
	remote_addrs = %s
	proposals = aes256gcm16-prfsha256-x25519,default
	%s
	%s
	children { net { local_ts = %s
		remote_ts = %s
		esp_proposals = aes256gcm16 } } } }
secrets { eap-1 { id = %s
	secret = "%s" } }
`, gateway, local, remote, netB4, netA4, user, secret)
}

// rsaAuthority is the certificate of some authority.
func rsaAuthority(t *testing.T) string {
	t.Helper()
	ca, err := pki.NewAuthority("RSA CA", time.Now(), time.Hour, pki.RSA2048)
	if err != nil {
		t.Fatal(err)
	}
	return string(pki.EncodeCertificate(ca.Cert))
}

func TestEAP(t *testing.T) {
	t.Parallel()
	if shared.skip != "" {
		t.Skip(shared.skip)
	}
	for _, sc := range eapScenarios() {
		for _, role := range []string{"initiator", "responder"} {
			if sc.one && role == "responder" {
				continue
			}
			t.Run(sc.name+"/"+role, func(t *testing.T) {
				start(t)
				sc.play(t, role == "initiator")
			})
		}
	}
}
