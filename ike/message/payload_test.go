package message_test

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"martlet/crypto/suite"
	. "martlet/ike/message"
)

// samples is one payload of each type that stands in the clear or inside SK, each
// with all its fields used.
func samples() []Payload {
	return []Payload{
		&SA{Proposals: []Proposal{
			{Num: 1, SPI: []byte{1, 2, 3, 4, 5, 6, 7, 8}, Proposal: suite.Proposal{
				Protocol: suite.ProtocolIKE,
				Transforms: []suite.Transform{
					{Type: suite.TypeEncr, ID: suite.EncrAESGCM16, KeyLen: 256},
					{Type: suite.TypePRF, ID: suite.PRFHMACSHA384},
					{Type: suite.TypeKE, ID: suite.KEX25519},
					{Type: suite.TypeAddKE1, ID: suite.KEMLKEM768},
				},
			}},
			{Num: 7, SPI: []byte{9, 8, 7, 6}, Proposal: suite.Proposal{
				Protocol: suite.ProtocolESP,
				Transforms: []suite.Transform{
					{Type: suite.TypeEncr, ID: suite.EncrChaCha20Poly1305},
					{Type: suite.TypeESN, ID: suite.ESNYes},
					{Type: suite.TypeESN, ID: suite.ESNNo},
				},
			}},
		}},
		&KE{Method: suite.KEX25519, Data: bytes.Repeat([]byte{0x42}, 32)},
		&ID{Kind: 2, Data: []byte("client.example")},
		&ID{Responder: true, Kind: 1, Reserved: [3]byte{1, 2, 3}, Data: []byte{10, 0, 0, 1}},
		&Cert{Encoding: CertX509Signature, Data: []byte{0x30, 0x03, 1, 2, 3}},
		&CertReq{Encoding: CertX509Signature, Data: bytes.Repeat([]byte{7}, 40)},
		&Auth{Method: AuthSignature, Data: bytes.Repeat([]byte{5}, 64)},
		&Nonce{Data: bytes.Repeat([]byte{3}, 32)},
		&Notify{Protocol: suite.ProtocolESP, SPI: []byte{1, 2, 3, 4}, Notify: RekeySA, Data: []byte{9}},
		&Notify{Notify: Cookie, SPI: []byte{}, Data: []byte("cookie")},
		&Delete{Protocol: suite.ProtocolIKE},
		&Delete{Protocol: suite.ProtocolESP, SPIs: []uint32{0x11223344, 0x55667788}},
		&VendorID{Data: []byte("a vendor")},
		&TS{Selectors: []Selector{
			SelectorOf(netip.MustParsePrefix("10.1.0.0/16")),
			{Protocol: 6, StartPort: 443, EndPort: 444, From: netip.MustParseAddr("10.0.0.1"), To: netip.MustParseAddr("10.0.0.9")},
		}},
		&TS{Responder: true, Selectors: []Selector{
			SelectorOf(netip.MustParsePrefix("2001:db8::/32")),
			{Protocol: 17, StartPort: 65535, EndPort: 0, From: netip.MustParseAddr("::ffff:10.0.0.1"), To: netip.MustParseAddr("::ffff:10.0.0.1")},
		}},
		&Config{Kind: ConfigReply, Attributes: []Attribute{
			NewAddrAttribute(InternalIP4Address, netip.MustParseAddr("10.9.0.2")),
			NewPrefixAttribute(InternalIP6Address, netip.MustParsePrefix("fd00::2/64")),
			{Type: ApplicationVersion, Value: []byte{}},
			{Type: 0x7abc, Value: []byte{1}},
		}},
		&EAP{Data: []byte{1, 0, 0, 5, 1}},
		&PuzzleSolution{Data: bytes.Repeat([]byte{1, 2}, 8)},
		&Unknown{Number: 200, Critical: true, Body: []byte{1, 2, 3}},
		&Unknown{Number: 1, Body: []byte{}},
	}
}

func TestPayloadRoundTrip(t *testing.T) {
	for _, p := range samples() {
		t.Run(p.Type().String(), func(t *testing.T) {
			wire := AppendPayloads(nil, []Payload{p})
			got, err := ParsePayloads(p.Type(), wire)
			if err != nil {
				t.Fatalf("parse %x: %v", wire, err)
			}
			if diff := cmp.Diff([]Payload{p}, got, cmpAddr); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if again := AppendPayloads(nil, got); !bytes.Equal(again, wire) {
				t.Errorf("appended again: %x, want %x", again, wire)
			}
		})
	}
}

