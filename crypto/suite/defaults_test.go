package suite

import (
	"strings"
	"testing"
)

// Goal I2: what site-to-site and a gateway for devices accept by default. Each
// algorithm is offered in a proposal that is otherwise as good as can be.
func TestDefaultsRefuse(t *testing.T) {
	encr := func(id, keyLen uint16) Transform { return Transform{TypeEncr, id, keyLen} }
	ke := func(id uint16) Transform { return Transform{TypeKE, id, 0} }
	never := []Transform{
		encr(Encr3DES, 0), encr(2, 0), encr(EncrNULL, 0), encr(7, 128), encr(23, 256),
		encr(EncrAESCTR, 256), encr(EncrAESGCM8, 256), encr(EncrAESGCM12, 256), encr(14, 256), encr(21, 256),
		{TypePRF, 1, 0},
		{TypePRF, PRFHMACSHA1, 0},
		{TypeInteg, 1, 0},
		{TypeInteg, IntegHMACSHA1_96, 0},
		ke(KEMODP768), ke(KEMODP1024), ke(KEMODP1536), ke(22), ke(23), ke(24), ke(25), ke(26),
		ke(KEMODP6144), ke(KEMODP8192), ke(KEX448),
	}
	devices := []Transform{encr(EncrAESCBC, 128), encr(EncrAESCBC, 256), ke(KEMODP2048)}
	integs := sha2Integs()

	roles := map[Role]string{RolePeer: "peer", RoleDeviceGateway: "gateway"}
	for role, name := range roles {
		for _, proto := range []Protocol{ProtocolIKE, ProtocolESP} {
			accept := DefaultIKE(role, PostQuantumPrefer)
			if proto == ProtocolESP {
				accept = DefaultESP(role, PostQuantumPrefer)
			}
			check := func(x Transform, refused bool) {
				if proto == ProtocolESP && x.Type == TypePRF {
					return
				}
				t.Run(name+"/"+proto.String()+"/"+x.String(), func(t *testing.T) {
					got, err := Select([]Proposal{offerOf(proto, x)}, accept, false)
					if refused && err == nil {
						t.Errorf("%v is accepted by default in %v", x, got.Suite)
					}
					if !refused && err != nil {
						t.Error(err)
					}
				})
			}
			for _, x := range never {
				check(x, true)
			}
			for _, x := range devices {
				check(x, role == RolePeer)
			}
			for _, x := range integs {
				check(x, role == RolePeer)
			}
			check(encr(EncrAESGCM16, 128), false)
			check(encr(EncrAESGCM16, 256), false)
			check(encr(EncrChaCha20Poly1305, 0), false)
			for _, id := range []uint16{KEX25519, KEECP256, KEECP384, KEECP521, KEMODP3072, KEMODP4096} {
				check(ke(id), false)
			}
		}
	}
}

// offerOf returns a proposal with x and otherwise the best there is: with a separate
// integrity algorithm only where x is one or needs one.
func offerOf(proto Protocol, x Transform) Proposal {
	s := Suite{
		Protocol: proto,
		Encr:     Transform{TypeEncr, EncrAESGCM16, 256},
		KE:       Transform{TypeKE, KEX25519, 0},
	}
	if proto == ProtocolIKE {
		s.PRF = Transform{TypePRF, PRFHMACSHA256, 0}
	} else {
		s.ESN = Transform{TypeESN, ESNNo, 0}
	}
	if x.Type == TypeInteg {
		s.Encr = Transform{TypeEncr, EncrAESCBC, 256}
	}
	*s.slot(x.Type) = x
	if !aead(s.Encr.ID) && x.Type != TypeInteg {
		s.Integ = Transform{TypeInteg, IntegHMACSHA2_256_128, 0}
	}
	return s.Proposal()
}

