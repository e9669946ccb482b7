package suite

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// With the sequence number as explicit IV the other ciphers make the same text and ICV
// (RFC 8750 §4): theirs is the packet, less the IV.
func TestImplicitIV(t *testing.T) {
	for explicit, implicit := range map[string]string{"aes128gcm16": "aes128gcm16iiv", "aes256gcm16": "aes256gcm16iiv", "chacha20poly1305": "chacha20poly1305iiv"} {
		with, _ := newPair(t, explicit)
		seal, open := newPair(t, implicit)
		if seal.IVLen() != 0 || seal.ICVLen() != 16 || seal.BlockLen() != 1 {
			t.Fatalf("%s: IV %d, ICV %d, blocks of %d", implicit, seal.IVLen(), seal.ICVLen(), seal.BlockLen())
		}
		for _, seq := range []uint64{1, 1<<32 - 1, 1 << 32, 7<<32 | 9} {
			esn := ESN{On: seq>>32 != 0, High: uint32(seq >> 32)}
			for n := range 70 {
				want, text := packet(with, 8, n)
				binary.BigEndian.PutUint32(want[4:], uint32(seq))
				with.Seal(want, 8, seq, esn)
				pkt := append(append(bytes.Clone(want[:8]), text...), make([]byte, 16)...)
				seal.Seal(pkt, 8, 12345, esn)
				if !bytes.Equal(pkt, append(bytes.Clone(want[:8]), want[16:]...)) {
					t.Fatalf("%s, number %d, %d octets: differs from the one with an IV", implicit, seq, n)
				}
				forged := bytes.Clone(pkt)
				forged[7] ^= 1 // the number is the IV
				if _, err := open.Open(forged, 8, esn); err != ErrICV {
					t.Errorf("%s: another number: %v", implicit, err)
				}
				got, err := open.Open(pkt, 8, esn)
				if err != nil || !bytes.Equal(got, text) {
					t.Fatalf("%s, number %d, %d octets: %x, %v", implicit, seq, n, got, err)
				}
			}
		}
		for n := range 24 {
			if _, err := open.Open(make([]byte, n), 8, ESN{}); err != ErrLength {
				t.Errorf("%s: %d octets: %v", implicit, n, err)
			}
		}
		if _, err := open.Open(make([]byte, 100), 28, ESN{}); err != ErrLength {
			t.Errorf("%s: a head that is not ESP's: %v", implicit, err)
		}
	}
}

func TestImplicitIVIsForESPOnly(t *testing.T) {
	_, err := ParseProposal(ProtocolIKE, "aes256gcm16iiv-prfsha256-x25519")
	if err == nil || !strings.Contains(err.Error(), "ESP only") {
		t.Errorf("got %v", err)
	}
	p := Proposal{Protocol: ProtocolIKE, Transforms: []Transform{
		{TypeEncr, EncrAESGCM16IIV, 256}, {TypePRF, PRFHMACSHA256, 0}, {TypeKE, KEX25519, 0},
	}}
	if _, err := p.Suite(); err == nil {
		t.Error("a suite of IKE with an implicit IV")
	}
}
