package message_test

import (
	"bytes"
	"slices"
	"testing"

	"martlet/crypto/suite"
	. "martlet/ike/message"
)

// TestAddKEWire: the proposal of RFC 9370 §2.2.2 with two additional key exchanges, one of
// which may be NONE.
func TestAddKEWire(t *testing.T) {
	const wire = "0000003c 01010006" +
		" 0300000c 01000014 800e0100" +
		" 03000008 02000006" +
		" 03000008 0400001f" +
		" 03000008 06000024" +
		" 03000008 07000025" +
		" 00000008 07000000"
	want := []suite.Transform{
		{Type: suite.TypeEncr, ID: suite.EncrAESGCM16, KeyLen: 256},
		{Type: suite.TypePRF, ID: suite.PRFHMACSHA384},
		{Type: suite.TypeKE, ID: suite.KEX25519},
		{Type: suite.TypeAddKE1, ID: suite.KEMLKEM768},
		{Type: suite.TypeAddKE1 + 1, ID: suite.KEMLKEM1024},
		{Type: suite.TypeAddKE1 + 1, ID: suite.KENone},
	}
	sa, err := parseOne[*SA](t, TypeSA, wire)
	if err != nil {
		t.Fatal(err)
	}
	if p := sa.Proposals[0]; p.Unknown || !slices.Equal(p.Transforms, want) {
		t.Errorf("parsed as %v", p.Proposal)
	}
	if got := AppendPayloads(nil, []Payload{sa}); !bytes.Equal(got, payload(t, wire)) {
		t.Errorf("appended as %x", got)
	}
}

// TestPostQuantumNotifies: the numbers and forms of RFC 8784 §5.1, RFC 9242 §3.1 and
// RFC 9370 §2.2.4.
func TestPostQuantumNotifies(t *testing.T) {
	for _, c := range []struct {
		kind NotifyType
		data string
		want string
	}{
		{UsePPK, "", "00 00 0008  00 00 4033"},
		{PPKIdentity, "\x02k1", "00 00 000b  00 00 4034  02 6b31"},
		{PPKIdentity, "", "00 00 0008  00 00 4034"},
		{NoPPKAuth, "\xaa\xbb", "00 00 000a  00 00 4035  aabb"},
		{IntermediateExchangeSupported, "", "00 00 0008  00 00 4036"},
		{AdditionalKeyExchange, "link", "00 00 000c  00 00 4039  6c696e6b"},
		{StateNotFound, "", "00 00 0008  00 00 002f"},
	} {
		if got := wire(c.kind, []byte(c.data)); !bytes.Equal(got, unhex(t, c.want)) {
			t.Errorf("%v: %x, want %s", c.kind, got, c.want)
		}
	}
	if !StateNotFound.IsError() || AdditionalKeyExchange.IsError() {
		t.Error("an error is a status, or the other way round")
	}
}

// TestPlain: the lengths count header and payloads, and nothing of the encryption (RFC 9242
// §3.3.2).
func TestPlain(t *testing.T) {
	ke := []Payload{&KE{Method: suite.KEMLKEM768, Data: []byte{1, 2, 3, 4}}}
	h := Header{SPIi: 1, SPIr: 2, Exchange: IKEIntermediate, Flags: FlagInitiator, MessageID: 1}
	want := unhex(t, `
		0000000000000001 0000000000000002 2e 20 2b 08 00000001 0000002c
		22 00 0010
		00 00 000c 0024 0000 01020304`)
	if got := Plain(h, FirstType(ke), AppendPayloads(nil, ke)); !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	if IKEFollowupKE != 44 {
		t.Error("IKE_FOLLOWUP_KE has another number")
	}
}
