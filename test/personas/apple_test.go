package personas

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet"
	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// apple is what macOS, iOS and the others have in common.
func apple(d device) *device {
	// [S] no vendor ID, no SIGNATURE_HASH_ALGORITHMS; nonces of 16 octets.
	d.init = strings.TrimSpace("SA KE No REDIRECT NATD FRAG " + d.init)
	d.nonce = 16
	// [S] INITIAL_CONTACT always; EAP_ONLY with EAP, whatever the method; CERTREQ only where the
	// profile names the issuer.
	d.auth = "IDi INITIAL_CONTACT IDr CERT CERTREQ AUTH CP NO_TFC NON_FIRST SA TSi TSr MOBIKE EAP_ONLY"
	d.cp = []message.AttributeType{
		message.InternalIP4Address, message.InternalIP4Netmask, message.InternalIP4DHCP, message.InternalIP4DNS,
		message.InternalIP6Address, message.InternalIP6DHCP, message.InternalIP6DNS, message.InternalDNSDomain,
	}
	d.liveness = 10 * time.Minute  // [S] Medium, the default
	d.keepalive = 20 * time.Second // [S] on Wi-Fi
	return &d
}

// byHand is a profile that somebody typed on macOS 13 or later: children at 24 minutes and IKE SAs at
// 48 [D].
func byHand(d device) *device {
	d.childAge, d.ikeAge = 24*time.Minute, 48*time.Minute
	return apple(d)
}

// macOS13 offers one proposal, and replaces children only without PFS [S].
func macOS13() *device {
	return byHand(device{name: "macos13", ike: []string{"aes256-sha256-modp2048"}, esp: []string{"aes256-sha256"}})
}

// macOS14 has four proposals [S]; for ESP it is known only that AES-GCM-256 goes first. Children
// it replaces with the group of the IKE SA or without [S], and an IKE SA with the single
// proposal that was chosen, under the number that it had [S].
func macOS14() *device {
	return byHand(device{
		name:     "macos14",
		ike:      []string{"aes256gcm16-prfsha256-ecp256", "aes256gcm16-prfsha256-modp2048", "aes256-sha256-ecp256", "aes256-sha256-modp2048"},
		esp:      []string{"aes256gcm16", "aes256-sha256"},
		rekeyESP: []string{"aes256gcm16-ecp256", "aes256gcm16"},
		rekeyIKE: sameNumber,
	})
}

// sameNumber is the proposal that was chosen, with the number that it had.
func sameNumber(p *peer) []message.Proposal {
	return []message.Proposal{{Num: p.sa.num, Proposal: p.sa.suite.Proposal()}}
}

// iOS16 has five proposals for each, as of 16.5 [S]. Its times are those of old manual profiles on
// iOS: a lifetime of ten minutes, of which it takes 80 % [S]; how it numbers an IKE SA's
// replacement is not known: all proposals again.
func iOS16() *device {
	d := device{
		name: "ios16",
		ike: []string{
			"aes256-sha256-modp2048", "aes256-sha256-ecp256", "aes256-sha256-modp1536", "aes128-sha1-modp1024", "3des-sha1-modp1024",
		},
		esp:      []string{"aes256-sha256", "aes256-sha256", "aes256-sha256", "aes128-sha1", "3des-sha1"},
		rekeyESP: []string{"aes256-sha256-modp2048", "aes256-sha256"},
		childAge: 8 * time.Minute, ikeAge: 48 * time.Minute,
	}
	return apple(d)
}

// appleProfile is a configuration profile as ours: one proposal each, PFS on, 1440 minutes [S].
func appleProfile() *device {
	return apple(device{
		name: "apple-profile", ike: []string{"aes256gcm16-prfsha256-ecp256"}, esp: []string{"aes256gcm16-ecp256"},
		childAge: 1152 * time.Minute, ikeAge: 1152 * time.Minute,
	})
}

// iOS26 has ML-KEM-768 in its profile and does not go without [S]; where it announces
// IKE_INTERMEDIATE is not known: last. With PFS each child has the additional exchange too.
func iOS26() *device {
	return apple(device{
		name: "ios26", ike: []string{"aes256gcm16-prfsha256-ecp256-ke1_mlkem768"}, init: "INTERMEDIATE",
		esp:      []string{"aes256gcm16"},
		rekeyESP: []string{"aes256gcm16-ecp256-ke1_mlkem768"},
		childAge: 1152 * time.Minute, ikeAge: 1152 * time.Minute,
	})
}

// appleUser is a person with a name and a password; IDi is empty, which sends the address
// [S], IDr is what was typed.
func (w *world) appleUser(d *device, g *gateway) *peer {
	p := w.atHome(d, g)
	p.id, p.user = pki.Addr(p.host.Addr()), "carol"
	p.serverID = pki.Identity{Type: pki.IDFQDN, Data: gatewayName}
	return p
}

// survivesADay checks a device that replaces its SAs by time: for a day, with traffic each
// hour, and hangs up.
func survivesADay(p *peer) {
	p.w.Helper()
	failures := func() int { return p.g.count(martlet.EventDown) + p.g.count(martlet.EventRekeyFailed) }
	before := failures()
	p.browses()
	for range 24 {
		p.live(time.Hour)
		if p.sa == nil {
			p.fails("the connection was lost")
		}
		p.browses()
	}
	if n := len(p.kids); n != 1 {
		p.w.Errorf("%s: %d children after a day", p.name, n)
	}
	if len(p.g.sa().Children) != 1 || failures() > before {
		p.w.Errorf("%s: %+v after a day; %v", p.name, p.g.sa(), p.g.failures())
	}
	p.hangUp()
	p.g.empty()
}

