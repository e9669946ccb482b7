package personas

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"martlet"
	"martlet/crypto/pki"
	"martlet/ike/message"
	"martlet/test/simnet"
)

// users are the devices on which a person logs in at a gateway with its defaults.
func users() []*device {
	return []*device{windowsPowerShell(), macOS13(), macOS14(), iOS16(), appleProfile(), iOS26(), android(), sswanApp(), charonNM()}
}

// userOf is a person with such a device.
func (w *world) userOf(d *device, g *gateway) *peer {
	p := w.atHome(d, g)
	p.id, p.user = pki.Addr(p.host.Addr()), "carol"
	if strings.Contains(d.auth, "IDr") {
		p.serverID = pki.Identity{Type: pki.IDFQDN, Data: gatewayName}
	}
	return p
}

// Under load the gateway wants a cookie first. A device returns it, with another group where its
// first one is not taken.
func TestEveryDeviceReturnsTheCookie(t *testing.T) {
	t.Parallel()
	for _, d := range users() {
		inBubble(t, func(w *world) {
			g := w.start(strings.Replace(devicesFile, "[node]", "[node]\ncookies = 0", 1))
			p := w.userOf(d, g)
			p.connect()
			p.browses()
			if n := g.Status().Drops["ike-cookie-required"]; n == 0 {
				t.Errorf("%s came in without a cookie: %v", d.name, g.Status().Drops)
			}
		})
	}
}

// The gateway hangs up, the device notices, and its user connects again.
func TestEveryDeviceComesBackAfterTheGatewayHungUp(t *testing.T) {
	t.Parallel()
	for _, d := range users() {
		inBubble(t, func(w *world) {
			g := w.devices()
			p := w.userOf(d, g)
			p.connect()
			g.Disconnect("users")
			p.live(time.Second)
			if p.sa != nil {
				t.Errorf("%s has not got DELETE", d.name)
			}
			g.empty()
			p.connect()
			p.browses()
		})
	}
}

// EAP-Failure comes alone, and the SA is not deleted at once: else Windows shows error 628, which
// says nothing, instead of 691.
func TestWrongPasswordIsToldAsSuch(t *testing.T) {
	t.Parallel()
	for _, d := range users() {
		inBubble(t, func(w *world) {
			g := w.devices()
			p := w.userOf(d, g)
			p.mistypes = true
			if n := p.initiate(); n != nil {
				t.Fatal(n.Notify)
			}
			if n := p.login(); n == nil {
				t.Fatalf("%s came in by a wrong password", d.name)
			}
			if len(p.exchanges) > 0 {
				t.Errorf("%s: the gateway asked %v", d.name, p.exchanges)
			}
			p.mistypes = false
			p.connect()
			p.browses()
		})
	}
}

// roams takes a device with MOBIKE to another network.
func (p *peer) roams(nat *simnet.NAT, addr netip.Addr) {
	p.w.Helper()
	p.host.Behind(nat).Move(addr)
	p.ask(p.sa, message.Informational, append(notify(message.UpdateSAAddresses), p.initParts(p.sa.spii, p.sa.spir)["NATD"]...)...)
	p.live(time.Second)
}

func TestDevicesRoam(t *testing.T) {
	t.Parallel()
	for _, d := range users() {
		inBubble(t, func(w *world) {
			g := w.devices()
			p := w.userOf(d, g)
			p.connect()
			mobile := w.net.NAT(netip.MustParseAddr("203.0.113.77"), simnet.NATConfig{})
			p.roams(mobile, netip.MustParseAddr("100.64.0.7"))
			if at := g.sa().RemoteAddr.Addr(); at != netip.MustParseAddr("203.0.113.77") {
				t.Errorf("%s is at %v", d.name, at)
			}
			p.browses()
			p.live(2 * time.Hour)
			p.browses()
		})
	}
}

// Android up to 12L has no MOBIKE: it replaces its child from the new address [S].
func TestAndroidRekeysFromItsNewAddress(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		g := w.devices()
		d := android()
		d.auth = strings.Replace(d.auth, " MOBIKE", "", 1)
		p := w.userOf(d, g)
		p.connect()
		mobile := w.net.NAT(netip.MustParseAddr("203.0.113.77"), simnet.NATConfig{})
		p.host.Behind(mobile).Move(netip.MustParseAddr("100.64.0.7"))
		p.rekeyChild(p.kids[0])
		p.browses()
		if at := g.sa().RemoteAddr.Addr(); at != netip.MustParseAddr("203.0.113.77") {
			t.Errorf("it is at %v", at)
		}
		survivesADay(p)
	})
}

// Both replace the IKE SA at once, from either side's nonces.
func TestSimultaneousRekeyOfTheIKESA_R20(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		g := w.devices()
		d := macOS14()
		d.ikeAge, d.childAge = 0, 0
		p := w.userOf(d, g)
		p.connect()
		for range 10 {
			done := make(chan error, 1)
			go func() { done <- g.Rekey(w.Context(), "users", "") }()
			p.rekeyIKESA()
			p.live(10 * time.Second)
			if err := <-done; err != nil {
				t.Errorf("our own: %v", err)
			}
			if len(p.old) > 0 || g.sa().SPIi != p.sa.spii.String() {
				t.Fatalf("the device has %v and %d old ones, the gateway %v", p.sa.spii, len(p.old), g.sa().SPIi)
			}
			p.browses()
		}
		if p.ikeRekeys < 5 {
			t.Errorf("only %d of ten were at the same time", p.ikeRekeys)
		}
	})
}

// A gateway that wants its users to log in again every hour asks those that can, and leaves
// Windows alone (R5).
func TestWindowsIsNeverReauthenticated_R5(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		g := w.devices(`reauth = "1h"`)
		p := w.userOf(windowsPowerShell(), g)
		p.connect()
		p.live(24 * time.Hour)
		if p.sa == nil || g.count(martlet.EventDown) > 0 {
			t.Fatalf("it was cut off: %v", g.failures())
		}
		p.browses()
	})
}