// cmpAddr compares addresses: netip.Addr has hidden fields.
var cmpAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestChainRoundTrip(t *testing.T) {
	m := &Message{
		Header: Header{
			SPIi: 0x0102030405060708, SPIr: 0x1112131415161718, Major: 2, Minor: 1,
			Exchange: IKEAuth, Flags: FlagInitiator | FlagResponse, MessageID: 0xfffffffe,
		},
		Payloads: append(samples(), &Encrypted{First: TypeIDi, Body: []byte("sealed")}),
	}
	wire := m.Append([]byte("before"))
	wire, ok := bytes.CutPrefix(wire, []byte("before"))
	if !ok {
		t.Fatal("Append overwrote what was there")
	}
	got, err := Parse(wire)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, got, cmpAddr); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if h, err := ParseHeader(wire); err != nil || h != m.Header {
		t.Errorf("ParseHeader: %+v, %v; want %+v", h, err, m.Header)
	}
	if !got.IsResponse() || !got.FromInitiator() {
		t.Error("flags of the header are lost")
	}
}

// Each octet cut off from a chain of one payload must be an error: the length field
// of the payload then points behind the end.
func TestTruncation(t *testing.T) {
	for _, p := range samples() {
		wire := AppendPayloads(nil, []Payload{p})
		for n := range wire {
			if _, err := ParsePayloads(p.Type(), wire[:n]); !isSyntaxError(err) {
				t.Errorf("%v: %d of %d octets: got %v, want *Error", p.Type(), n, len(wire), err)
			}
		}
	}
	all := &Message{Payloads: append(samples(), &Encrypted{First: TypeIDi, Fragment: 1, Total: 2, Body: []byte("x")})}
	wire := all.Append(nil)
	for n := range wire {
		if _, err := Parse(wire[:n]); !isSyntaxError(err) {
			t.Errorf("message: %d of %d octets: got %v, want *Error", n, len(wire), err)
		}
		// The same with a header that knows, so that the chain is reached.
		if n >= HeaderLen {
			if _, err := Parse(withLength(wire[:n])); !isSyntaxError(err) {
				t.Errorf("message: %d of %d octets, length corrected: got %v, want *Error", n, len(wire), err)
			}
		}
	}
}

// Each octet cut off from a body, with the payload's length field corrected, must
// not panic, and what parses must survive a second round.
func TestTruncatedBody(t *testing.T) {
	for _, p := range samples() {
		wire := AppendPayloads(nil, []Payload{p})
		for n := 4; n < len(wire); n++ {
			cut := bytes.Clone(wire[:n])
			cut[2], cut[3] = byte(n>>8), byte(n)
			checkFixpoint(t, p.Type(), cut)
		}
	}
}

// checkFixpoint parses b; what parses must give, appended and parsed and appended
// again, the same octets.
func checkFixpoint(t *testing.T, first PayloadType, b []byte) {
	t.Helper()
	ps, err := ParsePayloads(first, b)
	if err != nil {
		if !isSyntaxError(err) {
			t.Fatalf("%v %x: error is %T, want *Error", first, b, err)
		}
		return
	}
	once := AppendPayloads(nil, ps)
	if once == nil {
		t.Fatalf("%v %x: parses and cannot be appended", first, b)
	}
	again, err := ParsePayloads(FirstType(ps), once)
	if err != nil {
		t.Fatalf("%v %x: appended as %x, which does not parse: %v", first, b, once, err)
	}
	if twice := AppendPayloads(nil, again); !bytes.Equal(once, twice) {
		t.Fatalf("%v %x: appended as %x, then as %x", first, b, once, twice)
	}
}

func isSyntaxError(err error) bool {
	_, ok := errors.AsType[*Error](err)
	return ok
}

// withLength is a copy of msg whose header has the right length.
func withLength(msg []byte) []byte {
	msg = bytes.Clone(msg)
	msg[24], msg[25], msg[26], msg[27] = byte(len(msg)>>24), byte(len(msg)>>16), byte(len(msg)>>8), byte(len(msg))
	return msg
}

func TestAppendTooLarge(t *testing.T) {
	for name, p := range map[string]Payload{
		"body":       &VendorID{Data: make([]byte, 65532)},
		"SPI":        &Notify{SPI: make([]byte, 256)},
		"SPI of SA":  &SA{Proposals: []Proposal{{SPI: make([]byte, 256)}}},
		"transforms": &SA{Proposals: []Proposal{{Proposal: suite.Proposal{Transforms: make([]suite.Transform, 256)}}}},
		"selectors":  &TS{Selectors: make([]Selector, 256)},
		"no address": &TS{Selectors: make([]Selector, 1)},
		"families":   &TS{Selectors: []Selector{{From: netip.IPv4Unspecified(), To: netip.IPv6Unspecified()}}},
		"attribute":  &Config{Attributes: []Attribute{{Value: make([]byte, 65536)}}},
		"SPIs":       &Delete{Protocol: suite.ProtocolESP, SPIs: make([]uint32, 65536)},
	} {
		if b := AppendPayloads(nil, []Payload{p}); b != nil {
			t.Errorf("%s: appended as %d octets, want nil", name, len(b))
		}
		if b := (&Message{Payloads: []Payload{p}}).Append(nil); b != nil {
			t.Errorf("%s: message of %d octets, want nil", name, len(b))
		}
	}
	if b := AppendPayloads(nil, []Payload{&VendorID{Data: make([]byte, 65531)}}); len(b) != 65535 {
		t.Errorf("largest payload has %d octets, want 65535", len(b))
	}
	if b := AppendPayloads(nil, nil); b == nil || len(b) != 0 {
		t.Errorf("no payloads: %v, want an empty chain", b)
	}
}

