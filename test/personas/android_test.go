package personas

import (
	"strings"
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// android is the client built into Android 11 and later, set up in Settings. Its lists are those of
// AOSP [S]. The order of payloads, the length of the nonce and the age of children are not known:
// the plain order, 32 octets, and the two hours of the IKE SA. Fragmentation always [S].
func android() *device {
	prfs := "prfsha512-prfsha384-prfsha256-prfaesxcbc-prfaescmac-prfsha1"
	integs := "sha512-sha384-sha256-aesxcbc-aescmac"
	ciphers := "aes256ctr-aes256-aes192ctr-aes192-aes128ctr-aes128"
	aeads := "chacha20poly1305-aes256gcm16-aes256gcm12-aes256gcm8-aes192gcm16-aes192gcm12-aes192gcm8-aes128gcm16-aes128gcm12-aes128gcm8"
	groups := "modp4096-x25519-modp3072-modp2048" // so that its first KE is group 16 [D]
	return &device{
		name: "android", nonce: 32, rfc7427: true, // [S] signatures by RFC 7427
		ike:  []string{ciphers + "-" + prfs + "-" + integs + "-" + groups, aeads + "-" + prfs + "-" + groups},
		init: "SA KE No NATD FRAG HASHES",
		esp:  []string{ciphers + "-" + integs, aeads}, // [S] the same lists, and no DH
		auth: "IDi IDr CERT AUTH CP SA TSi TSr MOBIKE",
		cp: []message.AttributeType{
			message.InternalIP4Address, message.InternalIP6Address, message.InternalIP4DNS, message.InternalIP6DNS,
		},
		ikeAge: 2 * time.Hour, childAge: 2 * time.Hour, // [S] for the IKE SA
		liveness: 2 * time.Minute, keepalive: 10 * time.Second, // [S]
	}
}

// androidUser is a person with a password. The identifier is a field of its own, and the
// server's is the address that was typed [S].
func (w *world) androidUser(g *gateway) *peer {
	p := w.atHome(android(), g)
	p.id, p.user = pki.Identity{Type: pki.IDFQDN, Data: "phone"}, "carol"
	p.serverID = pki.Identity{Type: pki.IDFQDN, Data: gatewayName}
	return p
}

func TestAndroid(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		comesAgain(w.androidUser(w.devices()))
	})
	// With a certificate: nothing but PKCS#1 v1.5 is verified.
	inBubble(t, func(w *world) {
		p := w.atHome(android(), w.devices())
		p.cred = w.issue(pki.Request{Emails: []string{"carol@example.com"}, Purpose: pki.ClientAuth})
		p.id = pki.Identity{Type: pki.IDRFC822Addr, Data: "carol@example.com"}
		p.serverID = pki.Identity{Type: pki.IDFQDN, Data: gatewayName}
		comesAgain(p)
	})
}

// Both ways: its first group is taken, or it is told another one, which it has.
func TestAndroidBeginsWithMODP4096_R3(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		line  string
		group uint16
	}{
		{"", suite.KEMODP4096},
		{`proposals = ["aes256gcm16-prfsha256-x25519"]`, suite.KEX25519},
	} {
		inBubble(t, func(w *world) {
			p := w.androidUser(w.devices(test.line))
			p.connect()
			first, _ := message.Find[*message.KE](p.lastInit(p.sa))
			if p.sa.suite.KE.ID != test.group || test.line == "" && first.Method != suite.KEMODP4096 {
				t.Errorf("%q: the group is %v", test.line, p.sa.suite)
			}
			if !strings.Contains(p.sa.suite.String(), "gcm") {
				t.Errorf("%q: %v is not the best that both have", test.line, p.sa.suite)
			}
			p.browses()
		})
	}
}

// It never does PFS, and children of it are replaced without [S].
func TestAndroidNeverDoesPFS_R4(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		p := w.androidUser(w.devices())
		p.connect()
		p.rekeyChild(p.kids[0])
		if p.kids[0].suite.KE.ID != 0 {
			t.Errorf("the child has %v", p.kids[0].suite)
		}
		p.browses()
	})
}

// What the gateway narrows to is the split tunnel: routes are built from the remote
// selectors [S].
func TestAndroidSplitTunnel(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		g := w.start(strings.Replace(devicesFile, "#users", "[connection.users.child.net]\nlocal = [\"10.1.0.0/16\", \"10.2.0.0/16\"]", 1))
		p := w.androidUser(g)
		p.connect()
		if want := selectors("10.1.0.0/16", "10.2.0.0/16"); len(p.kids[0].other) != 2 || p.kids[0].other[0] != want[0] || p.kids[0].other[1] != want[1] {
			t.Errorf("routes to %v", p.kids[0].other)
		}
		p.browses()
	})
}
