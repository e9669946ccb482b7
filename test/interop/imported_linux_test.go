package interop

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A second address of the gateway, and one of a host behind it.
const otherOffice, otherInside = "203.0.113.3", "10.98.2.2"

// importedProfile is a profile of another program, of which strongSwan's gateway is the peer.
type importedProfile struct {
	name    string // of its folder in testdata/profiles
	file    string // that is imported
	format  string // as Martlet calls it
	gateway string // strongSwan's configuration

	open    bool              // the key's password is not in the profile: it is given to import
	signed  bool              // in the way of CMS
	trusted bool              // the CA is one of the system's
	missing map[string]string // what import asks to be put into the profile's folder
	routes  []string          // what import asks to be sent through each connection
	asks    [][2]string       // questions of up, and the answers
	site    bool              // both sides have a network
}

// Questions of martlet up.
var (
	asksUser     = [2]string{"User name for Test-VPN at " + swanID + ": ", user}
	asksPassword = [2]string{"Password of " + user + " for Test-VPN: ", password}
)

func importedProfiles() []importedProfile {
	const apple, sswan, nm, onc = "Apple configuration profile (.mobileconfig)", "strongSwan profile for Android (.sswan)",
		"NetworkManager keyfile (.nmconnection)", "ChromeOS network configuration (ONC)"
	passwords := forClients("remote { auth = eap-mschapv2\n eap_id = %any }")
	certificates := forClients("remote { auth = pubkey\n id = " + userID + " }")
	keys := forSite("c", officeAddr, swanID, netB4, userID, "ike-1 { secret = \""+secret+"\" }")
	return []importedProfile{
		{name: "apple-password", file: "office.mobileconfig", format: apple, gateway: passwords},
		{name: "apple-certificate", file: "office.mobileconfig", format: apple, gateway: certificates},
		{name: "apple-signed", file: "office.mobileconfig", format: apple, gateway: passwords, signed: true, asks: [][2]string{asksPassword}},
		{name: "sswan-eap", file: "office.sswan", format: sswan, gateway: passwords},
		{name: "sswan-cert", file: "office.sswan", format: sswan, gateway: forClients("remote { auth = pubkey }"), open: true},
		{name: "sswan-eap-tls", file: "office.sswan", format: sswan, gateway: forClients("remote { auth = eap-tls\n eap_id = %any }"), open: true},
		{name: "nm-eap", file: "office.nmconnection", format: nm, gateway: passwords},
		{name: "nm-psk", file: "office.nmconnection", format: nm, gateway: forClients("remote { auth = psk\n id = " + userID + " }")},
		{name: "nm-cert", file: "office.nmconnection", format: nm, gateway: forClients("remote { auth = pubkey }")},
		{name: "swanctl-psk", file: "swanctl.conf", format: "strongSwan swanctl.conf", gateway: keys, site: true},
		{name: "swanctl-cert", file: "swanctl.conf", format: "strongSwan swanctl.conf", gateway: certificates},
		{name: "ipsec-eap", file: "ipsec.conf", format: "strongSwan ipsec.conf", gateway: passwords},
		{name: "ipsec-psk", file: "ipsec.conf", format: "strongSwan ipsec.conf", gateway: keys, site: true},
		{name: "libreswan-psk", file: "ipsec.conf", format: "Libreswan ipsec.conf", gateway: keys, site: true},
		{
			name: "libreswan-cert", file: "ipsec.conf", format: "Libreswan ipsec.conf", gateway: certificates,
			missing: map[string]string{"office-cert.pem": shared.pki.cert("ecdsa", userID), "office-key.pem": shared.pki.key("ecdsa", userID), "office-ca.pem": shared.pki.ca()},
		},
		{name: "pbk", file: "rasphone.pbk", format: "Windows phone book (.pbk)", gateway: passwords, trusted: true, asks: [][2]string{asksUser, asksPassword}},
		{name: "onc-eap", file: "office.onc", format: onc, gateway: passwords},
		{name: "onc-cert", file: "office.onc", format: onc, gateway: certificates},
		{
			name: "aws", file: "vpn.xml", format: "AWS customer gateway configuration (XML)", site: true, routes: []string{inB4, otherInside},
			gateway: forSite("c", officeAddr, officeAddr, inB4+"/32", homeAddr, "ike-1 { id = "+officeAddr+"\n secret = \""+secret+"\" }") +
				forSite("d", otherOffice, otherOffice, otherInside+"/32", homeAddr, "ike-2 { id = "+otherOffice+"\n secret = \""+otherSecret+"\" }"),
		},
	}
}

