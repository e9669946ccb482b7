package interop

import (
	"strings"
	"testing"
)

const fragmentSize = 500 // octets of a datagram: the certificates need several

var scenarios = []scenario{
	{name: "psk", auth: "psk"},
	{name: "rsa", auth: "rsa"},
	{name: "ecdsa", auth: "ecdsa"},
	{name: "ed25519", auth: "ed25519"},
	{name: "ipv6-outside", auth: "psk", six: true},
	{
		name: "ipv4-and-ipv6-inside", auth: "psk",
		localA: []string{netA4, netA6}, remoteA: []string{netB4, netB6},
		localB: []string{netB4, netB6}, remoteB: []string{netA4, netA6},
		check: func(t *testing.T, p *pair) {
			p.traffic(t, inA4, inB4)
			p.traffic(t, inA6, inB6)
		},
	},
	{
		name: "virtual-addresses", auth: "psk",
		// The side that initiates gets its addresses from the other.
		initiatorMoreA: "request = [\"ipv4\", \"ipv6\"]\n",
		responderMoreA: "pool = [\"four\", \"six\"]\ndns = [\"10.98.1.53\", \"fd98:1::53\"]\n",
		poolA:          "[pool.four]\naddresses = [\"10.97.0.0/24\"]\n[pool.six]\naddresses = [\"fd97::/112\"]\n",
		initiatorMoreB: "vips = 0.0.0.0, ::",
		responderMoreB: "pools = four, six",
		poolB:          "pools { four { addrs = 10.97.0.0/24\n dns = 10.98.2.53 }\n six { addrs = fd97::/112\n dns = fd98:2::53 } }",
		check:          checkVirtual,
	},
	{name: "both-behind-nat", auth: "psk", nat: true, check: checkNAT},
	{
		name: "fragmented-ike-auth", auth: "rsa",
		moreA: "fragment_size = 500\n", swan: swanSettings{fragment: fragmentSize},
		check: checkFragments,
	},
	{name: "aes256gcm", auth: "psk", ike: "aes256gcm16-prfsha256-x25519", esp: "aes256gcm16"},
	{name: "chacha20poly1305", auth: "psk", ike: "chacha20poly1305-prfsha256-ecp256", esp: "chacha20poly1305"},
	{name: "aes256cbc-sha256", auth: "psk", ike: "aes256-sha256-modp3072", esp: "aes256-sha256"},
	{
		name: "wrong-psk", auth: "psk", secret: "not what the other side has",
		fails: &failure{says: "code: auth-refused", status: 4, logs: "wrong-psk", swanSays: "AUTHENTICATION_FAILED"},
	},
	{
		name: "no-common-proposal", auth: "psk", ike: "aes256gcm16-prfsha384-ecp384", swanIKE: "aes128-sha256-modp2048",
		fails: &failure{says: "code: no-proposal-chosen", status: 5, logs: "no-proposal-chosen", swanSays: "NO_PROPOSAL_CHOSEN"},
	},
	{
		name: "narrowed-selectors", auth: "psk",
		// The initiator asks for more than the responder gives.
		localA: []string{"10.98.0.0/16"}, remoteA: []string{"10.98.0.0/16", "172.16.0.0/12"},
		check: func(t *testing.T, p *pair) {
			c := p.status.SAs[0].Children[0]
			if got := strings.Join(c.Local, " ") + " === " + strings.Join(c.Remote, " "); got != netA4+" === "+netB4 {
				t.Errorf("selectors are %q, want %q", got, netA4+" === "+netB4)
			}
			p.traffic(t, inA4, inB4)
		},
	},
}

func TestStrongSwan(t *testing.T) {
	t.Parallel()
	for _, sc := range scenarios {
		for _, role := range []string{"initiator", "responder"} {
			t.Run(sc.name+"/"+role, func(t *testing.T) {
				start(t)
				run := sc
				if run.initiatorMoreA != "" { // virtual addresses
					run = run.virtualSelectors(role == "initiator")
				}
				if role == "responder" && run.name == "narrowed-selectors" {
					run.localA, run.remoteA = nil, nil
					run.localB, run.remoteB = []string{"10.98.0.0/16", "172.16.0.0/12"}, []string{"10.98.0.0/16"}
				}
				run.play(t, role == "initiator")
			})
		}
	}
}

// virtualSelectors are those of a road warrior: its own side is its virtual address.
func (sc scenario) virtualSelectors(initiate bool) scenario {
	dynamic := []string{"dynamic"}
	if initiate {
		sc.localA, sc.remoteA = dynamic, []string{netB4, netB6}
		sc.localB, sc.remoteB = []string{netB4, netB6}, dynamic
	} else {
		sc.localA, sc.remoteA = []string{netA4, netA6}, dynamic
		sc.localB, sc.remoteB = dynamic, []string{netA4, netA6}
	}
	return sc
}

func checkVirtual(t *testing.T, p *pair) {
	if p.initiate {
		sa := p.status.SAs[0]
		v4, v6 := virtual(p.status)
		if !strings.HasPrefix(v4, "10.97.0.") || !strings.HasPrefix(v6, "fd97::") {
			t.Fatalf("virtual addresses are %v", sa.Addresses)
		}
		var dns []string
		for _, d := range sa.DNS {
			dns = append(dns, d.String())
		}
		if got := strings.Join(dns, " "); got != "10.98.2.53 fd98:2::53" {
			t.Errorf("resolvers are %q", got)
		}
		p.traffic(t, v4, inB4)
		p.traffic(t, v6, inB6)
		return
	}
	var v4, v6 string
	for _, ts := range p.status.SAs[0].Children[0].Remote {
		if addr, _, _ := strings.Cut(ts, "/"); strings.HasPrefix(addr, "10.97.0.") {
			v4 = addr
		} else if strings.HasPrefix(addr, "fd97::") {
			v6 = addr
		}
	}
	if v4 == "" || v6 == "" {
		t.Fatalf("selectors are %v", p.status.SAs[0].Children[0].Remote)
	}
	for _, dns := range []string{"10.98.1.53", "fd98:1::53"} {
		if conf := readFile(t, p.net.b.dir, "resolv.conf"); !strings.Contains(conf, "nameserver "+dns) {
			t.Errorf("strongSwan has the resolvers %q, want %s among them", conf, dns)
		}
	}
	p.traffic(t, inA4, v4)
	p.traffic(t, inA6, v6)
}

func checkNAT(t *testing.T, p *pair) {
	sa := p.status.SAs[0]
	if got := strings.Join(sa.Conditions, " "); !strings.Contains(got, "nat-here") || !strings.Contains(got, "nat-there") {
		t.Errorf("conditions are %q, want both NATs", got)
	}
	if got := sa.RemoteAddr.Addr().String(); got != p.net.addrB {
		t.Errorf("the peer is at %s, want %s", got, p.net.addrB)
	}
	if !p.initiate && sa.RemoteAddr.Port() == 4500 {
		t.Error("the NAT kept the port: the test does not test it")
	}
	p.traffic(t, inA4, inB4)
}

func checkFragments(t *testing.T, p *pair) {
	log := p.s.log()
	for _, want := range []string{"splitting IKE message", "received fragment #2"} {
		if !strings.Contains(log, want) {
			t.Errorf("strongSwan's log does not have %q", want)
		}
	}
	p.traffic(t, inA4, inB4)
}