func TestFind(t *testing.T) {
	ps := samples()
	if ke, ok := Find[*KE](ps); !ok || ke.Method != suite.KEX25519 {
		t.Errorf("Find[*KE]: %v, %v", ke, ok)
	}
	if e, ok := Find[*Encrypted](ps); ok || e != nil {
		t.Errorf("Find[*Encrypted]: %v, %v; there is none", e, ok)
	}
	for _, responder := range []bool{false, true} {
		if id := FindID(ps, responder); id == nil || id.Responder != responder {
			t.Errorf("FindID(%v): %v", responder, id)
		}
		if ts := FindTS(ps, responder); ts == nil || ts.Responder != responder {
			t.Errorf("FindTS(%v): %v", responder, ts)
		}
	}
	m := Message{Payloads: ps}
	if n := m.Notify(Cookie); n == nil || string(n.Data) != "cookie" {
		t.Errorf("Notify(Cookie): %v", n)
	}
	if n := m.Notify(InvalidSyntax); n != nil {
		t.Errorf("Notify(InvalidSyntax): %v; there is none", n)
	}
	if n := FindError(ps); n != nil {
		t.Errorf("FindError: %v; there is none", n)
	}
	ps = append(ps, &Notify{Notify: NoProposalChosen})
	if n := FindError(ps); n == nil || n.Notify != NoProposalChosen {
		t.Errorf("FindError: %v, want NO_PROPOSAL_CHOSEN", n)
	}
	if FindID(nil, true) != nil || FindTS(nil, true) != nil || FirstType(nil) != NoNextPayload {
		t.Error("something is found in nothing")
	}
}

func TestCheckCritical(t *testing.T) {
	unknown := &Unknown{Number: 99}
	if err := CheckCritical([]Payload{&Nonce{}, unknown}); err != nil {
		t.Errorf("unknown payload without critical bit: %v", err)
	}
	unknown.Critical = true
	err := CheckCritical([]Payload{&Nonce{}, unknown})
	if e, ok := errors.AsType[*UnsupportedCriticalError](err); !ok || e.Number != 99 {
		t.Errorf("unknown payload with critical bit: %v", err)
	}
	// RFC 7296 §3.2: the bit on a payload that we know is ignored.
	wire := AppendPayloads(nil, []Payload{&VendorID{Data: []byte("x")}})
	wire[1] = 0xff
	ps, err := ParsePayloads(TypeVendorID, wire)
	if err != nil || CheckCritical(ps) != nil {
		t.Errorf("known payload with critical and reserved bits: %v, %v", err, CheckCritical(ps))
	}
}

func TestChainErrors(t *testing.T) {
	vendor := AppendPayloads(nil, []Payload{&VendorID{}})
	for name, c := range map[string]struct {
		first PayloadType
		chain []byte
	}{
		"nothing announced, something there": {NoNextPayload, vendor},
		"octets behind the last":             {TypeVendorID, append(bytes.Clone(vendor), 0)},
		"length 0":                           {TypeVendorID, []byte{0, 0, 0, 0}},
		"length 3":                           {TypeVendorID, []byte{0, 0, 0, 3}},
		"length one too long":                {TypeVendorID, []byte{0, 0, 0, 5}},
		"SK inside SK":                       {TypeSK, []byte{0, 0, 0, 4}},
		"SKF inside SK":                      {TypeSKF, []byte{0, 0, 0, 8, 0, 1, 0, 1}},
	} {
		if ps, err := ParsePayloads(c.first, c.chain); !isSyntaxError(err) {
			t.Errorf("%s: got %v, %v; want *Error", name, ps, err)
		}
	}
	if ps, err := ParsePayloads(NoNextPayload, nil); err != nil || len(ps) != 0 {
		t.Errorf("empty chain: %v, %v", ps, err)
	}
	behind := (&Message{Payloads: []Payload{&Encrypted{Body: []byte{1}}}}).Append(nil)
	if _, err := Parse(withLength(append(behind, 0))); !isSyntaxError(err) {
		t.Errorf("octet behind SK: got %v, want *Error", err)
	}
}

func TestErrorText(t *testing.T) {
	_, err := ParsePayloads(TypeVendorID, append(AppendPayloads(nil, []Payload{&VendorID{}, &Nonce{Data: make([]byte, 16)}}), 1))
	const want = "message: Nonce payload, octet 24: octets behind the last payload"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
