package interop

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"martlet/crypto/pki"
)

// TestReload: strongSwan's tunnel stays while what does not concern it changes, gets other
// selectors when these change, without losing a ping, and goes with its connection.
func TestReload(t *testing.T) {
	start(t)
	p, leaks := scenario{
		name: "reload", auth: "psk", known: true,
		// strongSwan would lose its route to the network that stays the same in both.
		localA: []string{inA4 + "/32"}, remoteB: []string{"10.98.0.0/16"},
	}.prepare(t, true)
	p.m.serve()
	p.m.awaitUp(1)
	p.traffic(t, inA4, inB4)
	first := p.onlySA(t)
	text := readFile(t, p.m.config)
	reload := func(text string) (string, error) {
		if err := os.WriteFile(p.m.config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p.m.martlet("reload", "-c", p.m.config)
	}
	same := func(what string) {
		t.Helper()
		if now := p.onlySA(t); now.SPIi != first.SPIi || now.Children[0].SPIIn != first.Children[0].SPIIn {
			t.Errorf("%s: the SA is another one", what)
		}
	}

	more := text + "[connection.other]\n[connection.other.local]\nauth = \"psk\"\nid = \"x.test\"\nsecret = \"" + secret + "\"\n[connection.other.peer]\nauth = \"psk\"\nid = \"y.test\"\n"
	if out, err := reload(more); err != nil {
		t.Errorf("martlet reload: %v\n%s", err, out)
	}
	if list := p.m.now().Connections; strings.Join(list, " ") != "other site" {
		t.Errorf("connections are %q", list)
	}
	same("another connection")
	if out, err := reload(text + "[connection.broken]\nremote = 5\n"); err == nil {
		t.Errorf("a file with a fault is taken:\n%s", out)
	}
	same("a file with a fault")
	// A peer on a busy machine may lose one packet, but not one in each of three runs.
	var lost string
	for run := range 3 {
		pings := p.net.a.spawn("ping", nil, "ping", "-n", "-I", inA4, "-i", "0.05", "-W", "5", inB4)
		pings.says("icmp_seq=5 ")
		next, want := strings.Replace(more, inA4+"/32", netA4, 1), netA4
		if run == 1 {
			next, want = more, inA4+"/32"
		}
		if out, err := reload(next); err != nil {
			t.Errorf("martlet reload: %v\n%s", err, out)
		}
		until(t, "the child has the new selectors", func() bool {
			s := p.m.status()
			return s != nil && len(s.SAs) == 1 && len(s.SAs[0].Children) == 1 && s.SAs[0].Children[0].Local[0] == want
		})
		p.oneEach(t)
		answered := sequences(pings.out.String())
		until(t, "pings are answered", func() bool { return sequences(pings.out.String()) > answered+10 })
		pings.stop(2)
		if lost = unanswered(pings.out.String()); lost == "" {
			break
		}
	}
	if lost != "" {
		t.Errorf("pings were lost each time: %s", lost)
	}
	p.traffic(t, inA4, inB4)
	_, rest, _ := strings.Cut(more, "[connection.other]")
	head, _, _ := strings.Cut(text, "[connection.site]")
	if out, err := reload(head + "[connection.other]" + rest); err != nil {
		t.Errorf("martlet reload: %v\n%s", err, out)
	}
	p.m.awaitDown()
	until(t, "strongSwan has no SA left", func() bool { return strings.TrimSpace(p.s.sas()) == "" })
	leaks.clean(t)
	p.m.end()
}

// TestConnectionChosen: a gateway with several connections finds the one for who comes: by
// the identity, by the way to prove it, and by the CA that vouches for it.
func TestConnectionChosen(t *testing.T) {
	start(t)
	b := newBureau(t, pki.ECDSAP256)
	n := direct(t, false)
	chain := pki.EncodeCertificate(b.martlet.Cert, b.research.Cert)
	connection := func(name, peer string) string {
		return fmt.Sprintf(`
[connection.%[1]s.local]
auth = "cert"
cert = [%[2]q]
key = [%[3]q]
[connection.%[1]s.peer]
%[4]s[connection.%[1]s.child.net]
local = [%[5]q]
remote = [%[6]q]
`, name, b.file("martlet.pem", chain), b.file("martlet.key", b.keyPEM(b.martlet)), peer, netA4, netB4)
	}
	psk := fmt.Sprintf("auth = \"psk\"\nsecret = %q\n", secret)
	research := b.file("research.pem", pki.EncodeCertificate(b.research.Cert))
	sales := b.file("sales.pem", pki.EncodeCertificate(b.sales.Cert))
	g := newNode(n.a, "", connection("keys", psk+"id = \"*.keys.test\"\n")+
		connection("research", fmt.Sprintf("auth = \"cert\"\nca = [%q]\nid = \"*.research.test\"\n", research))+
		connection("sales", fmt.Sprintf("auth = \"cert\"\nca = [%q]\n%s", sales, swanIs)))
	g.serve()
	issue := func(ca *pki.Authority) *pki.Credential {
		c, err := ca.Issue(pki.Request{DNSNames: []string{"dave.research.test"}, Now: time.Now(), Key: pki.ECDSAP256})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	other, poser := issue(b.research), issue(b.sales)
	for name, data := range map[string][]byte{
		"x509ca/root.pem": pki.EncodeCertificate(b.root.Cert),
		"x509/sales.pem":  pki.EncodeCertificate(b.swan.Cert), "private/sales.pem": b.keyPEM(b.swan),
		"x509/research.pem": pki.EncodeCertificate(other.Cert), "private/research.pem": b.keyPEM(other),
		"x509/poser.pem": pki.EncodeCertificate(poser.Cert), "private/poser.pem": b.keyPEM(poser),
	} {
		n.b.write(name, string(data))
	}
	to := func(name, local string) string {
		return fmt.Sprintf(`
	%s { version = 2
		remote_addrs = %s
		proposals = aes256gcm16-prfsha256-x25519
		local { %s }
		remote { auth = pubkey
			id = %s }
		children { %s { local_ts = %s
			remote_ts = %s
			esp_proposals = aes256gcm16 } } }`, name, n.addrA, local, martletID, name, netB4, netA4)
	}
	s := startSwan(n.b, swanSettings{}, "", "connections {"+
		to("keys", "auth = psk\n id = carol.keys.test")+
		to("stranger", "auth = psk\n id = carol.test")+
		to("research", "auth = pubkey\n id = dave.research.test\n certs = research.pem")+
		to("poser", "auth = pubkey\n id = dave.research.test\n certs = poser.pem")+
		to("sales", "auth = pubkey\n id = "+swanID+"\n certs = sales.pem")+
		fmt.Sprintf("\n}\nsecrets { ike-1 { secret = %q } }\n", secret))
	for _, name := range []string{"keys", "research", "sales"} {
		if out, err := s.initiate(name); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
			continue
		}
		if got := g.awaitUp(1).SAs[0].Connection; got != name {
			t.Errorf("%s came in by %s", name, got)
		}
		n.a.ping(inA4, inB4)
		if out, err := s.ctl("--terminate", "--ike", name); err != nil {
			t.Errorf("swanctl --terminate: %v\n%s", err, out)
		}
		g.awaitDown()
	}
	// One has the key, the other a certificate of the wrong CA for a name of the other.
	for name, why := range map[string]string{"stranger": "unknown-identity", "poser": "cert-untrusted"} {
		if out, err := s.initiate(name); err == nil || !strings.Contains(out, "AUTHENTICATION_FAILED") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		g.proc.says(why)
	}
	g.end()
}
