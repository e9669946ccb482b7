package suite

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseProposal(t *testing.T) {
	tests := []struct {
		p        Protocol
		in, want string
	}{
		{ProtocolIKE, "aes256gcm16-prfsha256-x25519", "aes256gcm16-prfsha256-x25519"},
		{ProtocolIKE, " AES256-SHA256-MODP2048 ", "aes256-sha256-modp2048"},
		{ProtocolIKE, "aes256gcm128-sha384-curve25519", "aes256gcm16-prfsha384-x25519"},
		{ProtocolIKE, "aes-sha-modp1024", "aes128-sha1-modp1024"},
		{ProtocolIKE, "aes256-sha2_256-sha2_512-ecp256-ecp521", "aes256-sha256-sha512-ecp256-ecp521"},
		{ProtocolIKE, "aes256-sha256-prfsha256-modp2048", "aes256-sha256-modp2048"},
		{ProtocolIKE, "aes256-sha256-prfsha512-modp2048", "aes256-sha256-prfsha512-modp2048"},
		{ProtocolIKE, "modp4096-prfsha1-aes128ctr-sha512", "aes128ctr-sha512-prfsha1-modp4096"},
		{ProtocolIKE, "chacha20poly1305-aes128gcm8-aes128gcm96-prfsha256-ecp384-ecp384", "chacha20poly1305-aes128gcm8-aes128gcm12-prfsha256-ecp384"},
		{ProtocolIKE, "aes256gcm16-prfsha384-x25519-ke1_mlkem768", "aes256gcm16-prfsha384-x25519-ke1_mlkem768"},
		{ProtocolIKE, "KE2_None-ke2_ecp384-ke1_mlkem1024-aes256-sha256-modp8192", "aes256-sha256-modp8192-ke1_mlkem1024-ke2_none-ke2_ecp384"},
		{ProtocolIKE, "aes256-sha256-x25519-ke7_curve25519-ke7_ecp256", "aes256-sha256-x25519-ke7_x25519-ke7_ecp256"},
		{ProtocolESP, "aes256gcm16-x25519-esn-ke1_mlkem768", "aes256gcm16-x25519-esn-ke1_mlkem768"},
		{ProtocolESP, "aes256gcm16-mlkem768", "aes256gcm16-mlkem768"},
		{ProtocolESP, "aes128gcm16", "aes128gcm16"},
		{ProtocolESP, "aes128gcm16-esn-noesn", "aes128gcm16"},
		{ProtocolESP, "aes128gcm16-noesn-esn", "aes128gcm16-noesn-esn"},
		{ProtocolESP, "aes128gcm16-noesn", "aes128gcm16-noesn"},
		{ProtocolESP, "aes128gcm16-esn", "aes128gcm16-esn"},
		{ProtocolESP, "aes128gcm16-sha256", "aes128gcm16"},
		{ProtocolESP, "aes192ctr-sha384-modp3072-modpnone", "aes192ctr-sha384-modp3072-modpnone"},
		{ProtocolESP, "aes256-sha1", "aes256-sha1"},
	}
	for _, tt := range tests {
		p, err := ParseProposal(tt.p, tt.in)
		if err != nil {
			t.Errorf("ParseProposal(%v, %q): %v", tt.p, tt.in, err)
			continue
		}
		if got := p.String(); got != tt.want {
			t.Errorf("ParseProposal(%v, %q) = %q, want %q", tt.p, tt.in, got, tt.want)
		}
		again, err := ParseProposal(tt.p, p.String())
		if err != nil || !cmp.Equal(again, p) {
			t.Errorf("reading %q again: %v, %v", p, again, err)
		}
	}
}

