package message_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"martlet/crypto/suite"
	. "martlet/ike/message"
)

// payload writes the generic header, with no next payload, before a body in
// hexadecimal digits and spaces.
func payload(t *testing.T, body string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(body, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{0, 0, byte((len(b) + 4) >> 8), byte(len(b) + 4)}, b...)
}

// parseOne parses a chain of one payload with the body given.
func parseOne[T Payload](t *testing.T, first PayloadType, body string) (T, error) {
	t.Helper()
	ps, err := ParsePayloads(first, payload(t, body))
	if err != nil {
		var zero T
		return zero, err
	}
	p, ok := Find[T](ps)
	if !ok {
		t.Fatalf("%s: parsed as %T", body, ps[0])
	}
	return p, nil
}

func TestSAWire(t *testing.T) {
	// One proposal, IKE: AES-CBC-256, HMAC-SHA2-256 twice, group 14, as RFC 7296
	// §3.3 draws it.
	const wire = "0000002c 01010004" +
		" 0300000c 0100000c 800e0100" +
		" 03000008 02000005" +
		" 03000008 0300000c" +
		" 00000008 0400000e"
	want := Proposal{Num: 1, SPI: []byte{}, Proposal: suite.Proposal{
		Protocol: suite.ProtocolIKE,
		Transforms: []suite.Transform{
			{Type: suite.TypeEncr, ID: suite.EncrAESCBC, KeyLen: 256},
			{Type: suite.TypePRF, ID: suite.PRFHMACSHA256},
			{Type: suite.TypeInteg, ID: suite.IntegHMACSHA2_256_128},
			{Type: suite.TypeKE, ID: suite.KEMODP2048},
		},
	}}
	sa, err := parseOne[*SA](t, TypeSA, wire)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Proposal{want}, sa.Proposals); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := AppendPayloads(nil, []Payload{sa}); !bytes.Equal(got, payload(t, wire)) {
		t.Errorf("appended as %x", got)
	}
}

// RFC 7296 §3.3.6: what is not understood makes a transform, or the whole proposal,
// unacceptable, and leaves the others alone.
func TestSAUnknown(t *testing.T) {
	const (
		prf         = "0000000802000005"
		morePRF     = "0300000802000005"
		encr        = "0300000c 0100000c 800e0100"
		encrTwoLens = "03000010 0100000c 800e0100 800e0080"
		encrNoLen   = "03000008 0100000c"
		encrZeroLen = "0300000c 0100000c 800e0000"
		encrOther   = "03000010 0100000c 800e0100 80630001"
		encrTLV     = "03000013 0100000c 800e0100 0011 0003 aabbcc"
		type13      = "03000008 0d000001"
		type0       = "03000008 00000001"
		id999       = "03000008 030003e7"
	)
	for _, c := range []struct {
		name, body string
		unknown    bool
		transforms int
	}{
		{"known", "0000001c 01010002" + encr + prf, false, 2},
		{"key length twice", "00000020 01010002" + encrTwoLens + prf, true, 1},
		{"no key length", "00000018 01010002" + encrNoLen + prf, false, 2},
		{"key length 0", "0000001c 01010002" + encrZeroLen + prf, true, 1},
		{"unknown attribute, other transform", "0000002c 01010003" + encrOther + encr + prf, false, 2},
		{"unknown attribute, no other", "00000020 01010002" + encrOther + prf, true, 1},
		{"long attribute, no other", "00000023 01010002" + encrTLV + prf, true, 1},
		{"transform type 13", "00000018 01010002" + type13 + prf, true, 2},
		{"transform type 0", "00000018 01010002" + type0 + prf, true, 2},
		{"unknown ID", "00000018 01010002" + id999 + prf, false, 2},
		{"protocol 4", "00000010 01040001" + prf, true, 1},
		{"protocol 4, SPI of 3", "00000013 01040301 aabbcc" + prf, true, 1},
		{"no transforms", "00000008 01010000", false, 0},
		{"same transform twice", "00000018 01010002" + morePRF + prf, false, 2},
	} {
		sa, err := parseOne[*SA](t, TypeSA, c.body)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if p := sa.Proposals[0]; p.Unknown != c.unknown || len(p.Transforms) != c.transforms {
			t.Errorf("%s: unknown %v, %d transforms %v; want %v, %d", c.name, p.Unknown, len(p.Transforms), p.Transforms, c.unknown, c.transforms)
		}
	}
}

func TestSAErrors(t *testing.T) {
	for name, body := range map[string]string{
		"empty":                        "",
		"one more announced":           "02000010 01010001 00000008 02000005",
		"octets behind":                "00000010 01010001 00000008 02000005 00",
		"last substructure 1":          "01000010 01010001 00000008 02000005",
		"last substructure 3":          "03000010 01010001 00000008 02000005",
		"transform substructure 2":     "00000010 01010001 02000008 02000005",
		"transform says more":          "00000010 01010001 03000008 02000005",
		"transform says last":          "00000018 01010002 00000008 02000005 00000008 04000013",
		"two announced, one there":     "00000010 01010002 03000008 02000005",
		"none announced, one there":    "00000010 01010000 00000008 02000005",
		"SPI of 1 for IKE":             "00000011 01010101 aa 00000008 02000005",
		"SPI of 8 for ESP":             "00000018 01030801 aabbccddaabbccdd 00000008 02000005",
		"SPI of 0 for ESP":             "00000010 01030001 00000008 02000005",
		"SPI of 0 for AH":              "00000010 01020001 00000008 02000005",
		"SPI longer than the proposal": "00000010 010108ff 00000008 02000005",
		"attribute of 2 octets":        "00000012 01010001 0000000a 02000005 800e",
		"long attribute past the end":  "00000014 01010001 0000000c 02000005 000e0001",
	} {
		if sa, err := parseOne[*SA](t, TypeSA, body); !isSyntaxError(err) {
			t.Errorf("%s: got %+v, %v; want *Error", name, sa, err)
		}
	}
}

func TestSAManyProposals(t *testing.T) {
	// Windows sends 12 proposals; 255 with one transform each are still within bounds.
	sa := &SA{}
	for i := range 255 {
		sa.Proposals = append(sa.Proposals, Proposal{Num: uint8(i), Proposal: suite.Proposal{
			Protocol: suite.ProtocolIKE, Transforms: []suite.Transform{{Type: suite.TypePRF, ID: 5}},
		}})
	}
	if _, err := ParsePayloads(TypeSA, AppendPayloads(nil, []Payload{sa})); err != nil {
		t.Errorf("255 proposals: %v", err)
	}
	p := &sa.Proposals[0]
	p.Transforms = make([]suite.Transform, 255)
	for i := range p.Transforms {
		p.Transforms[i] = suite.Transform{Type: suite.TypeKE, ID: uint16(i)}
	}
	sa.Proposals = sa.Proposals[:1]
	ps, err := ParsePayloads(TypeSA, AppendPayloads(nil, []Payload{sa}))
	if err != nil {
		t.Fatalf("255 transforms: %v", err)
	}
	got, _ := Find[*SA](ps)
	if n := len(got.Proposals[0].Transforms); n != 255 {
		t.Errorf("%d transforms, want 255", n)
	}
}