// comesAgain is a device that was used for a day, and is connected once more.
func comesAgain(p *peer) {
	p.w.Helper()
	p.connect()
	address := p.address()
	survivesADay(p)
	p.connect()
	if p.address() != address {
		p.w.Errorf("%s: it had %v and comes back to %v", p.name, address, p.address())
	}
	p.browses()
}

func TestAppleDevices(t *testing.T) {
	t.Parallel()
	for _, d := range []*device{macOS13(), macOS14(), iOS16(), appleProfile(), iOS26()} {
		t.Run(d.name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				g := w.devices()
				p := w.appleUser(d, g)
				p.connect()
				if want := []string{"example.com"}; !slices.Equal(p.domain, want) || len(p.dns) != 1 {
					t.Errorf("domains %v of the resolvers %v", p.domain, p.dns)
				}
				if p.sa.suite.KE.ID == suite.KEMODP1536 || d.name == "ios26" && len(p.sa.suite.AddKEs()) != 1 {
					t.Errorf("the IKE SA has %v", p.sa.suite)
				}
				p.hangUp()
				comesAgain(p)
			})
		})
	}
}

// A device with a certificate of its own signs by SHA-1, since it announces nothing better
// [S], and is let in.
func TestAppleCertificate(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		p := w.atHome(appleProfile(), w.devices())
		p.cred = w.issue(pki.Request{DNSNames: []string{"ipad.example.com"}, Purpose: pki.ClientAuth})
		p.id = pki.Identity{Type: pki.IDFQDN, Data: "ipad.example.com"}
		p.serverID = pki.Identity{Type: pki.IDFQDN, Data: gatewayName}
		comesAgain(p)
	})
}

func TestMacOS14RekeysWithNumberThree_R1(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		g := w.devices(`proposals = ["aes256-sha256-ecp256"]`)
		p := w.appleUser(macOS14(), g)
		p.connect()
		if p.sa.num != 3 {
			t.Fatalf("proposal %d was chosen", p.sa.num)
		}
		p.live(3 * time.Hour)
		if p.sa == nil || p.sa.num != 3 {
			t.Fatal("the IKE SA was not replaced under the number 3")
		}
		survivesADay(p)
	})
}

func TestPFSIsOptional_R4(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		d    *device
		with bool
	}{{macOS13(), false}, {macOS14(), true}, {iOS16(), true}, {appleProfile(), true}} {
		inBubble(t, func(w *world) {
			g := w.devices("rekey = \"0s\"")
			p := w.appleUser(test.d, g)
			p.connect()
			p.rekeyChild(p.kids[0])
			if with := p.kids[0].suite.KE.ID != suite.KENone; with != test.with {
				t.Errorf("%s: the new child has a key exchange: %v", test.d.name, with)
			}
			p.browses()
		})
	}
}

func TestCERTWithoutCERTREQ_R7(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		g := w.devices()
		d := appleProfile()
		if d.certReqs != 0 {
			t.Fatal("it asks for certificates")
		}
		p := w.appleUser(d, g)
		p.connect() // it has the root alone, so that the one between must have come
		if p.server == nil || p.server.Issuer.CommonName != "Intermediate" {
			t.Errorf("the gateway's certificate is %v", p.server)
		}
	})
}

func TestAppleIPv6PoolRoutesIPv6_R18(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		text := strings.NewReplacer(`pool = ["v4"]`, `pool = ["v4", "v6"]`, "[user.\"carol\"]", "[pool.v6]\naddresses = [\"fd00:77::/112\"]\n[user.\"carol\"]").Replace(devicesFile)
		g := w.start(text)
		p := w.appleUser(appleProfile(), g)
		p.connect()
		if len(p.lease) != 2 || !slices.Equal(p.kids[0].other, everything()) {
			t.Errorf("addresses %v for %v", p.lease, p.kids[0].other)
		}
		for _, a := range p.lease {
			if to := serverAddr; a.Addr().Is4() {
				p.talks(a.Addr(), to)
			} else {
				p.talks(a.Addr(), server6Addr)
			}
		}
		survivesADay(p)
	})
}

func TestDomainsComeWithResolvers_R19(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		g := w.start(strings.Replace(devicesFile, "#users", "[connection.users.child.net]\nlocal = [\"10.1.0.0/16\"]", 1))
		p := w.appleUser(iOS16(), g)
		p.connect()
		if !slices.Equal(p.domain, []string{"example.com"}) || !slices.Equal(p.dns, []netip.Addr{netip.MustParseAddr("10.1.0.53")}) {
			t.Errorf("domains %v, resolvers %v", p.domain, p.dns)
		}
		if want := selectors("10.1.0.0/16"); !slices.Equal(p.kids[0].other, want) {
			t.Errorf("selectors %v", p.kids[0].other)
		}
		p.browses()
	})
}

// With INITIAL_CONTACT a device that lost its SA gets rid of it; another device of the same
// person keeps its own where it has another IDi.
func TestAppleInitialContact(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		g := w.devices()
		p := w.appleUser(appleProfile(), g)
		p.connect()
		before := g.sa().SPIr
		p.sa, p.kids = nil, nil // it crashed
		p.connect()
		if after := g.sa().SPIr; after == before {
			t.Error("the old SA is still there")
		}
		p.browses()
	})
}