func TestParseProposalTransforms(t *testing.T) {
	got, err := ParseProposal(ProtocolESP, "modp2048-sha256-aes256")
	if err != nil {
		t.Fatal(err)
	}
	want := Proposal{ProtocolESP, []Transform{
		{TypeEncr, EncrAESCBC, 256},
		{TypeInteg, IntegHMACSHA2_256_128, 0},
		{TypeKE, KEMODP2048, 0},
		{TypeESN, ESNYes, 0},
		{TypeESN, ESNNo, 0},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseProposalErrors(t *testing.T) {
	tests := []struct {
		p        Protocol
		in, want string
	}{
		{ProtocolIKE, "", "empty keyword"},
		{ProtocolIKE, "aes256gcm16--x25519", "empty keyword"},
		{ProtocolIKE, "aes256gcm16-prfsha256", "an IKE proposal needs a key exchange group, e.g. -x25519"},
		{ProtocolIKE, "prfsha256-x25519", "an IKE proposal needs an encryption algorithm, e.g. aes256gcm16"},
		{ProtocolIKE, "aes256gcm16-x25519", "needs a pseudo-random function beside aes256gcm16, e.g. -prfsha256"},
		{ProtocolIKE, "aes256-prfsha256-x25519", "aes256 needs an integrity algorithm, e.g. -sha256"},
		{ProtocolIKE, "aes256-aes256gcm16-sha256-x25519", "write two proposals"},
		{ProtocolIKE, "aes256gcm16-prfsha256-x25519-esn", "esn belongs in an ESP proposal"},
		{ProtocolIKE, "aes256gcm16-prfsha256-modpnone", "remove modpnone"},
		{ProtocolESP, "aes256gcm16-prfsha256", "prfsha256 belongs in an IKE proposal"},
		{ProtocolESP, "aes256", "aes256 needs an integrity algorithm"},
		{ProtocolESP, "sha256", "an ESP proposal needs an encryption algorithm"},
		{ProtocolAH, "sha256", "for IKE or ESP, not for AH"},
		{ProtocolIKE, "aes256gcm-prfsha256-x25519", `unknown keyword "aes256gcm", did you mean "aes256gcm16"?`},
		{ProtocolIKE, "aes256gcm16-prfsha265-x25519", `did you mean "prfsha256"?`},
		{ProtocolIKE, "aes256gcm16-prfsha256-x22519", `did you mean "x25519"?`},
		{ProtocolIKE, "aes256gcm16-prfsha256-ecp25", `did you mean "ecp256"?`},
		{ProtocolIKE, "rot13-prfsha256-x25519", `unknown keyword "rot13", expected strongSwan's`},
		{ProtocolIKE, "aes256-sha256-modp2048!", `drop the "!"`},
		{ProtocolESP, "3des-sha256", "3des is refused because"},
		{ProtocolESP, "null-sha256", "null is refused because"},
		{ProtocolESP, "aes256ccm16", "aes256ccm16 is not implemented"},
		{ProtocolESP, "aes256-md5", "md5 is refused because"},
		{ProtocolIKE, "aes256gcm16-prfsha256-x448", "x448 is not implemented"},
		{ProtocolIKE, "aes256gcm16-prfsha256-mlkem768", "write x25519-ke1_mlkem768"},
		{ProtocolIKE, "aes256gcm16-prfsha256-x25519-ke1_mlkem512", "mlkem512 is not implemented"},
		{ProtocolIKE, "aes256gcm16-prfsha256-x25519-ke1_mlkem76", `did you mean "mlkem768"?`},
		{ProtocolIKE, "aes256gcm16-prfsha256-x25519-ke1_aes256", "aes256 is no key exchange: write one behind ke1_"},
		{ProtocolIKE, "aes256gcm16-prfsha256-x25519-ke8_mlkem768", `unknown keyword "ke8_mlkem768"`},
		{ProtocolIKE, "aes256gcm16-prfsha256-x25519-ke1_", "empty keyword"},
		{ProtocolIKE, "aes256gcm16-prfsha256-x25519-ke1_x25519", "each key exchange can be done once only"},
		{ProtocolIKE, "aes256gcm16-prfsha256-x25519-ke1_mlkem768-ke2_mlkem768", "each key exchange can be done once only"},
		{ProtocolIKE, "aes256gcm16-prfsha256-ke1_mlkem768", "needs a key exchange group"},
		{ProtocolESP, "aes256gcm16-ke1_mlkem768", "additional key exchanges go beside a first one"},
		{ProtocolESP, "aes256gcm16-modpnone-ke1_mlkem768", "each key exchange can be done once only"},
		{ProtocolIKE, "aes256gcm16-prfsha256-modp2048s256", "modp2048s256 is refused"},
	}
	for _, tt := range tests {
		p, err := ParseProposal(tt.p, tt.in)
		if err == nil {
			t.Errorf("ParseProposal(%v, %q) = %v, want an error with %q", tt.p, tt.in, p, tt.want)
			continue
		}
		if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ParseProposal(%v, %q):\n got error %q\nwant with  %q", tt.p, tt.in, err, tt.want)
		}
	}
}

// All faults of a proposal come at once.
func TestParseProposalAllFaults(t *testing.T) {
	_, err := ParseProposal(ProtocolIKE, "3des-md5-modp768")
	for _, want := range []string{"3des", "md5", "modp768"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}

func TestParseProposals(t *testing.T) {
	defaults := DefaultESP(RolePeer, PostQuantumPrefer)
	for _, tt := range []struct {
		in   []string
		want []string
	}{
		{nil, []string{defaults[0].String(), defaults[1].String()}},
		{[]string{"default"}, []string{defaults[0].String(), defaults[1].String()}},
		{[]string{"aes256-sha256", "Default", "aes256-sha256"}, []string{"aes256-sha256", defaults[0].String(), defaults[1].String()}},
	} {
		got, err := ParseProposals(ProtocolESP, tt.in, defaults)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, p := range got {
			names = append(names, p.String())
		}
		if diff := cmp.Diff(tt.want, names); diff != "" {
			t.Errorf("ParseProposals(%q) (-want +got):\n%s", tt.in, diff)
		}
	}
	_, err := ParseProposals(ProtocolESP, []string{"aes256", "aes256gcm16", "foo"}, defaults)
	if err == nil || !strings.Contains(err.Error(), `"aes256"`) || !strings.Contains(err.Error(), `"foo"`) {
		t.Errorf("error %v does not name both faults", err)
	}
}

// Every keyword says its own name, or the name of the first word for the same
// transform, and no word stands there twice.
func TestKeywords(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range keywords {
		if seen[k.name] {
			t.Errorf("keyword %q stands there twice", k.name)
		}
		seen[k.name] = true
		i := slices.IndexFunc(keywords, func(o keyword) bool { return o.t == k.t })
		if got := k.t.String(); got != keywords[i].name {
			t.Errorf("%+v prints %q, want %q", k.t, got, keywords[i].name)
		}
		if keywords[i].refusal != k.refusal {
			t.Errorf("%q and %q are one transform with two refusals", k.name, keywords[i].name)
		}
	}
}

// What has a keyword without refusal is built.
func TestKeywordsAreImplemented(t *testing.T) {
	for _, k := range keywords {
		var err error
		switch k.t.Type {
		case TypeEncr:
			_, err = encrKeyLen(k.t)
		case TypePRF:
			_, err = NewPRF(k.t)
		case TypeInteg:
			_, err = macOf(k.t)
		default:
			continue // package kex and the replay window have tests of their own
		}
		if (err == nil) != (k.refusal == "") {
			t.Errorf("%s: refusal %q, building it gives error %v", k.name, k.refusal, err)
		}
	}
}

func TestStrings(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{Transform{TypeEncr, 99, 0}.String(), "encr=99"},
		{Transform{TypeEncr, EncrAESCBC, 512}.String(), "encr=12/512"},
		{Transform{TypeEncr, EncrAESCBC, 0}.String(), "encr=12"},
		{Transform{TypeInteg, IntegNone, 0}.String(), "none"},
		{Transform{TypeAddKE1, KEMLKEM768, 0}.String(), "ke1_mlkem768"},
		{Transform{TypeAddKE7, KENone, 0}.String(), "ke7_none"},
		{Transform{13, 1, 0}.String(), "type13=1"},
		{KEName(KEX25519), "x25519"},
		{KEName(1025), "ke=1025"},
		{ProtocolESP.String(), "ESP"},
		{Protocol(9).String(), "protocol=9"},
		{TypeAddKE1.String(), "ke1"},
		{Proposal{}.String(), "(empty)"},
		{Suite{
			Protocol: ProtocolESP,
			Encr:     Transform{TypeEncr, EncrAESGCM16, 256},
			ESN:      Transform{TypeESN, ESNYes, 0},
		}.String(), "aes256gcm16-esn"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

func FuzzParseProposal(f *testing.F) {
	for _, s := range []string{"aes256gcm16-prfsha256-x25519", "aes256-sha256-modp2048", "ke1_mlkem768", "aes256!", "--", "aes256gcm"} {
		f.Add(true, s)
		f.Add(false, s)
	}
	f.Fuzz(func(t *testing.T, ike bool, s string) {
		proto := ProtocolESP
		if ike {
			proto = ProtocolIKE
		}
		p, err := ParseProposal(proto, s)
		if err != nil {
			return
		}
		again, err := ParseProposal(proto, p.String())
		if err != nil || !cmp.Equal(again, p) {
			t.Errorf("%q is printed as %q, which reads as %q, %v", s, p, again, err)
		}
		if _, err := Select([]Proposal{p}, []Proposal{p}, false); err != nil {
			t.Errorf("%q does not agree with itself: %v", p, err)
		}
	})
}
