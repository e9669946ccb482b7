package interop

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	"martlet"
)

// scenario is one way to make a tunnel between Martlet (host A) and strongSwan (host B),
// tried with each as initiator.
type scenario struct {
	name   string
	node   string                      // lines of Martlet's [node]
	before func(t *testing.T, p *pair) // the attempt that counts
	six    bool                        // IPv6 outside
	nat    bool                        // both behind a NAT
	known  bool                        // each knows where the other is, and may begin
	auth   string                      // "psk", or a kind of key
	proofs func(t *testing.T) *proofs  // instead of auth
	secret string                      // strongSwan's, where it is not Martlet's
	ike    string                      // proposals
	esp    string
	swan   swanSettings
	// Where these are empty, both sides have the same, or the networks inside of IPv4.
	swanIKE, swanESP               string
	localA, remoteA                []string // Martlet's selectors
	localB, remoteB                []string // strongSwan's
	moreA, moreB                   string   // lines of the connection
	childA, childB                 string   // lines of the child
	poolA, poolB                   string   // whole sections of the side that responds
	alsoA, alsoB                   string   // whole sections
	initiatorMoreA, initiatorMoreB string   // lines of the connection of the side that initiates
	responderMoreA, responderMoreB string
	check                          func(t *testing.T, p *pair)
	fails                          *failure // it must not come up
}

// failure is how an attempt must fail: what Martlet says as initiator and its exit
// status; what it says as responder, and strongSwan then.
type failure struct {
	says     string
	status   int
	logs     string
	swanSays string
}

// pair is a scenario that runs.
type pair struct {
	scenario
	net      *network
	m        *node
	s        *swan
	initiate bool // Martlet is the initiator
	proof    *proofs
	status   *martlet.Status
}

const secret = "a secret of sixteen and more"

func orElse[T any](list, other []T) []T {
	if len(list) > 0 {
		return list
	}
	return other
}

func lines(on bool, text string) string {
	if on {
		return text
	}
	return ""
}

// toml is Martlet's connection.
func (p *pair) toml() string {
	sc := p.scenario
	var b strings.Builder
	b.WriteString("[connection.site]\n")
	if p.initiate || sc.known {
		fmt.Fprintf(&b, "remote = [%q]\n", p.net.addrB)
	}
	if sc.ike != "" {
		fmt.Fprintf(&b, "proposals = [%q]\n", sc.ike)
	}
	b.WriteString(sc.moreA + lines(p.initiate, sc.initiatorMoreA) + lines(!p.initiate, sc.responderMoreA))
	if p.proof != nil {
		b.WriteString(p.proof.martlet)
	} else if sc.auth == "psk" {
		fmt.Fprintf(&b, "[connection.site.local]\nauth = \"psk\"\nid = %q\nsecret = %q\n", martletID, secret)
		fmt.Fprintf(&b, "[connection.site.peer]\nauth = \"psk\"\nid = %q\n", swanID)
	} else {
		fmt.Fprintf(&b, "[connection.site.local]\nauth = \"cert\"\ncert = [%q]\nkey = [%q]\n",
			shared.pki.cert(sc.auth, martletID), shared.pki.key(sc.auth, martletID))
		fmt.Fprintf(&b, "[connection.site.peer]\nauth = \"cert\"\nid = %q\nca = [%q]\n", swanID, shared.pki.ca())
	}
	b.WriteString("[connection.site.child.net]\n")
	if sc.esp != "" {
		fmt.Fprintf(&b, "proposals = [%q]\n", sc.esp)
	}
	fmt.Fprintf(&b, "local = %s\nremote = %s\n", quoted(orElse(sc.localA, []string{netA4})), quoted(orElse(sc.remoteA, []string{netB4})))
	return b.String() + sc.childA + lines(!p.initiate, sc.poolA) + sc.alsoA
}

// swanctl is strongSwan's connection.
func (p *pair) swanctl() string {
	sc := p.scenario
	remote := "%any"
	if !p.initiate || sc.known {
		remote = p.net.addrA
	}
	ike, own := sc.swanIKE, sc.secret
	if ike == "" {
		ike = sc.ike
	}
	if ike == "" {
		ike = "aes256gcm16-prfsha256-x25519,default"
	}
	if own == "" {
		own = secret
	}
	local := fmt.Sprintf("auth = pubkey\n id = %s\n certs = swan.pem", swanID)
	demand := fmt.Sprintf("auth = pubkey\n id = %s", martletID)
	secrets := fmt.Sprintf("ike-1 { secret = %q }", own)
	if sc.auth == "psk" {
		local, demand = fmt.Sprintf("auth = psk\n id = %s", swanID), fmt.Sprintf("auth = psk\n id = %s", martletID)
	}
	if p.proof != nil {
		local, demand, secrets = p.proof.swanLocal, p.proof.swanRemote, p.proof.swanSecrets
	}
	esp := sc.swanESP
	if esp == "" {
		esp = sc.esp
	}
	if esp == "" {
		esp = "aes256gcm16"
	}
	return fmt.Sprintf(`
connections { c { version = 2
	remote_addrs = %s
	proposals = %s
	%s
	local { %s }
	remote { %s }
	children { net { local_ts = %s
		remote_ts = %s
		esp_proposals = %s
		%s } } } }
secrets { %s }
%s
`, remote, ike, sc.moreB+lines(!p.initiate, sc.initiatorMoreB)+lines(p.initiate, sc.responderMoreB),
		local, demand,
		strings.Join(orElse(sc.localB, []string{netB4}), ","), strings.Join(orElse(sc.remoteB, []string{netA4}), ","),
		esp, sc.childB, secrets, lines(p.initiate, sc.poolB)+sc.alsoB)
}

