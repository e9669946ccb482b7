package suite

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// parse reads IKE or ESP proposals or ends the test.
func parse(t testing.TB, p Protocol, list ...string) []Proposal {
	t.Helper()
	out, err := ParseProposals(p, list, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSelect(t *testing.T) {
	tests := []struct {
		name            string
		proto           Protocol
		offered, accept []string
		preferOffered   bool
		index           int
		want            string
	}{
		{
			"our order of proposals", ProtocolIKE,
			[]string{"aes128-sha256-modp2048", "aes256gcm16-prfsha256-x25519"},
			[]string{"aes256gcm16-prfsha256-x25519", "aes128-sha256-modp2048"},
			false, 1, "aes256gcm16-prfsha256-x25519",
		},
		{
			"their order of proposals", ProtocolIKE,
			[]string{"aes128-sha256-modp2048", "aes256gcm16-prfsha256-x25519"},
			[]string{"aes256gcm16-prfsha256-x25519", "aes128-sha256-modp2048"},
			true, 0, "aes128-sha256-modp2048",
		},
		{
			"our order of algorithms", ProtocolIKE,
			[]string{"aes128-aes256-sha1-sha256-modp2048-ecp256"},
			[]string{"aes256-aes128-sha256-sha1-ecp256-modp2048"},
			false, 0, "aes256-sha256-ecp256",
		},
		{
			"their order of algorithms", ProtocolIKE,
			[]string{"aes128-aes256-sha1-sha256-modp2048-ecp256"},
			[]string{"aes256-aes128-sha256-sha1-ecp256-modp2048"},
			true, 0, "aes128-sha1-modp2048",
		},
		{
			"key length counts", ProtocolESP,
			[]string{"aes128gcm16", "aes192gcm16", "aes256gcm16"},
			[]string{"aes256gcm16"},
			false, 2, "aes256gcm16-esn",
		},
		{
			"32-bit sequence numbers alone", ProtocolESP,
			[]string{"aes256gcm16-noesn"},
			[]string{"aes256gcm16"},
			false, 0, "aes256gcm16-noesn",
		},
		{
			"key exchange where both have one", ProtocolESP,
			[]string{"aes256gcm16-ecp256-noesn"},
			[]string{"aes256gcm16-x25519-ecp256-modpnone"},
			false, 0, "aes256gcm16-ecp256-noesn",
		},
		{
			"no key exchange where only we have one", ProtocolESP,
			[]string{"aes256gcm16-noesn"},
			[]string{"aes256gcm16-x25519-modpnone"},
			false, 0, "aes256gcm16-noesn",
		},
		{
			"no key exchange where only they have one", ProtocolESP,
			[]string{"aes256gcm16-x25519-modpnone-noesn"},
			[]string{"aes256gcm16"},
			false, 0, "aes256gcm16-modpnone-noesn",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			offered, accept := parse(t, tt.proto, tt.offered...), parse(t, tt.proto, tt.accept...)
			got, err := Select(offered, accept, tt.preferOffered)
			if err != nil {
				t.Fatal(err)
			}
			if got.Index != tt.index || got.Suite.String() != tt.want {
				t.Errorf("got %d, %v; want %d, %s", got.Index, got.Suite, tt.index, tt.want)
			}
			if !got.Suite.Narrows(offered[got.Index]) {
				t.Errorf("%v does not narrow %v", got.Suite, offered[got.Index])
			}
			back, err := got.Suite.Proposal().Suite()
			if err != nil || back != got.Suite {
				t.Errorf("suite through a proposal: %v, %v; want %v", back, err, got.Suite)
			}
		})
	}
}

func TestSelectRefuses(t *testing.T) {
	for _, tt := range []struct{ name, offered, accept string }{
		{"key exchange they insist on", "aes256gcm16-x25519", "aes256gcm16"},
		{"key exchange we insist on", "aes256gcm16", "aes256gcm16-x25519"},
		{"long sequence numbers they insist on", "aes256gcm16-esn", "aes256gcm16-noesn"},
		{"other key length", "aes128gcm16", "aes256gcm16"},
		{"other ICV", "aes256gcm8", "aes256gcm16"},
		{"other integrity", "aes256-sha512", "aes256-sha256"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Select(parse(t, ProtocolESP, tt.offered), parse(t, ProtocolESP, tt.accept), false)
			if _, ok := errors.AsType[*MismatchError](err); !ok {
				t.Errorf("got %v, %v; want a *MismatchError", got, err)
			}
		})
	}
}

