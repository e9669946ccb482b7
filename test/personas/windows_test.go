package personas

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet"
	"martlet/config"
	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/message"
	"martlet/test/simnet"
)

// Win32 errors in the data of MS_STATUS [S].
const (
	invalidSituation = 13863 // ERROR_IPSEC_IKE_INVALID_SITUATION
	ikeError         = 13816 // ERROR_IPSEC_IKE_ERROR
)

// windows is what all Windows 10 and 11 have in common.
func windows(d device) *device {
	// [S] SA KE No N(FRAGMENTATION_SUPPORTED) N(NAT_D) N(NAT_D) V V V; Vid-Initial-Contact is
	// absent with EAP. The length of the nonce is not known: 32.
	d.init, d.nonce = "SA KE No FRAG NATD V", 32
	d.vendors = []string{
		"1e2b516905991c7d7c96fcbfb587e46100000009", // MS NT5 ISAKMPOAKLEY v9
		"fb1de3cdf341b7ea16b7e5be0855f120",         // MS-Negotiation Discovery Capable
		"01528bbbc00696121849ab9a1c5b2a5100000002", // not documented
	}
	d.stubborn = true // [S] it cannot recover from a group that is not supported
	// [S] with EAP: no AUTH, no IDr, no INITIAL_CONTACT.
	d.auth = "IDi CERTREQ MOBIKE CP SA TSi TSr"
	d.certReqs, d.fragment = 53, 580 // [S]
	d.cp = []message.AttributeType{
		message.InternalIP4Address, message.InternalIP4DNS, message.InternalIP4NBNS, message.MSInternalIP4Server,
		message.InternalIP6Address, message.InternalIP6DNS, message.MSInternalIP6Server,
	}
	// [K] main mode lives 28,800 s. Children are replaced by volume [S], the tests do that; how
	// it looks after the gateway is not known: it does not.
	d.ikeAge = 8 * time.Hour
	d.childRekeyed = msStatus
	return &d
}

// msStatus is how Windows takes a child of the gateway's in place of another [S]: 13816 where
// it brings a key exchange that Windows was not configured for, be it one of several
// proposals, 13863 behind a NAT. What it does without a NAT is not known: the same.
func msStatus(p *peer, ps []message.Payload) []message.Payload {
	code := uint32(invalidSituation)
	if _, ok := message.Find[*message.KE](ps); ok && firstGroup(offer(suite.ProtocolESP, nil, p.esp...)) == 0 {
		code = ikeError
	}
	return notify(message.MSStatus, binary.BigEndian.AppendUint32(nil, code)...)
}

// windowsESP is what it offers for children without PowerShell [S], by whichever number of
// proposals, which is not known: one each.
var windowsESP = []string{"aes256-sha1", "aes128-sha1", "3des-sha1", "des-sha1", "null-sha1"}

// windowsDefault is Windows as it is installed: twelve proposals, 3DES first and AES-256 last;
// the number 11 is AES-256 with SHA-256 [S], the order of the others follows from that [D].
func windowsDefault() *device {
	d := device{name: "windows", esp: windowsESP}
	for _, encr := range []string{"3des", "aes128", "aes192", "aes256"} {
		for _, integ := range []string{"sha1", "sha256", "sha384"} {
			d.ike = append(d.ike, encr+"-"+integ+"-modp1024")
		}
	}
	return windows(d)
}

// windowsDH2048 has the registry's NegotiateDH2048_AES256 at 2 [S].
func windowsDH2048() *device {
	return windows(device{
		name: "windows-dh2048", esp: windowsESP,
		ike: []string{"aes256-sha1-modp2048", "aes256-sha256-modp2048", "aes256-sha384-modp2048"},
	})
}

// windowsPowerShell was given our own command (Set-VpnConnectionIPsecConfiguration) [S].
func windowsPowerShell() *device {
	return windows(device{
		name: "windows-powershell", ike: []string{"aes256gcm16-prfsha384-ecp384"}, esp: []string{"aes256gcm16-ecp384"},
	})
}

