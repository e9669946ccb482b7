package message_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"martlet/crypto/suite"
	. "martlet/ike/message"
)

// ciphers are those that IKE may use, by name, each made anew: they have state.
func ciphers(tb testing.TB) map[string]suite.Cipher {
	tb.Helper()
	sha256 := suite.Transform{Type: suite.TypeInteg, ID: suite.IntegHMACSHA2_256_128}
	all := map[string]suite.Cipher{}
	for name, c := range map[string]struct{ encr, integ suite.Transform }{
		"GCM-256": {suite.Transform{Type: suite.TypeEncr, ID: suite.EncrAESGCM16, KeyLen: 256}, suite.Transform{}},
		"GCM-8":   {suite.Transform{Type: suite.TypeEncr, ID: suite.EncrAESGCM8, KeyLen: 128}, suite.Transform{}},
		"ChaCha":  {suite.Transform{Type: suite.TypeEncr, ID: suite.EncrChaCha20Poly1305}, suite.Transform{}},
		"CBC-256": {suite.Transform{Type: suite.TypeEncr, ID: suite.EncrAESCBC, KeyLen: 256}, sha256},
		"CTR-128": {suite.Transform{Type: suite.TypeEncr, ID: suite.EncrAESCTR, KeyLen: 128}, sha256},
	} {
		encr, integ, err := suite.Suite{Encr: c.encr, Integ: c.integ}.KeyLens()
		if err != nil {
			tb.Fatal(err)
		}
		all[name], err = suite.NewCipher(c.encr, c.integ, bytes.Repeat([]byte{1}, encr), bytes.Repeat([]byte{2}, integ))
		if err != nil {
			tb.Fatal(err)
		}
	}
	return all
}

func counter() func() uint64 {
	var n uint64
	return func() uint64 { n++; return n }
}

var testHeader = Header{SPIi: 1, SPIr: 2, Major: 2, Exchange: IKEAuth, Flags: FlagInitiator, MessageID: 1}

func TestSealOpen(t *testing.T) {
	for name, c := range ciphers(t) {
		for _, ps := range [][]Payload{nil, {&Delete{Protocol: suite.ProtocolIKE}}, samples()} {
			pkts := Seal(testHeader, ps, c, counter(), 0)
			if len(pkts) != 1 {
				t.Fatalf("%s: %d messages, want 1", name, len(pkts))
			}
			m, err := Parse(pkts[0])
			if err != nil {
				t.Fatalf("%s: the outside does not parse: %v", name, err)
			}
			if e, ok := Find[*Encrypted](m.Payloads); !ok || e.First != FirstType(ps) || e.Fragment != 0 {
				t.Errorf("%s: outside is %+v", name, m.Payloads)
			}
			h, e, text, err := Open(pkts[0], c)
			if err != nil || h != testHeader || e == nil {
				t.Fatalf("%s: %+v, %+v, %v", name, h, e, err)
			}
			got, err := ParsePayloads(e.First, text)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if diff := cmp.Diff(ps, got, cmpAddr); diff != "" {
				t.Errorf("%s: (-want +got)\n%s", name, diff)
			}
		}
	}
}