// A weak algorithm that is implemented works once somebody names it, and warns.
func TestWeakWorksWhenNamed(t *testing.T) {
	for _, tt := range []struct {
		proto Protocol
		s     string
		weak  []string
	}{
		{ProtocolIKE, "aes256-sha1-modp1024", []string{"sha1", "prfsha1", "modp1024"}},
		{ProtocolIKE, "aes256-sha256-modp1536", []string{"modp1536"}},
		{ProtocolIKE, "aes256gcm8-prfsha1-x25519", []string{"aes256gcm8", "prfsha1"}},
		{ProtocolIKE, "aes256-sha256-modp2048", nil},
		{ProtocolESP, "aes256-sha1", []string{"sha1"}},
		{ProtocolESP, "aes128gcm12", nil},
	} {
		p := parse(t, tt.proto, tt.s)
		if _, err := Select(p, p, false); err != nil {
			t.Errorf("%s: %v", tt.s, err)
		}
		lines := p[0].Weak()
		if len(lines) != len(tt.weak) {
			t.Errorf("%s: warnings %q, want for %q", tt.s, lines, tt.weak)
			continue
		}
		for _, name := range tt.weak {
			found := false
			for _, line := range lines {
				found = found || strings.HasPrefix(line, name+": ")
			}
			if !found {
				t.Errorf("%s: no warning for %s in %q", tt.s, name, lines)
			}
		}
	}
}

// Defaults are not weak, can be written in a file, and agree with each other.
func TestDefaults(t *testing.T) {
	for _, role := range []Role{RolePeer, RoleDeviceGateway} {
		for proto, list := range map[Protocol][]Proposal{ProtocolIKE: DefaultIKE(role, PostQuantumPrefer), ProtocolESP: DefaultESP(role, PostQuantumPrefer)} {
			for _, p := range list {
				if weak := p.Weak(); weak != nil {
					t.Errorf("%v: %q", p, weak)
				}
				if got := parse(t, proto, p.String())[0].String(); got != p.String() {
					t.Errorf("%v is read as %v", p, got)
				}
			}
			for pq, hybrid := range map[PostQuantum]string{
				PostQuantumPrefer: "-ke1_mlkem768", PostQuantumRequire: "-ke1_mlkem768", PostQuantumOff: "",
			} {
				offer := DefaultIKE(RolePeer, pq)
				want := "aes256gcm16-prfsha256-x25519" + hybrid
				if proto == ProtocolESP {
					offer, want = DefaultESP(RolePeer, pq), "aes256gcm16-x25519-esn"+hybrid
				}
				got, err := Select(offer, list, false)
				if err != nil || got.Suite.String() != want {
					t.Errorf("got %v, %v; want %s", got.Suite, err, want)
				}
			}
		}
	}
}

// The Child SA of IKE_AUTH has no key exchange, and peers without extended sequence
// numbers must find one as well (Windows, Apple, libipsec).
func TestDefaultESPOfFirstChild(t *testing.T) {
	for s, want := range map[string]string{
		"aes256gcm16-noesn":        "aes256gcm16-noesn",
		"aes256-sha256-noesn":      "aes256-sha256-noesn",
		"aes128gcm16-modp2048-esn": "aes128gcm16-modp2048-esn",
	} {
		got, err := Select(parse(t, ProtocolESP, s), DefaultESP(RoleDeviceGateway, PostQuantumPrefer), false)
		if err != nil || got.Suite.String() != want {
			t.Errorf("%s: got %v, %v; want %s", s, got.Suite, err, want)
		}
	}
	for _, p := range DefaultESP(RolePeer, PostQuantumPrefer) {
		if q := p.WithoutKE(); q.KEs() != nil || q.HasAddKE() {
			t.Errorf("key exchanges in %v", q)
		}
	}
}

// With PostQuantumRequire neither side has an IKE SA without ML-KEM, whatever the other
// one wants.
func TestPostQuantumRequired(t *testing.T) {
	for _, role := range []Role{RolePeer, RoleDeviceGateway} {
		hard, plain := DefaultIKE(role, PostQuantumRequire), DefaultIKE(role, PostQuantumOff)
		for _, p := range hard {
			if _, ok := p.Classic(); ok {
				t.Errorf("%v can go without", p)
			}
		}
		for _, prefer := range []bool{false, true} {
			if got, err := Select(hard, plain, prefer); err == nil {
				t.Errorf("chose %v", got.Suite)
			}
			if got, err := Select(plain, hard, prefer); err == nil {
				t.Errorf("chose %v", got.Suite)
			}
		}
	}
}
