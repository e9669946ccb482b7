package message_test

import (
	"testing"

	. "martlet/ike/message"
)

func TestEncryptedWire(t *testing.T) {
	for name, c := range map[string]struct {
		e    Encrypted
		typ  PayloadType
		want string
	}{
		"SK":        {Encrypted{First: TypeIDi, Body: []byte{0xaa}}, TypeSK, "\x23\x00\x00\x05\xaa"},
		"SKF":       {Encrypted{First: TypeIDi, Fragment: 1, Total: 0x102, Body: []byte{0xaa}}, TypeSKF, "\x23\x00\x00\x09\x00\x01\x01\x02\xaa"},
		"later SKF": {Encrypted{Fragment: 2, Total: 2}, TypeSKF, "\x00\x00\x00\x08\x00\x02\x00\x02"},
	} {
		if c.e.Type() != c.typ {
			t.Errorf("%s: type %v, want %v", name, c.e.Type(), c.typ)
		}
		if got := AppendPayloads(nil, []Payload{&c.e}); string(got) != c.want {
			t.Errorf("%s: %x, want %x", name, got, c.want)
		}
	}
}