func TestSealFragments(t *testing.T) {
	ps := append(samples(), &Cert{Encoding: CertX509Signature, Data: bytes.Repeat([]byte("certificate "), 200)})
	for name, c := range ciphers(t) {
		for _, size := range []int{0, 1, 250, 576, 1280, 2000, 4000, 1 << 20} {
			pkts := Seal(testHeader, ps, c, counter(), size)
			if whole := len(Seal(testHeader, ps, c, counter(), 0)[0]); size == 0 || whole <= size {
				if len(pkts) != 1 {
					t.Errorf("%s, %d: %d messages where one of %d octets does", name, size, len(pkts), whole)
				}
				continue
			}
			var r Reassembly
			var first PayloadType
			var whole []byte
			var done bool
			for i, pkt := range pkts {
				if size >= 250 && len(pkt) > size {
					t.Errorf("%s, %d: datagram of %d octets", name, size, len(pkt))
				}
				h, e, text, err := Open(pkt, c)
				if err != nil || h != testHeader {
					t.Fatalf("%s, %d: fragment %d: %v", name, size, i, err)
				}
				if int(e.Fragment) != i+1 || int(e.Total) != len(pkts) || (e.First != 0) != (i == 0) {
					t.Errorf("%s, %d: fragment %d is %+v", name, size, i, e)
				}
				first, whole, done = r.Add(h.MessageID, e, text)
				if done != (i == len(pkts)-1) {
					t.Fatalf("%s, %d: done is %v after %d of %d", name, size, done, i+1, len(pkts))
				}
			}
			got, err := ParsePayloads(first, whole)
			if err != nil {
				t.Fatalf("%s, %d: %v", name, size, err)
			}
			if diff := cmp.Diff(ps, got, cmpAddr); diff != "" {
				t.Errorf("%s, %d: (-want +got)\n%s", name, size, diff)
			}
		}
	}
}

// Each datagram but the last is as large as the cipher's blocks let it be.
func TestSealFragmentsFull(t *testing.T) {
	ps := []Payload{&VendorID{Data: make([]byte, 5000)}}
	for name, c := range ciphers(t) {
		pkts := Seal(testHeader, ps, c, counter(), 1280)
		for _, pkt := range pkts[:len(pkts)-1] {
			if len(pkt) <= 1280-c.BlockLen() || len(pkt) > 1280 {
				t.Errorf("%s: datagram of %d octets, want 1280 or a little less", name, len(pkt))
			}
		}
	}
}

func TestSealTooLarge(t *testing.T) {
	c := ciphers(t)["GCM-256"]
	large := []Payload{&VendorID{Data: make([]byte, 40000)}, &VendorID{Data: make([]byte, 40000)}}
	if pkts := Seal(testHeader, large, c, counter(), 0); pkts != nil {
		t.Error("80,000 octets in one SK payload")
	}
	if pkts := Seal(testHeader, large, c, counter(), 1280); len(pkts) != 66 {
		t.Errorf("80,000 octets in %d fragments of 1280, want 66", len(pkts))
	}
	if pkts := Seal(testHeader, []Payload{&VendorID{Data: make([]byte, 65532)}}, c, counter(), 1280); pkts != nil {
		t.Error("a payload that is too large is sent")
	}
}

func TestSealIVs(t *testing.T) {
	var calls int
	next := func() uint64 { calls++; return uint64(calls) }
	c := ciphers(t)["GCM-256"]
	if pkts := Seal(testHeader, []Payload{&VendorID{Data: make([]byte, 5000)}}, c, next, 1280); calls != len(pkts) || calls < 2 {
		t.Errorf("%d IVs for %d messages", calls, len(pkts))
	}
}

// RFC 7296 §3.14: payloads before SK are legal, and are not protected from being
// made up: what Open returns does not have them. The ICV covers them.
func TestOpenUnprotectedBefore(t *testing.T) {
	c := ciphers(t)["GCM-256"]
	pkt := sealText(testHeader, []Payload{&Notify{Notify: InitialContact}}, TypeNonce, paddedText([]byte("text"), 0), c)
	_, e, text, err := Open(bytes.Clone(pkt), c)
	if err != nil || string(text) != "text" || e.First != TypeNonce {
		t.Fatalf("%+v, %q, %v", e, text, err)
	}
	pkt[HeaderLen+7] ^= 1 // the notify's type
	if _, e, _, err := Open(pkt, c); !errors.Is(err, ErrICV) || e != nil {
		t.Errorf("payload before SK changed: %+v, %v; want ErrICV", e, err)
	}
}