// prepare makes the hosts, with strongSwan running, and looks for leaks from now on.
func (sc scenario) prepare(t *testing.T, initiate bool) (*pair, *wiretap) {
	t.Helper()
	p := &pair{scenario: sc, initiate: initiate}
	if sc.nat {
		p.net = behindNATs(t)
	} else {
		p.net = direct(t, sc.six)
	}
	if sc.proofs != nil {
		p.proof = sc.proofs(t)
		p.proof.serve(t, p.net)
	}
	leaks := tap(p.net.wire, p.net.wireName, outside)
	p.m = newNode(p.net.a, sc.node, p.toml())
	kind := sc.auth
	if kind == "psk" {
		kind = ""
	}
	if p.proof != nil {
		for name, data := range p.proof.swanFiles {
			p.net.b.write(name, string(data))
		}
	}
	p.s = startSwan(p.net.b, sc.swan, kind, p.swanctl())
	return p, leaks
}

// play makes the tunnel and checks everything.
func (sc scenario) play(t *testing.T, initiate bool) {
	p, leaks := sc.prepare(t, initiate)
	if sc.before != nil {
		sc.before(t, p)
	}
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
	if sc.check != nil {
		sc.check(t, p)
	} else {
		p.traffic(t, inA4, inB4)
	}
	p.suite(t)
	p.counters(t)
	leaks.clean(t)
	p.close(t)
}

// traffic checks ping and TCP both ways between two inside addresses.
func (p *pair) traffic(t *testing.T, a, b string) {
	t.Helper()
	p.net.a.ping(a, b)
	p.net.b.ping(b, a)
	stream(t, p.net.a, a, p.net.b, b)
}

// suite checks that the algorithms are those that the scenario asked for.
func (p *pair) suite(t *testing.T) {
	t.Helper()
	sa := p.status.SAs[0]
	if p.esp != "" && p.swanESP == "" && !strings.HasPrefix(sa.Children[0].Suite, p.esp) {
		t.Errorf("the child's algorithms are %q, want %q", sa.Children[0].Suite, p.esp)
	}
	if p.ike != "" && p.swanIKE == "" && sa.Suite != p.ike {
		t.Errorf("the IKE SA's algorithms are %q, want %q", sa.Suite, p.ike)
	}
	if sa.Initiator != p.initiate {
		t.Errorf("initiator: %v, want %v", sa.Initiator, p.initiate)
	}
	own, peer := martletID, swanID
	if p.proof != nil {
		own, peer = cmp.Or(p.proof.martletID, own), cmp.Or(p.proof.swanID, peer)
	}
	if sa.LocalID != own || sa.RemoteID != peer {
		t.Errorf("identities are %q and %q, want %q and %q", sa.LocalID, sa.RemoteID, own, peer)
	}
}

// counters checks that both directions carried packets and that none of the peer's was
// refused. What the kernel itself sends to the device, such as router solicitations, has no
// policy.
func (p *pair) counters(t *testing.T) {
	t.Helper()
	s := p.m.status()
	if s == nil || len(s.SAs) == 0 || len(s.SAs[0].Children) == 0 {
		t.Errorf("the tunnel went down by itself: %+v", s)
		return
	}
	if c := s.SAs[0].Children[0]; c.PacketsIn < 100 || c.PacketsOut < 100 {
		t.Errorf("the child counts %d packets in and %d out", c.PacketsIn, c.PacketsOut)
	}
	for reason, n := range s.Drops {
		if strings.HasPrefix(reason, "esp-") && reason != "esp-no-policy" {
			t.Errorf("%d packets dropped: %s", n, reason)
		}
	}
}

// close lets the side that initiated close, and sees that nothing is left on either.
func (p *pair) close(t *testing.T) {
	t.Helper()
	if !p.initiate {
		if out, err := p.s.ctl("--terminate", "--ike", "c"); err != nil {
			t.Errorf("swanctl --terminate: %v\n%s", err, out)
		}
		p.m.awaitDown()
	}
	p.m.end()
	if p.initiate && p.m.proc.cmd.ProcessState.ExitCode() != 130 && p.m.proc.cmd.ProcessState.ExitCode() != 0 {
		t.Errorf("martlet up ended with status %d", p.m.proc.cmd.ProcessState.ExitCode())
	}
	until(t, "strongSwan has no SA left", func() bool { return strings.TrimSpace(p.s.sas()) == "" })
}

// refuse checks that no tunnel comes of it, and that people are told why.
func (p *pair) refuse(t *testing.T) {
	t.Helper()
	if p.initiate {
		p.m.up("site")
		status := p.m.proc.wait()
		if out := p.m.proc.out.String(); status != p.fails.status || !strings.Contains(out, p.fails.says) {
			t.Errorf("martlet up ended with status %d, want %d, and should say %q:\n%s", status, p.fails.status, p.fails.says, out)
		}
		p.m.undone()
		return
	}
	p.m.serve()
	out, err := p.s.initiate("net")
	if err == nil || !strings.Contains(out+p.s.log(), p.fails.swanSays) {
		t.Errorf("swanctl --initiate: %v, should fail and say %q:\n%s", err, p.fails.swanSays, out)
	}
	p.m.proc.says(p.fails.logs)
	if s := p.m.status(); s == nil || len(s.SAs) != 0 {
		t.Errorf("status: %+v", s)
	}
	p.m.end()
}
