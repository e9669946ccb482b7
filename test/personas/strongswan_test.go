package personas

import (
	"strings"
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/message"
	"martlet/test/simnet"
)

// strongSwanIKE stands for "strongSwan's default proposals (all modern)" [S]: one with a separate
// integrity algorithm and one with AEADs; which algorithms exactly is not told.
var strongSwanIKE = []string{
	"aes256-aes192-aes128-sha256-sha384-sha512-prfsha256-prfsha384-prfsha512-x25519-ecp256-ecp384-ecp521-modp3072-modp4096-modp2048",
	"aes256gcm16-aes192gcm16-aes128gcm16-chacha20poly1305-prfsha256-prfsha384-prfsha512-x25519-ecp256-ecp384-ecp521-modp3072-modp4096-modp2048",
}

// strongSwan is what the app and NetworkManager's plug-in have in common. The order of
// notifies in IKE_SA_INIT and the length of the nonce are not told: 32 octets.
func strongSwan(d device) *device {
	d.ike, d.nonce, d.rfc7427 = strongSwanIKE, 32, true
	d.init = "SA KE No NATD FRAG HASHES REDIRECT"
	d.ephemeral = true // [S]
	d.auth = "IDi CERT INITIAL_CONTACT CERTREQ IDr AUTH CP SA TSi TSr MOBIKE EAP_ONLY MULTIPLE_AUTH ANOTHER_AUTH"
	d.certReqs = 1
	return &d
}

// sswanApp is strongSwan's Android app. It encapsulates always, by a wrong
// NAT_DETECTION_SOURCE_IP [S].
func sswanApp() *device {
	groups := "-x25519-ecp384-ecp521-modp3072-modp4096-ecp256-modp8192"
	aeads, ciphers := "aes256gcm16-aes128gcm16-chacha20poly1305", "aes256-aes192-aes128-sha384-sha256-sha512-sha1"
	d := strongSwan(device{
		name: "sswan-app", fakesNAT: true,
		esp: []string{aeads + groups, ciphers + groups + "-modp2048", aeads, ciphers},
		cp: []message.AttributeType{
			message.InternalIP4Address, message.InternalIP6Address, message.InternalIP4DNS, message.InternalIP6DNS,
		},
		ikeAge: 10 * time.Hour, childAge: 2 * time.Hour, // and jitter [S]
		keepalive: 45 * time.Second,
	})
	d.auth = strings.Replace(d.auth, "EAP_ONLY ", "", 1) // no EAP-only [S]
	return d
}

// charonNM is NetworkManager's plug-in: its times are in its source [S], its ESP proposals
// are not told, so those of the app.
func charonNM() *device {
	d := sswanApp()
	d.name, d.fakesNAT, d.keepalive = "charon-nm", false, 20*time.Second
	d.ikeAge, d.childAge = 10*time.Hour, 170*time.Minute
	return d
}

func TestStrongSwanApp(t *testing.T) {
	t.Parallel()
	user := func(w *world) *peer {
		p := w.atHome(sswanApp(), w.devices())
		p.id, p.user = pki.Identity{Type: pki.IDRFC822Addr, Data: "carol@example.com"}, "carol"
		return p // IDr is not sent unless remote.id is set [S]
	}
	inBubble(t, func(w *world) { comesAgain(user(w)) })
	inBubble(t, func(w *world) {
		p := user(w)
		p.serverID = pki.Identity{Type: pki.IDFQDN, Data: gatewayName}
		p.connect()
		p.browses()
	})
}

// The certificate of the device, and then its user (RFC 4739), which the app calls
// ikev2-cert-eap [S].
func TestStrongSwanAppSecondRound(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		text := devicesFile[:strings.Index(devicesFile, "[connection.machines]")]
		text = strings.Replace(text, "[connection.users.peer]\n", "[connection.users.peer]\nauth = \"cert\"\nca = [\"root.pem\"]\n[connection.users.peer2]\n", 1)
		p := w.atHome(sswanApp(), w.start(text))
		p.cred = w.issue(pki.Request{DNSNames: []string{"phone.example.com"}, Purpose: pki.ClientAuth})
		p.id, p.user = pki.Identity{Type: pki.IDFQDN, Data: "phone.example.com"}, "carol"
		comesAgain(p)
	})
}

func TestNetworkManager(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		p := w.atHome(charonNM(), w.devices())
		p.cred = w.issue(pki.Request{Emails: []string{"carol@example.com"}, Purpose: pki.ClientAuth})
		p.id = pki.Identity{Type: pki.IDRFC822Addr, Data: "carol@example.com"} // the first SAN [S]
		p.serverID = pki.Identity{Type: pki.IDFQDN, Data: gatewayName}
		comesAgain(p)
	})
}

func TestEphemeralPorts_R14(t *testing.T) {
	t.Parallel()
	for _, port := range []uint16{1, 1024, 40123, 65535} {
		inBubble(t, func(w *world) {
			g := w.devices()
			d := charonNM()
			p := w.peer(d, g, natAddr, nil) // no NAT
			p.port = port
			p.id, p.user = pki.Identity{Type: pki.IDRFC822Addr, Data: "carol@example.com"}, "carol"
			p.connect()
			if at := g.sa().RemoteAddr; at.Port() != port {
				t.Errorf("it is at %v", at)
			}
			p.browses()
			p.rekeyChild(p.kids[0])
			p.rekeyIKESA()
			p.browses()
			p.hangUp()
		})
	}
}

// The NAT gives it another port each time that it forgets: it is followed.
func TestEphemeralPortBehindAForgetfulNAT_R14(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		g := w.devices()
		d := sswanApp()
		d.keepalive = 0
		nat := w.net.NAT(natAddr, simnet.NATConfig{})
		p := w.peer(d, g, privateAddr, nat)
		p.id, p.user = pki.Identity{Type: pki.IDRFC822Addr, Data: "carol@example.com"}, "carol"
		p.connect()
		before := g.sa().RemoteAddr
		nat.Rebind()
		p.browses()
		if after := g.sa().RemoteAddr; after == before {
			t.Errorf("it is still at %v", after)
		}
		p.live(time.Hour)
		p.browses()
	})
}

// What it may offer for ESP ends in SHA-1, which the gateway does not take from it by default.
func TestStrongSwanAppGetsTheBest(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		p := w.atHome(sswanApp(), w.devices())
		p.id, p.user = pki.Identity{Type: pki.IDRFC822Addr, Data: "carol@example.com"}, "carol"
		p.connect()
		if p.kids[0].suite.Encr.ID != suite.EncrAESGCM16 || p.kids[0].suite.Encr.KeyLen != 256 || p.sa.suite.Encr.ID != suite.EncrAESGCM16 {
			t.Errorf("%v and %v", p.sa.suite, p.kids[0].suite)
		}
	})
}