// An AEAD may come with integrity NONE; the answer repeats it. A mixed proposal is
// read cipher by cipher.
func TestSelectAEADWithIntegNone(t *testing.T) {
	gcm, cbc := Transform{TypeEncr, EncrAESGCM16, 256}, Transform{TypeEncr, EncrAESCBC, 256}
	none, sha := Transform{TypeInteg, IntegNone, 0}, Transform{TypeInteg, IntegHMACSHA2_256_128, 0}
	accept := parse(t, ProtocolESP, "aes256gcm16-noesn", "aes256-sha256-noesn")
	for _, tt := range []struct {
		name       string
		transforms []Transform
		want       Suite
	}{
		{"none alone", []Transform{gcm, none}, Suite{Protocol: ProtocolESP, Encr: gcm, Integ: none}},
		{"mixed", []Transform{cbc, gcm, sha, none}, Suite{Protocol: ProtocolESP, Encr: gcm, Integ: none}},
		{"AEAD with a MAC beside CBC with it", []Transform{gcm, cbc, sha}, Suite{Protocol: ProtocolESP, Encr: cbc, Integ: sha}},
		{"repeated transforms", []Transform{gcm, gcm, none, none}, Suite{Protocol: ProtocolESP, Encr: gcm, Integ: none}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Select([]Proposal{{ProtocolESP, tt.transforms}}, accept, false)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got.Suite); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Row 12 of the threat history (CVE-2016-5391): proposals that lack a mandatory
// type, repeat one, bring NONE or unknown values are never chosen.
func TestRow12IncompleteProposals(t *testing.T) {
	good := parse(t, ProtocolIKE, "aes256-sha256-modp2048")[0]
	accept := []Proposal{good, parse(t, ProtocolIKE, "aes256gcm16-prfsha256-x25519")[0]}
	with := func(p Proposal, more ...Transform) Proposal {
		p.Transforms = slices.Concat(p.Transforms, more)
		return p
	}
	if _, err := Select([]Proposal{with(good, good.Transforms...)}, accept, false); err != nil {
		t.Errorf("every transform twice: %v", err)
	}
	bad := map[string]Proposal{
		"empty":        {Protocol: ProtocolIKE},
		"esn in ike":   with(good, Transform{TypeESN, ESNNo, 0}),
		"unknown type": with(good, Transform{99, 1, 0}),
		"type zero":    with(good, Transform{0, 1, 0}),
		"esp protocol": {ProtocolESP, good.Transforms},
		"ah protocol":  {ProtocolAH, good.Transforms},
	}
	for _, typ := range []TransformType{TypeEncr, TypePRF, TypeInteg, TypeKE} {
		bad["without "+typ.String()] = good.Without(typ)
		bad["none for "+typ.String()] = with(good.Without(typ), Transform{typ, 0, 0})
	}
	foreign := map[string]Proposal{
		"additional ke":   with(good, Transform{TypeAddKE1, KEMLKEM768, 0}),
		"unknown keylen":  with(good.Without(TypeEncr), Transform{TypeEncr, EncrAESCBC, 257}),
		"no keylen":       with(good.Without(TypeEncr), Transform{TypeEncr, EncrAESCBC, 0}),
		"keylen on a prf": with(good.Without(TypePRF), Transform{TypePRF, PRFHMACSHA256, 128}),
	}
	refused := func(name string, p Proposal, accept []Proposal) {
		for _, prefer := range []bool{false, true} {
			if got, err := Select([]Proposal{p}, accept, prefer); err == nil {
				t.Errorf("%s: chose %v", name, got.Suite)
			}
		}
	}
	for name, p := range bad {
		refused(name, p, accept)
		refused(name, p, []Proposal{p}) // also where ours is as broken, as no parser makes it
	}
	for name, p := range foreign {
		refused(name, p, accept)
	}
}

// An additional key exchange that may be NONE does not stop us (RFC 9370 §2.2.2).
func TestSelectOptionalAdditionalKE(t *testing.T) {
	accept := parse(t, ProtocolIKE, "aes256gcm16-prfsha256-x25519")
	offer := Proposal{ProtocolIKE, append(slices.Clone(accept[0].Transforms),
		Transform{TypeAddKE1, KEMLKEM768, 0}, Transform{TypeAddKE1, KENone, 0})}
	got, err := Select([]Proposal{offer}, accept, false)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Transform{TypeAddKE1, KENone, 0}); got.Suite.AddKE[0] != want {
		t.Errorf("additional key exchange %v, want %v", got.Suite.AddKE[0], want)
	}
}

// Each key exchange is done once: what was chosen first is taken back where a later type
// has nothing else (RFC 9370 §2.2.2).
func TestSelectDistinctKEs(t *testing.T) {
	const base = "aes256gcm16-prfsha256-"
	for _, tt := range []struct{ offer, accept, want string }{
		{"x25519-ecp256-ke1_x25519-ke1_mlkem768", "x25519-ecp256-ke1_x25519-ke1_mlkem768", "x25519-ke1_mlkem768"},
		{"x25519-ecp256-ke1_x25519", "x25519-ecp256-ke1_x25519", "ecp256-ke1_x25519"},
		{"x25519-ke1_mlkem768-ke1_mlkem1024-ke2_mlkem768", "x25519-ke1_mlkem768-ke1_mlkem1024-ke2_mlkem768", "x25519-ke1_mlkem1024-ke2_mlkem768"},
		{"x25519-ke1_mlkem768-ke1_none-ke2_mlkem768", "x25519-ke1_mlkem768-ke2_mlkem768-ke2_none", ""},
		{"x25519-ke1_mlkem768-ke1_none-ke2_mlkem768", "x25519-ke1_mlkem768-ke1_none-ke2_mlkem768", "x25519-ke1_none-ke2_mlkem768"},
		{"x25519-ecp256-ke1_x25519", "x25519-ke1_x25519-ke1_ecp256", ""},
		{"x25519-ke1_mlkem768", "x25519-ke2_mlkem768", ""},
		{"x25519-ke1_mlkem768-ke2_ecp256", "x25519-ke1_ecp256-ke2_mlkem768", ""},
		{"x25519-ke1_mlkem768", "x25519", ""},
		{"x25519", "x25519-ke1_mlkem768", ""},
		{"x25519", "x25519-ke1_mlkem768-ke1_none", "x25519"},
	} {
		offer, accept := parse(t, ProtocolIKE, base+tt.offer), parse(t, ProtocolIKE, base+tt.accept)
		for _, prefer := range []bool{false, true} {
			got, err := Select(offer, accept, prefer)
			switch {
			case tt.want == "" && err == nil:
				t.Errorf("%s with %s: chose %v", tt.offer, tt.accept, got.Suite)
			case tt.want != "" && !prefer && (err != nil || got.Suite.String() != base+tt.want):
				// A NONE that was not offered is not answered.
				t.Errorf("%s with %s: chose %v, %v; want %s", tt.offer, tt.accept, got.Suite, err, tt.want)
			case tt.want != "" && prefer && err != nil:
				t.Errorf("%s with %s: %v", tt.offer, tt.accept, err)
			}
		}
	}
	twice := Suite{
		Protocol: ProtocolIKE, Encr: Transform{TypeEncr, EncrAESGCM16, 256}, PRF: Transform{TypePRF, PRFHMACSHA256, 0},
		KE: Transform{TypeKE, KEX25519, 0},
	}
	twice.AddKE[0], twice.AddKE[1] = Transform{TypeAddKE1, KEMLKEM768, 0}, Transform{TypeAddKE1 + 1, KEMLKEM768, 0}
	if p := twice.Proposal(); twice.Narrows(p) {
		t.Errorf("%v narrows itself", p)
	}
	if _, err := twice.Proposal().Suite(); err == nil {
		t.Error("a proposal with one method twice became a suite")
	}
}

func TestClassic(t *testing.T) {
	for in, want := range map[string]string{
		"x25519":                                "x25519",
		"x25519-ke1_mlkem768":                   "",
		"x25519-ke1_mlkem768-ke1_none":          "x25519",
		"x25519-ke1_none-ke2_mlkem768":          "",
		"x25519-ke1_none-ke2_none-ke2_mlkem768": "x25519",
	} {
		p := parse(t, ProtocolIKE, "aes256-sha256-"+in)[0]
		got, ok := p.Classic()
		if p.PostQuantum() == ok { // none of these goes beside another additional exchange
			t.Errorf("%s: PostQuantum is %v", in, p.PostQuantum())
		}
		if ok != (want != "") || ok && got.String() != "aes256-sha256-"+want {
			t.Errorf("%s: %v, %v", in, got, ok)
		}
	}
}

func TestNarrows(t *testing.T) {
	offer := parse(t, ProtocolESP, "aes256gcm16-aes128gcm16-x25519-modpnone")[0]
	suite := func(s string) Suite {
		got, err := parse(t, ProtocolESP, s)[0].Suite()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for s, want := range map[string]bool{
		"aes256gcm16-x25519-esn":           true,
		"aes128gcm16-modpnone-noesn":       true,
		"aes128gcm16-noesn":                true,
		"aes192gcm16-noesn":                false,
		"aes256gcm16-ecp256-noesn":         false,
		"aes256-sha256-noesn":              false,
		"chacha20poly1305-x25519-noesn":    false,
		"aes128gcm16-modpnone-noesn-noesn": true,
	} {
		if got := suite(s).Narrows(offer); got != want {
			t.Errorf("%s within %s: %v, want %v", s, offer, got, want)
		}
	}
	if (Suite{}).Narrows(Proposal{}) {
		t.Error("an empty suite narrows an empty proposal")
	}
	forced := parse(t, ProtocolESP, "aes256gcm16-x25519-esn")[0]
	if suite("aes256gcm16-esn").Narrows(forced) {
		t.Error("a suite without key exchange narrows a proposal that insists on one")
	}
}

func TestProposalSuiteErrors(t *testing.T) {
	for _, s := range []string{"aes256gcm16-aes128gcm16-noesn", "aes256gcm16"} {
		if got, err := parse(t, ProtocolESP, s)[0].Suite(); err == nil {
			t.Errorf("%s became %v", s, got)
		}
	}
	if _, err := (Proposal{Protocol: ProtocolIKE}).Suite(); err == nil {
		t.Error("an empty proposal became a suite")
	}
}

func TestKEsAndWithout(t *testing.T) {
	p := parse(t, ProtocolESP, "aes256gcm16-x25519-modp3072-modpnone")[0]
	if diff := cmp.Diff([]uint16{KEX25519, KEMODP3072, KENone}, p.KEs()); diff != "" {
		t.Errorf("KEs (-want +got):\n%s", diff)
	}
	before := p.String()
	if got := p.WithoutKE().String(); got != "aes256gcm16" {
		t.Errorf("without key exchange: %s", got)
	}
	if p.String() != before {
		t.Error("Without changed its receiver")
	}
}

// fuzzProposals makes proposals of octets: each transform takes four, and a type of
// 0xff begins a new proposal.
func fuzzProposals(proto Protocol, data []byte) []Proposal {
	var all []Proposal
	p := Proposal{Protocol: proto}
	for ; len(data) >= 4; data = data[4:] {
		if data[0] == 0xff {
			all = append(all, p)
			p = Proposal{Protocol: proto}
			continue
		}
		p.Transforms = append(p.Transforms, Transform{TransformType(data[0] % 14), uint16(data[1])<<8&0x0100 | uint16(data[2]), uint16(data[3]) * 64})
	}
	return append(all, p)
}

func FuzzSelect(f *testing.F) {
	seed := func(list []Proposal) (out []byte) {
		for i, p := range list {
			if i > 0 {
				out = append(out, 0xff, 0, 0, 0)
			}
			for _, t := range p.Transforms {
				out = append(out, byte(t.Type), byte(t.ID>>8), byte(t.ID), byte(t.KeyLen/64))
			}
		}
		return out
	}
	for _, r := range []Role{RolePeer, RoleDeviceGateway} {
		f.Add(true, seed(DefaultIKE(r, PostQuantumPrefer)), uint8(r))
		f.Add(false, seed(DefaultESP(r, PostQuantumPrefer)), uint8(r))
	}
	for _, s := range []string{"aes128-sha1-modp1024", "aes256-sha256-modp2048"} {
		f.Add(true, seed(parse(f, ProtocolIKE, s)), uint8(0))
	}
	f.Fuzz(func(t *testing.T, ike bool, data []byte, role uint8) {
		proto, accept := ProtocolESP, DefaultESP(Role(role%2), PostQuantumPrefer)
		if ike {
			proto, accept = ProtocolIKE, DefaultIKE(Role(role%2), PostQuantumPrefer)
		}
		offered := fuzzProposals(proto, data)
		for _, prefer := range []bool{false, true} {
			got, err := Select(offered, accept, prefer)
			if err == nil {
				if !got.Suite.Narrows(offered[got.Index]) || !slices.ContainsFunc(accept, got.Suite.Narrows) {
					t.Errorf("%v does not narrow %v", got.Suite, offered[got.Index])
				}
				if _, _, err := got.Suite.KeyLens(); err != nil {
					t.Errorf("%v was chosen and cannot be built: %v", got.Suite, err)
				}
				continue
			}
			mismatch, ok := errors.AsType[*MismatchError](err)
			if !ok {
				t.Fatalf("error %v is no *MismatchError", err)
			}
			checkFix(t, mismatch, proto)
			if strings.Contains(err.Error(), "\n") || mismatch.Table() == "" {
				t.Errorf("error %q, table %q", err, mismatch.Table())
			}
		}
	})
}

// checkFix does what the hint says and sees whether it helps.
func checkFix(t *testing.T, e *MismatchError, proto Protocol) {
	t.Helper()
	_, hint, ok := strings.Cut(e.Fix(), `add "`)
	if !ok {
		return
	}
	hint, _, _ = strings.Cut(hint, `"`)
	p, err := ParseProposal(proto, hint)
	if err != nil {
		t.Errorf("hint %q: %v", e.Fix(), err)
		return
	}
	if _, err := Select(e.Offered, append(slices.Clone(e.Accepted), p), false); err != nil {
		t.Errorf("hint %q does not help: %v", e.Fix(), err)
	}
}

// A peer that offers each combination by itself, the weakest first, gets the one that we
// like most.
func TestSelectAmongSingles(t *testing.T) {
	parse := func(texts ...string) []Proposal {
		all, err := ParseProposals(ProtocolIKE, texts, nil)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	offered := parse("aes128-sha1-modp2048", "aes128-sha256-modp2048", "aes256-sha1-modp2048", "aes256-sha256-modp2048", "aes256-sha256-ecp256")
	got, err := Select(offered, parse("aes256-aes128-sha256-sha1-ecp256-modp2048"), false)
	if err != nil || got.Index != 4 {
		t.Errorf("chose %d: %v", got.Index, err)
	}
	if got, err = Select(offered[:4], parse("aes256-aes128-sha1-sha256-modp2048"), false); err != nil || got.Index != 2 {
		t.Errorf("chose %d: %v", got.Index, err)
	}
	if got, err = Select(offered, parse("aes128-sha256-modp2048", "aes256-sha256-ecp256"), false); err != nil || got.Index != 1 {
		t.Errorf("the first accepted proposal is not the most liked: %d: %v", got.Index, err)
	}
}