// forClients is the gateway for road warriors.
func forClients(remote string) string {
	return fmt.Sprintf(`
connections { c { version = 2
	proposals = default
	pools = four
	local { auth = %s
		id = %s
		certs = swan.pem }
	%s
	children { net { local_ts = 0.0.0.0/0
		esp_proposals = aes256gcm16,aes256gcm16-ecp256,default } } } }
pools { four { addrs = 10.97.0.0/24 } }
secrets { eap-1 { id = %s
	secret = "%s" }
	ike-1 { secret = "%s" } }
`, map[bool]string{true: "psk", false: "pubkey"}[strings.Contains(remote, "psk")], swanID, remote, user, password, secret)
}

// forSite is the gateway for a network. AWS takes what is oldest if that is all that is offered.
func forSite(name, addr, id, network, peer, secrets string) string {
	return fmt.Sprintf(`
connections { %s { version = 2
	local_addrs = %s
	proposals = aes256gcm16-prfsha256-x25519,default,aes128-sha1-modp1024
	local { auth = psk
		id = %s }
	remote { auth = psk
		id = %s }
	children { net-%[1]s { local_ts = %[5]s
		remote_ts = %s
		esp_proposals = aes256gcm16-x25519,aes128gcm16-modp3072,aes256gcm16-modp2048,aes128-sha1-modp1024 } } } }
secrets { %s }
`, name, addr, id, peer, network, netA4, secrets)
}

// importer is a road warrior that imports profiles, and their gateway.
type importer struct {
	*roads
	swan     *swan
	env      []string
	profiles string
	fields   profileFields
}

func newImporter(t *testing.T) *importer {
	t.Helper()
	i := &importer{roads: newRoads(t), fields: newProfileFields(t)}
	i.enter(homeAddr)
	i.warrior.ip("addr add " + inA4 + "/32 dev lo")
	i.gateway.ip("addr add " + otherOffice + "/24 dev eth0")
	i.gateway.ip("addr add " + otherInside + "/32 dev lo")
	i.warrior.resolvers("nameserver " + homeRouter + "\n")
	(&nameServer{zone: map[string][]netip.Addr{swanID: {netip.MustParseAddr(officeAddr)}}}).serve(i.router, homeRouter)
	i.swan = startSwan(i.gateway, swanSettings{plugins: eapPlugins}, "ecdsa", importedProfiles()[0].gateway)
	i.profiles = filepath.Join(i.warrior.dir, "profiles")
	i.env = []string{
		"MARTLET_PROFILES=" + i.profiles,
		"MARTLET_NODE_CONTROL=" + filepath.Join(i.warrior.dir, "control.sock"),
		"MARTLET_NODE_STATE=" + filepath.Join(i.warrior.dir, "state"),
	}
	return i
}

// martlet runs a command of the program, which must succeed, and returns what it says.
func (i *importer) martlet(args ...string) string {
	i.warrior.t.Helper()
	return i.warrior.run(append(append([]string{"env"}, i.env...), append([]string{shared.martlet}, args...)...)...)
}

// load gives strongSwan another configuration.
func (i *importer) load(t *testing.T, swanctl string) {
	t.Helper()
	if out, err := i.swan.ctl("--load-all", "--file", i.gateway.write("swanctl.conf", swanctl)); err != nil || !strings.Contains(out, "successfully loaded") {
		t.Fatalf("swanctl --load-all: %v\n%s", err, out)
	}
}

// TestImported: a profile of each format is imported, up and used, shown and forgotten.
func TestImported(t *testing.T) {
	start(t)
	i := newImporter(t)
	for _, p := range importedProfiles() {
		t.Run(p.name, func(t *testing.T) {
			on := *i
			on.roads = &roads{warrior: i.warrior.as(t), router: i.router, gateway: i.gateway.as(t)}
			on.load(t, p.gateway)
			on.bringIn(t, p)
			on.use(t, p)
			on.lookAt(t, p)
		})
	}
}