func TestOpenForged(t *testing.T) {
	for name, c := range ciphers(t) {
		pkt := Seal(testHeader, []Payload{&Nonce{Data: make([]byte, 16)}}, c, counter(), 0)[0]
		for i := range pkt {
			bad := bytes.Clone(pkt)
			bad[i] ^= 0x10
			_, e, _, err := Open(bad, c)
			if err == nil || e != nil {
				t.Fatalf("%s: octet %d changed: %+v, %v", name, i, e, err)
			}
			if _, isVersion := errors.AsType[*VersionError](err); !isVersion && !errors.Is(err, ErrICV) && !isSyntaxError(err) {
				t.Errorf("%s: octet %d changed: error is %T", name, i, err)
			}
		}
		for n := range pkt {
			_, e, _, err := Open(bytes.Clone(pkt[:n]), c)
			if err == nil || e != nil {
				t.Fatalf("%s: %d of %d octets: %+v, %v", name, n, len(pkt), e, err)
			}
		}
		// Cut off with all lengths right: there is too little to check, or the check fails.
		for n := HeaderLen + 4; n < len(pkt); n++ {
			cut := withLength(pkt[:n])
			cut[HeaderLen+2], cut[HeaderLen+3] = 0, byte(n-HeaderLen)
			if _, e, _, err := Open(cut, c); !errors.Is(err, ErrICV) || e != nil {
				t.Errorf("%s: %d of %d octets: %+v, %v; want ErrICV", name, n, len(pkt), e, err)
			}
		}
	}
}

func TestOpenNotProtected(t *testing.T) {
	c := ciphers(t)["GCM-256"]
	for name, m := range map[string]*Message{
		"no payload":    {},
		"only others":   {Payloads: samples()},
		"101 before SK": {Payloads: append(many(101), &Encrypted{})},
		"fragment 0":    {Payloads: []Payload{&Unknown{Number: TypeSKF, Body: make([]byte, 64)}}},
		"SKF of 3":      {Payloads: []Payload{&Unknown{Number: TypeSKF, Body: make([]byte, 3)}}},
	} {
		if _, e, _, err := Open(m.Append(nil), c); !isSyntaxError(err) || e != nil {
			t.Errorf("%s: %+v, %v; want *Error", name, e, err)
		}
	}
	behind := Seal(testHeader, nil, c, counter(), 0)[0]
	if _, e, _, err := Open(withLength(append(behind, 0)), c); !isSyntaxError(err) || e != nil {
		t.Errorf("octet behind SK: %+v, %v; want *Error", e, err)
	}
}

// many is n payloads of no meaning.
func many(n int) []Payload {
	ps := make([]Payload, n)
	for i := range ps {
		ps[i] = &Unknown{Number: 201, Body: []byte{}}
	}
	return ps
}

// paddedText is text with pad octets of padding and the pad length.
func paddedText(text []byte, pad int) []byte {
	return append(append(bytes.Clone(text), make([]byte, pad)...), byte(pad))
}

// sealText writes a message whose SK payload holds text as it is, padding and pad
// length included: what a hostile peer with the right keys can send. before stands
// unprotected before SK.
func sealText(h Header, before []Payload, first PayloadType, text []byte, c suite.Cipher) []byte {
	body := make([]byte, c.IVLen()+len(text)+c.ICVLen())
	copy(body[c.IVLen():], text)
	pkt := (&Message{Header: h, Payloads: append(before, &Encrypted{First: first, Body: body})}).Append(nil)
	c.Seal(pkt, len(pkt)-len(body), 1, suite.ESN{})
	return pkt
}

func ExampleSeal() {
	c, err := suite.NewCipher(suite.Transform{Type: suite.TypeEncr, ID: suite.EncrAESGCM16, KeyLen: 128}, suite.Transform{}, make([]byte, 20), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	var iv uint64
	nextIV := func() uint64 { iv++; return iv }
	h := Header{SPIi: 1, SPIr: 2, Exchange: Informational, MessageID: 4}
	for _, pkt := range Seal(h, []Payload{&Notify{Notify: InitialContact}}, c, nextIV, 1280) {
		h, e, text, err := Open(pkt, c)
		if err != nil {
			fmt.Println(err)
			return
		}
		ps, err := ParsePayloads(e.First, text)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(h.Exchange, h.MessageID, FindNotify(ps, InitialContact).Notify)
	}
	// Output: INFORMATIONAL 4 INITIAL_CONTACT
}