// windowsUser is a person who logs in: IDi is the private IPv4 address of the adapter [S].
func (w *world) windowsUser(d *device, g *gateway, user string) *peer {
	p := w.atHome(d, g)
	p.id, p.user = pki.Addr(p.host.Addr()), user
	return p
}

// aDay is a day of a Windows machine in use: it replaces its child after each 200 MiB.
func aDay(p *peer) {
	p.w.Helper()
	for range 24 {
		p.live(time.Hour)
		if p.sa == nil {
			p.fails("the connection was lost")
		}
		p.rekeyChild(p.kids[len(p.kids)-1])
		p.browses()
	}
}

func TestWindowsDefaultIsRefusedWithTheFix_R16(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		g := w.devices()
		p := w.windowsUser(windowsDefault(), g, "carol")
		n := p.initiate()
		if n == nil || n.Notify != message.NoProposalChosen {
			t.Fatalf("answer %v", n)
		}
		hint := g.hint("Set-VpnConnectionIPsecConfiguration")
		for _, part := range []string{
			"Set-VpnConnectionIPsecConfiguration -ConnectionName NAME -AuthenticationTransformConstants GCMAES256 " +
				"-CipherTransformConstants GCMAES256 -EncryptionMethod GCMAES256 -IntegrityCheckMethod SHA384 -DHGroup ECP384 -PfsGroup ECP384 -Force",
			`legacy = "windows-default"`,
		} {
			if !strings.Contains(hint, part) {
				t.Errorf("the gateway says %q, which does not tell %q", hint, part)
			}
		}
		g.empty()
	})
}

func TestWindowsDefaultComesInByLegacy(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		g := w.devices(`legacy = "windows-default"`)
		if !slices.ContainsFunc(g.Config.Warnings, func(x config.Warning) bool { return strings.Contains(x.Text, "modp1024") }) {
			t.Error("nobody is warned")
		}
		p := w.windowsUser(windowsDefault(), g, "carol")
		p.connect()
		if p.sa.num != 12 {
			t.Errorf("proposal %d was taken, and AES-256 with SHA-384 is the best", p.sa.num)
		}
		p.browses()
		aDay(p)
		p.hangUp()
		g.empty()
	})
}

func TestWindowsDH2048NeedsSHA1InESP_R15(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		g := w.devices()
		p := w.windowsUser(windowsDH2048(), g, "carol")
		if n := p.initiate(); n != nil {
			t.Fatalf("IKE_SA_INIT is refused: %v", n.Notify)
		}
		if n := p.login(); n == nil || n.Notify != message.NoProposalChosen {
			t.Fatalf("the child: %v", n)
		}
		if g.hint("Set-VpnConnectionIPsecConfiguration") == "" {
			t.Errorf("nobody says what to do: %v", g.failures())
		}
	})
	inBubble(t, func(w *world) {
		g := w.devices(`legacy = "windows-default"`)
		p := w.windowsUser(windowsDH2048(), g, "carol")
		p.connect()
		if integ := p.kids[0].suite.Integ.ID; integ != suite.IntegHMACSHA1_96 {
			t.Errorf("ESP has the integrity algorithm %d", integ)
		}
		p.browses()
		aDay(p)
		p.hangUp()
		g.empty()
	})
}

func TestWindowsByPowerShell(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		g := w.devices()
		p := w.windowsUser(windowsPowerShell(), g, "carol")
		p.connect()
		if want := []netip.Addr{netip.MustParseAddr("10.1.0.53")}; !slices.Equal(p.dns, want) {
			t.Errorf("resolvers %v", p.dns)
		}
		if len(p.kids[0].own) != 1 || p.kids[0].own[0].From != p.address() || len(p.kids[0].other) != 1 || p.kids[0].other[0] != everything()[0] {
			t.Errorf("without an IPv6 pool the selectors are %v and %v", p.kids[0].own, p.kids[0].other)
		}
		p.browses()
		aDay(p)
		address := p.address()
		p.hangUp()
		g.empty()
		p.connect()
		if p.address() != address {
			t.Errorf("it had %v and comes back to %v", address, p.address())
		}
		p.browses()
	})
}