// bringIn imports the profile, and does what import says is left to be done.
func (i *importer) bringIn(t *testing.T, p importedProfile) {
	t.Helper()
	file := filepath.Join(i.fields.write(t, p.name), p.file)
	args := []string{"import", file, "--name", p.name}
	if p.signed {
		sign(t, file)
	}
	if p.open {
		args = append(args, "--password-file", i.warrior.write("key-password", i.fields.KeyPassword))
	}
	if p.trusted {
		i.warrior.trusts(readFile(t, shared.pki.ca()))
	}
	said := i.martlet(args...)
	if want := p.name + " is imported from " + p.file + ": " + p.format + "\n"; !strings.Contains(said, want) {
		t.Errorf("import does not say %q:\n%s", want, said)
	}
	i.hidden(t, said)
	next := "\n  martlet up " + p.name
	if strings.Contains(said, "To be done before it works:") != (p.missing != nil) {
		t.Errorf("import says otherwise what is left to be done:\n%s", said)
	}
	folder := filepath.Join(i.profiles, p.name)
	if p.missing != nil {
		next = "\n  martlet check " + p.name
	}
	if !strings.Contains(said, next) {
		t.Errorf("import does not say %q:\n%s", next, said)
	}
	for name, from := range p.missing {
		if !strings.Contains(said, name) {
			t.Errorf("import does not ask for %s", name)
		}
		if err := os.WriteFile(filepath.Join(folder, name), []byte(readFile(t, from)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(folder, "martlet.toml")
	for _, to := range p.routes {
		if !strings.Contains(said, "list there the networks") {
			t.Error("import does not ask for routes")
		}
		// Notes at the top of the file have the key, too.
		text := strings.Replace(readFile(t, config), "\nroutes = \"none\"\n", fmt.Sprintf("\nroutes = [\"%s/32\"]\n", to), 1)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if said := i.martlet("check", p.name); !strings.Contains(said, ": good: ") {
		t.Errorf("check: %s", said)
	}
}

// use brings the profile up, reaches a host behind the gateway, and takes it down.
func (i *importer) use(t *testing.T, p importedProfile) {
	t.Helper()
	m := &node{ns: i.warrior, program: shared.martlet}
	args := []string{shared.martlet, "up", p.name}
	names := []string{""}
	if len(p.routes) > 0 {
		names = []string{"vpn-0123456789abcdef0-1", "vpn-0123456789abcdef0-2"}
		args = append(args, names[0])
	}
	up := i.warrior.onTerminal("martlet up", i.env, args...)
	for _, q := range p.asks {
		up.answers(q[0], q[1])
	}
	m.proc = up.process
	from := inA4
	if s := m.awaitUp(1); !p.site {
		from, _ = virtual(s)
	}
	i.warrior.ping(from, inB4)
	for _, name := range names[1:] {
		i.martlet("up", p.name, name)
		i.warrior.ping(from, otherInside)
	}
	if said := i.martlet("list"); !strings.HasPrefix(said, p.name+"  up ") {
		t.Errorf("list while it is up: %s", said)
	}
	i.martlet("down", p.name)
	if status := up.wait(); status != 0 {
		t.Errorf("up ended with %d", status)
	}
	i.hidden(t, up.out.String())
	m.undone()
}

// lookAt has the profile listed and shown, and forgotten.
func (i *importer) lookAt(t *testing.T, p importedProfile) {
	t.Helper()
	listed, shown := i.martlet("list"), i.martlet("show", p.name)
	if !strings.HasPrefix(listed, p.name+"  down ") || !strings.Contains(listed, p.format) {
		t.Errorf("list: %s", listed)
	}
	if !strings.HasPrefix(shown, p.name+": ") || !strings.Contains(shown, "imported from "+p.file) {
		t.Errorf("show: %s", shown)
	}
	i.hidden(t, listed+shown+i.martlet("show", p.name, "--json")+i.martlet("list", "--json"))
	i.martlet("forget", p.name)
	if said := i.martlet("list"); strings.Contains(said, p.name) {
		t.Errorf("list after forget: %s", said)
	}
	if left, err := os.ReadDir(i.profiles); err != nil || len(left) > 0 {
		t.Errorf("forget leaves %v, %v", left, err)
	}
}

// hidden fails the test if a secret stands in what was printed.
func (i *importer) hidden(t *testing.T, printed string) {
	t.Helper()
	for _, s := range []string{password, secret, otherSecret, i.fields.KeyPassword, "PRIVATE KEY"} {
		if strings.Contains(printed, s) {
			t.Errorf("a secret is printed: %s", printed)
		}
	}
}
