package suite

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// mismatch selects and wants it to fail.
func mismatch(t *testing.T, offered, accept []Proposal) *MismatchError {
	t.Helper()
	got, err := Select(offered, accept, false)
	e, ok := errors.AsType[*MismatchError](err)
	if !ok {
		t.Fatalf("got %v, %v; want a *MismatchError", got.Suite, err)
	}
	return e
}

func TestMismatchFix(t *testing.T) {
	tests := []struct {
		name    string
		proto   Protocol
		offered []string
		accept  []Proposal
		want    string
	}{
		{
			"CBC to a site-to-site peer", ProtocolIKE,
			[]string{"aes256-sha256-modp2048"},
			DefaultIKE(RolePeer, PostQuantumPrefer),
			`add "aes256-sha256-modp2048" to proposals (only aes256 and sha256 and modp2048 not accepted)`,
		},
		{
			"one group away", ProtocolIKE,
			[]string{"aes128-sha1-modp1024", "aes256gcm16-prfsha256-modp2048"},
			DefaultIKE(RolePeer, PostQuantumPrefer),
			`add "aes256gcm16-prfsha256-modp2048" to proposals (only modp2048 not accepted)`,
		},
		{
			"Windows as it comes", ProtocolIKE,
			[]string{"aes128-sha1-modp1024", "aes256-sha256-modp1024"},
			DefaultIKE(RoleDeviceGateway, PostQuantumPrefer),
			`the peer offers only weak modp1024: better make it offer "aes256gcm16-prfsha256-x25519", else add "aes256-sha256-modp1024" to proposals (only modp1024 not accepted)`,
		},
		{
			"forward secrecy we insist on", ProtocolESP,
			[]string{"aes256gcm16"},
			parse(t, ProtocolESP, "aes256gcm16-x25519"),
			`add "aes256gcm16" to proposals (only a proposal without ke not accepted)`,
		},
		{
			"sequence numbers", ProtocolESP,
			[]string{"aes256gcm16-noesn"},
			parse(t, ProtocolESP, "aes256gcm16-esn"),
			`add "aes256gcm16-noesn" to proposals (only noesn not accepted)`,
		},
		{
			"nothing accepted", ProtocolESP,
			[]string{"aes256gcm16"},
			nil,
			`add "aes256gcm16" to proposals (only aes256gcm16 not accepted)`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := mismatch(t, parse(t, tt.proto, tt.offered...), tt.accept)
			if diff := cmp.Diff(tt.want, e.Fix()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			checkFix(t, e, tt.proto)
		})
	}
}

func TestMismatchFixWithoutHope(t *testing.T) {
	hopeless := Proposal{ProtocolIKE, []Transform{
		{TypeEncr, Encr3DES, 0}, {TypePRF, PRFHMACSHA1, 0}, {TypeInteg, IntegHMACSHA1_96, 0}, {TypeKE, KEMODP1024, 0},
	}}
	want := `make it offer "aes256gcm16-prfsha256-x25519"`
	for name, offered := range map[string][]Proposal{
		"nothing":         nil,
		"not implemented": {hopeless},
		"incomplete":      {{Protocol: ProtocolIKE}},
		"AH":              {{ProtocolAH, []Transform{{TypeInteg, IntegHMACSHA1_96, 0}}}},
	} {
		if got := mismatch(t, offered, DefaultIKE(RolePeer, PostQuantumPrefer)).Fix(); !strings.Contains(got, want) {
			t.Errorf("%s: %q does not say %q", name, got, want)
		}
	}
}

func TestMismatchTable(t *testing.T) {
	e := mismatch(t, parse(t, ProtocolIKE, "aes256-aes128-sha1-sha256-modp1024"), DefaultIKE(RoleDeviceGateway, PostQuantumPrefer))
	want := `
       offered                            accepted
encr   aes256 aes128                      aes256gcm16 aes128gcm16
                                          chacha20poly1305 aes256 aes128
prf    prfsha1 prfsha256                  prfsha256 prfsha384 prfsha512
integ  sha1 sha256                        sha256 sha384 sha512
ke     modp1024                           x25519 ecp256 ecp384 ecp521        <- nothing in common
                                          modp3072 modp4096 modp2048
ke1    -                                  ke1_mlkem768 ke1_mlkem1024
`
	if diff := cmp.Diff(want, "\n"+e.Table()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMismatchErrorIsOneLine(t *testing.T) {
	e := mismatch(t, parse(t, ProtocolIKE, "aes128-sha1-modp1024", "aes192-sha1-modp1024", "aes256-sha1-modp1024", "aes256-sha256-modp1024"), DefaultIKE(RolePeer, PostQuantumPrefer))
	got := e.Error()
	for _, want := range []string{"offered aes128-sha1-modp1024,", "and 1 more", "accepted aes256gcm16-", `add "`} {
		if !strings.Contains(got, want) {
			t.Errorf("%q does not have %q", got, want)
		}
	}
	if strings.Contains(got, "\n") {
		t.Errorf("%q is not one line", got)
	}
}

// A peer may fill a message with transforms; what is printed about it stays short.
func TestMismatchOfHostileSize(t *testing.T) {
	p := Proposal{Protocol: ProtocolIKE}
	for i := range 8000 {
		p.Transforms = append(p.Transforms, Transform{TypeEncr, uint16(1000 + i), 0})
	}
	e := mismatch(t, []Proposal{p, p, p, p, p}, DefaultIKE(RolePeer, PostQuantumPrefer))
	if n := len(e.Error()); n > 2000 {
		t.Errorf("error has %d octets", n)
	}
	if n := len(e.Table()); n > 4000 {
		t.Errorf("table has %d octets", n)
	}
}