func TestWindowsNeverGetsAServerRekey_R5(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		g := w.devices("rekey = \"0s\"")
		d := windowsPowerShell()
		d.ikeAge = 0
		p := w.windowsUser(d, g, "carol")
		p.connect()
		p.live(24 * time.Hour)
		if p.childRekeys+p.ikeRekeys > 0 || p.sa == nil || slices.Contains(p.told, message.AuthLifetime) {
			t.Errorf("in a day %d children and %d IKE SAs were replaced; it was told %v", p.childRekeys, p.ikeRekeys, p.told)
		}
		p.browses()
		if n := g.count(martlet.EventDown); n > 0 {
			t.Errorf("%d SAs went down", n)
		}
		// Not by command either: it is told why.
		err, ok := errors.AsType[*martlet.Error](g.Rekey(w.Context(), "users", "net"))
		if !ok || !strings.Contains(err.Why, "Windows") {
			t.Errorf("by command: %v", err)
		}
		p.browses()
	})
}

func TestRekeyTowardWindowsBeginsWithItsGroup_R6(t *testing.T) {
	t.Parallel()
	for _, d := range []*device{windowsDH2048(), windowsDefault(), windowsPowerShell()} {
		inBubble(t, func(w *world) {
			g := w.devices(`legacy = "windows-default"`)
			d.ikeAge = 0 // so that it is ours
			p := w.windowsUser(d, g, "carol")
			p.connect()
			p.live(24 * time.Hour)
			if p.sa == nil || p.ikeRekeys < 3 || g.count(martlet.EventRekeyFailed) > 0 {
				t.Fatalf("%s: %d IKE SAs were replaced: %v", d.name, p.ikeRekeys, g.failures())
			}
			p.browses()
		})
	}
}

func TestGatewayFindsTheUserWithoutIDr_R8(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		g := w.devices()
		p := w.windowsUser(windowsPowerShell(), g, "carol")
		p.connect()
		if sa := g.sa(); sa.Connection != "users" || sa.RemoteID != "carol" || sa.LocalID != gatewayName {
			t.Errorf("%s: %s is %s", sa.Connection, sa.RemoteID, sa.LocalID)
		}
	})
}

func TestTwoWindowsOfOneAddress_R9(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		g := w.devices()
		carol := w.windowsUser(windowsPowerShell(), g, "carol")
		carol.connect()
		d := windowsPowerShell()
		d.name = "another"
		dave := w.peer(d, g, privateAddr, w.net.NAT(netip.MustParseAddr("203.0.113.2"), simnet.NATConfig{}))
		dave.id, dave.user = pki.Addr(privateAddr), "dave"
		dave.connect()
		if carol.id != dave.id || carol.address() == dave.address() {
			t.Errorf("%v at %v and %v at %v", carol.id, carol.address(), dave.id, dave.address())
		}
		carol.browses()
		dave.browses()
		carol.live(10 * time.Second)
		if n := len(g.Status().SAs); n != 2 {
			t.Errorf("%d SAs", n)
		}
	})
}

func TestDomainBeforeTheUser_R10(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		g := w.start(strings.Replace(strings.Replace(devicesFile, "#users", "", 1), "auth = \"eap-mschapv2\"", "auth = \"eap-mschapv2\"\nstrip_domain = true", 1))
		p := w.windowsUser(windowsPowerShell(), g, `CORP\carol`)
		p.connect()
		p.browses()
	})
	inBubble(t, func(w *world) {
		g := w.start(strings.Replace(devicesFile, `[user."carol"]`, `[user."CORP\\carol"]`, 1))
		p := w.windowsUser(windowsPowerShell(), g, `CORP\carol`)
		p.connect()
		p.browses()
	})
}

func TestNAKOfEAPTLS_R11(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		g := w.start(strings.Replace(devicesFile, `auth = "eap-mschapv2"`, "auth = \"eap\"\nca = [\"root.pem\"]", 1))
		p := w.windowsUser(windowsPowerShell(), g, "carol")
		p.connect()
		p.browses()
	})
}

func TestWindowsFragments_R12(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		g := w.devices()
		p := w.windowsUser(windowsPowerShell(), g, "carol")
		if n := p.initiate(); n != nil {
			t.Fatal(n.Notify)
		}
		if n := len(p.seal(p.sa, p.sa.header(message.IKEAuth, 1, false), p.lay(p.auth, p.authParts(random(4))))); n != 3 {
			t.Errorf("%d fragments, and Windows sends 3 [S]", n)
		}
		if n := p.login(); n != nil {
			t.Fatal(n.Notify)
		}
		p.browses()
	})
	// A machine with its certificate: IDi is the subject, Vid-Initial-Contact is there [S].
	inBubble(t, func(w *world) {
		g := w.devices()
		d := windowsPowerShell()
		d.auth = "IDi CERT CERTREQ AUTH MOBIKE CP SA TSi TSr"
		d.vendors = append(d.vendors, "26244d38eddb61b3172a36e3d0cfb819")
		p := w.atHome(d, g)
		p.cred = w.issue(pki.Request{DNSNames: []string{"laptop.example.com"}, Purpose: pki.ClientAuth})
		p.id = pki.DN(p.cred.Cert.RawSubject)
		p.connect()
		if sa := g.sa(); sa.Connection != "machines" {
			t.Errorf("the machine is on %s", sa.Connection)
		}
		p.browses()
		aDay(p)
	})
}

func TestUnknownAttributesAndVendors_R13(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		g := w.devices()
		d := windowsPowerShell()
		d.cp = append([]message.AttributeType{30000}, d.cp...)
		d.vendors = append(d.vendors, "00", "ffffffffffffffffffffffffffffffffffffffffffffffff")
		p := w.windowsUser(d, g, "carol")
		p.connect()
		p.browses()
	})
}

// The child of a Windows machine that chooses PFS and asks without: it is let (R4 of the
// gateway, who has groups in its proposals).
func TestWindowsWithoutPFS_R4(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		g := w.devices()
		d := windowsPowerShell()
		d.esp = []string{"aes256gcm16"}
		p := w.windowsUser(d, g, "carol")
		p.connect()
		aDay(p)
	})
}

// A Windows that nobody can recognize, since it sends neither vendor IDs nor attributes of its own:
// it refuses the gateway's child, both go on with the old one, and a person is told what the number
// means. The child that it makes itself later is taken.
func TestWindowsRefusesAServerRekeyWithMSStatus_R5(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		esp  string
		name string
	}{{"aes256gcm16-ecp384", "ERROR_IPSEC_IKE_INVALID_SITUATION"}, {"aes256gcm16", "ERROR_IPSEC_IKE_ERROR"}} {
		inBubble(t, func(w *world) {
			g := w.devices()
			d := windowsPowerShell()
			d.vendors, d.cp, d.esp = nil, []message.AttributeType{message.InternalIP4Address, message.InternalIP4DNS}, []string{test.esp}
			p := w.windowsUser(d, g, "carol")
			p.connect()
			p.live(64 * time.Minute)
			if p.childRekeys == 0 || p.sa == nil || len(p.kids) != 1 {
				t.Fatalf("%d requests for a child", p.childRekeys)
			}
			if g.hint(test.name) == "" {
				t.Errorf("nobody is told what the number means: %v", g.failures())
			}
			p.browses()
			p.rekeyChild(p.kids[0])
			p.browses()
		})
	}
}
