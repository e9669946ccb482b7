package message_test

// One test for each row of the project's list of past failures of other daemons
// that is about parsing; the number is the row's. What those rows ask of a state
// machine is tested with package ike.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"martlet/crypto/suite"
	. "martlet/ike/message"
	"martlet/test/golden"
)

// A header that announces a payload and ends; each payload left out in turn, with
// the header still announcing it.
func TestRow01MissingPayloads(t *testing.T) {
	for first := range 256 {
		m := &Message{Header: testHeader}
		wire := m.Append(nil)
		wire[16] = byte(first)
		got, err := Parse(wire)
		if first == 0 {
			if err != nil || len(got.Payloads) != 0 {
				t.Errorf("no payload announced, none there: %v, %v", got, err)
			}
			continue
		}
		if !isSyntaxError(err) {
			t.Errorf("payload %d announced, none there: %v; want *Error", first, err)
		}
	}
	all := samples()
	for i := range all {
		rest := append(append([]Payload{}, all[:i]...), all[i+1:]...)
		got, err := Parse((&Message{Header: testHeader, Payloads: rest}).Append(nil))
		if err != nil || len(got.Payloads) != len(rest) {
			t.Errorf("without %v: %v", all[i].Type(), err)
		}
	}
}

// Each length field of SA, proposal, transform and attribute with each wrong value.
func TestRow02TransformLength(t *testing.T) {
	good := payload(t, "00000023 01010002 03000013 0100000c 800e0100 0011 0003 aabbcc 00000008 02000005")
	for name, field := range map[string]struct{ at, header int }{
		"payload": {2, 4}, "proposal": {6, 8}, "transform": {14, 8}, "last transform": {33, 8}, "attribute": {26, 0},
	} {
		right := int(binary.BigEndian.Uint16(good[field.at:]))
		for n := range 65536 {
			bad := bytes.Clone(good)
			binary.BigEndian.PutUint16(bad[field.at:], uint16(n))
			ps, err := ParsePayloads(TypeSA, bad)
			if n == right && err != nil {
				t.Fatalf("%s length %d: %v", name, n, err)
			}
			if n != right && !isSyntaxError(err) {
				t.Fatalf("%s length %d in place of %d: %v, %v; want *Error", name, n, right, ps, err)
			}
		}
	}
}

// SPI size and counts of proposals, notifies and deletes.
func TestRow03SPISize(t *testing.T) {
	proposal := payload(t, "00000014 01030401 aabbccdd 00000008 02000005")
	notify := payload(t, "03044009 aabbccdd 01")
	remove := payload(t, "03040001 aabbccdd")
	for n := range 256 {
		proposal[10] = byte(n)
		if _, err := ParsePayloads(TypeSA, proposal); (err == nil) != (n == 4) {
			t.Errorf("proposal with SPI size %d: %v", n, err)
		}
		notify[5] = byte(n)
		if ps, err := ParsePayloads(TypeNotify, notify); (err == nil) != (n <= 5) {
			t.Errorf("notify with SPI size %d: %v", n, err)
		} else if err == nil && len(ps[0].(*Notify).SPI)+len(ps[0].(*Notify).Data) != 5 {
			t.Errorf("notify with SPI size %d: %+v", n, ps[0])
		}
		remove[5] = byte(n)
		if _, err := ParsePayloads(TypeDelete, remove); (err == nil) != (n == 4) {
			t.Errorf("delete with SPI size %d: %v", n, err)
		}
	}
	for n := range 65536 {
		remove := payload(t, "03040001 aabbccdd")
		binary.BigEndian.PutUint16(remove[6:], uint16(n))
		if _, err := ParsePayloads(TypeDelete, remove); (err == nil) != (n == 1) {
			t.Fatalf("delete with %d SPIs: %v", n, err)
		}
	}
}

// An authentic SK with each pad length over each short plaintext.
func TestRow04PadLength(t *testing.T) {
	for name, c := range ciphers(t) {
		for size := 0; size <= 32; size += c.BlockLen() {
			for pad := range 256 {
				text := bytes.Repeat([]byte{0xee}, size)
				if size > 0 {
					text[size-1] = byte(pad)
				}
				_, e, got, err := Open(sealText(testHeader, nil, NoNextPayload, text, c), c)
				if e == nil {
					t.Fatalf("%s: %d octets with pad length %d: %v; the ICV is right", name, size, pad, err)
				}
				if pad > size-1 {
					if !isSyntaxError(err) {
						t.Fatalf("%s: %d octets with pad length %d: %x, %v; want *Error", name, size, pad, got, err)
					}
				} else if err != nil || len(got) != size-1-pad {
					t.Fatalf("%s: %d octets with pad length %d: %x, %v", name, size, pad, got, err)
				}
			}
		}
	}
}

// EAP of each short length, each code and type, with each length field.
func TestRow05EAPLength(t *testing.T) {
	for size := range 9 {
		for field := range 12 {
			for code := range 6 {
				body := []byte{byte(code), 1, byte(field >> 8), byte(field), 254, 0, 0, 0, 1}[:size]
				ps, err := ParsePayloads(TypeEAP, AppendPayloads(nil, []Payload{&EAP{Data: body}}))
				if want := size >= 4 && field == size; (err == nil) != want {
					t.Errorf("EAP of %d octets, length field %d: %v, %v", size, field, ps, err)
				}
			}
		}
	}
}

// Each configuration attribute with each length from 0 to 20.
func TestRow06AttributeLength(t *testing.T) {
	addr := map[AttributeType][]int{
		InternalIP4Address: {4}, InternalIP4Netmask: {4}, InternalIP4DNS: {4}, InternalIP4NBNS: {4},
		InternalIP4DHCP: {4}, MSInternalIP4Server: {4}, InternalIP6Address: {16, 17},
		InternalIP6DNS: {16}, InternalIP6DHCP: {16}, MSInternalIP6Server: {16},
	}
	prefix := map[AttributeType][]int{
		InternalIP4Address: {4}, InternalIP4Subnet: {8}, InternalIP6Address: {16, 17}, InternalIP6Subnet: {17},
	}
	for _, typ := range []AttributeType{
		InternalIP4Address, InternalIP4Netmask, InternalIP4DNS, InternalIP4NBNS, InternalIP4DHCP, ApplicationVersion,
		InternalIP6Address, InternalIP6DNS, InternalIP6DHCP, InternalIP4Subnet, SupportedAttributes, InternalIP6Subnet,
		InternalDNSDomain, InternalDNSSECTA, MSInternalIP4Server, MSInternalIP6Server, 5, 0x7fff,
	} {
		for size := range 21 {
			wire := AppendPayloads(nil, []Payload{&Config{Kind: ConfigReply, Attributes: []Attribute{{Type: typ, Value: make([]byte, size)}}}})
			ps, err := ParsePayloads(TypeCP, wire)
			if err != nil {
				t.Fatalf("%v of %d octets: %v", typ, size, err)
			}
			a := ps[0].(*Config).Attributes[0]
			if a.Type != typ || len(a.Value) != size {
				t.Errorf("%v of %d octets is %v of %d", typ, size, a.Type, len(a.Value))
			}
			check := func(what string, err error, right []int) {
				ok := false
				for _, n := range right {
					ok = ok || n == size
				}
				if (err == nil) != ok {
					t.Errorf("%v of %d octets: %s: %v", typ, size, what, err)
				}
			}
			_, err = a.Addr()
			check("Addr", err, addr[typ])
			_, err = a.Prefix()
			check("Prefix", err, prefix[typ])
			if _, err = a.Domain(); err == nil {
				t.Errorf("%v of %d octets 0: taken for a domain", typ, size)
			}
		}
	}
	for cut := range 4 {
		if _, err := ParsePayloads(TypeCP, payload(t, "02000000"+strings.Repeat("00", cut))); (err == nil) != (cut == 0) {
			t.Errorf("attribute header of %d octets: %v", cut, err)
		}
	}
}

// KE with each group number parses; the engine and kex judge it.
func TestRow10KEGroups(t *testing.T) {
	for method := range 65536 {
		for _, size := range []int{0, 1, 32} {
			wire := AppendPayloads(nil, []Payload{&KE{Method: uint16(method), Data: make([]byte, size)}})
			ps, err := ParsePayloads(TypeKE, wire)
			if err != nil {
				t.Fatalf("group %d, %d octets: %v", method, size, err)
			}
			if ke := ps[0].(*KE); int(ke.Method) != method || len(ke.Data) != size {
				t.Fatalf("group %d, %d octets: %+v", method, size, ke)
			}
		}
	}
}

// Each payload type, critical and not, with a body of 0 to 40 octets; and IKEv1.
func TestRow11PayloadTypes(t *testing.T) {
	for typ := 1; typ < 256; typ++ {
		for _, flags := range []byte{0, 0x80, 0xff} {
			for size := range 41 {
				wire := append([]byte{0, flags, 0, byte(4 + size)}, bytes.Repeat([]byte{byte(size)}, size)...)
				checkFixpoint(t, PayloadType(typ), wire)
				ps, err := ParsePayloads(PayloadType(typ), wire)
				if typ < 33 || typ > 48 && typ != 53 && typ != 54 {
					u, ok := ps[0].(*Unknown)
					if err != nil || !ok || u.Critical != (flags&0x80 != 0) || len(u.Body) != size || int(u.Number) != typ {
						t.Fatalf("payload %d, flags %#x, %d octets: %+v, %v", typ, flags, size, ps, err)
					}
				}
			}
		}
	}
	v1 := (&Message{Header: Header{Major: 1, Exchange: 2}, Payloads: []Payload{&Unknown{Number: 1, Body: make([]byte, 40)}}}).Append(nil)
	if _, err := Parse(v1); err == nil {
		t.Error("a message of IKEv1 parses")
	} else if v, ok := errors.AsType[*VersionError](err); !ok || v.Major != 1 {
		t.Errorf("IKEv1: %v", err)
	}
}

// Proposals that lack a transform type, have NONE, duplicates or odd key lengths
// parse as they are: the choice is package suite's.
func TestRow12MissingTransforms(t *testing.T) {
	all := []suite.Transform{
		{Type: suite.TypeEncr, ID: suite.EncrAESCBC, KeyLen: 257},
		{Type: suite.TypePRF, ID: suite.PRFHMACSHA256},
		{Type: suite.TypeInteg, ID: suite.IntegNone},
		{Type: suite.TypeKE, ID: suite.KENone},
		{Type: suite.TypeKE, ID: suite.KENone},
	}
	for i := range all {
		ts := append(append([]suite.Transform{}, all[:i]...), all[i+1:]...)
		sa := &SA{Proposals: []Proposal{{Num: 1, SPI: []byte{}, Proposal: suite.Proposal{Protocol: suite.ProtocolIKE, Transforms: ts}}}}
		ps, err := ParsePayloads(TypeSA, AppendPayloads(nil, []Payload{sa}))
		if err != nil {
			t.Fatalf("without %v: %v", all[i], err)
		}
		if p := ps[0].(*SA).Proposals[0]; fmt.Sprint(p.Transforms) != fmt.Sprint(ts) || p.Unknown {
			t.Errorf("without %v: %+v", all[i], p)
		}
	}
}

// Traffic selectors whose count, length, type, family, addresses or ports are wrong.
func TestRow13TrafficSelectors(t *testing.T) {
	const v4 = "07 00 0010 0000 ffff 0a000000 0a0000ff"
	for name, c := range map[string]struct {
		body string
		ok   bool
	}{
		"one":                     {"01000000" + v4, true},
		"none":                    {"00000000", true},
		"none announced":          {"00000000" + v4, false},
		"two announced":           {"02000000" + v4, false},
		"two, one announced":      {"01000000" + v4 + v4, false},
		"start above end":         {"01000000 07 00 0010 0000 ffff 0a000001 0a000000", false},
		"ports reversed":          {"01000000 07 06 0010 0051 0050 0a000000 0a0000ff", false},
		"opaque":                  {"01000000 07 06 0010 ffff 0000 0a000000 0a0000ff", true},
		"nearly opaque":           {"01000000 07 06 0010 ffff 0001 0a000000 0a0000ff", false},
		"IPv4 of the size of 6":   {"01000000 07 00 0028 0000 ffff" + strings.Repeat("00", 32), false},
		"IPv6 of the size of 4":   {"01000000 08 00 0010 0000 ffff 0a000000 0a0000ff", false},
		"IPv6 start above end":    {"01000000 08 00 0028 0000 ffff" + strings.Repeat("ff", 16) + strings.Repeat("00", 16), false},
		"length 0":                {"01000000 07 00 0000 0000 ffff 0a000000 0a0000ff", false},
		"length 3":                {"01000000 07 00 0003 0000 ffff 0a000000 0a0000ff", false},
		"length 4":                {"01000000 07 00 0004", false},
		"length 15":               {"01000000 07 00 000f 0000 ffff 0a000000 0a0000", false},
		"length 17":               {"01000000 07 00 0011 0000 ffff 0a000000 0a0000ff 00", false},
		"length past the end":     {"01000000 07 00 ffff 0000 ffff 0a000000 0a0000ff", false},
		"unknown type, length 3":  {"01000000 09 00 0003", false},
		"unknown type, length 4":  {"01000000 09 00 0004", true},
		"both families":           {"02000000" + v4 + "08 00 0028 0000 ffff" + strings.Repeat("00", 32), true},
		"255":                     {"ff000000" + strings.Repeat(v4, 255), true},
		"255 announced, 254 sent": {"ff000000" + strings.Repeat(v4, 254), false},
	} {
		ts, err := parseOne[*TS](t, TypeTSi, c.body)
		if c.ok && err != nil || !c.ok && !isSyntaxError(err) {
			t.Errorf("%s: %+v, %v", name, ts, err)
		}
	}
}

// REKEY_SA with each protocol and each SPI size parses, and so does an answer made
// of its fields; deletes only where they make sense.
func TestRow14NotifyProtocols(t *testing.T) {
	for protocol := range 256 {
		for size := range 256 {
			n := &Notify{Protocol: suite.Protocol(protocol), SPI: make([]byte, size), Notify: RekeySA}
			ps, err := ParsePayloads(TypeNotify, AppendPayloads(nil, []Payload{n}))
			if err != nil {
				t.Fatalf("protocol %d, SPI size %d: %v", protocol, size, err)
			}
			got := ps[0].(*Notify)
			answer := &Notify{Protocol: got.Protocol, SPI: got.SPI, Notify: ChildSANotFound}
			if _, err := ParsePayloads(TypeNotify, AppendPayloads(nil, []Payload{answer})); err != nil {
				t.Fatalf("answer to protocol %d, SPI size %d: %v", protocol, size, err)
			}
			body := append([]byte{byte(protocol), byte(size), 0, 1}, make([]byte, size)...)
			wire := append([]byte{0, 0, byte((len(body) + 4) >> 8), byte(len(body) + 4)}, body...)
			ok := protocol == int(suite.ProtocolIKE) && size == 0 || protocol != int(suite.ProtocolIKE) && size == 4
			if _, err := ParsePayloads(TypeDelete, wire); (err == nil) != ok {
				t.Errorf("delete of protocol %d, SPI size %d: %v", protocol, size, err)
			}
		}
	}
}

// Unknown payloads before SKF: up to the bound they are skipped, then an error.
func TestRow17UnknownBeforeSKF(t *testing.T) {
	c := ciphers(t)["GCM-256"]
	for _, n := range []int{0, 1, 99, 100, 255} {
		body := make([]byte, c.IVLen()+1+c.ICVLen())
		ps := append(many(n), &Encrypted{Fragment: 1, Total: 1, Body: body})
		pkt := (&Message{Header: testHeader, Payloads: ps}).Append(nil)
		c.Seal(pkt, len(pkt)-len(body), 1, suite.ESN{})
		_, parseErr := Parse(pkt)
		_, e, _, err := Open(pkt, c)
		if n <= 99 {
			if parseErr != nil || err != nil || e == nil || e.Total != 1 {
				t.Errorf("%d before SKF: %v; %+v, %v", n, parseErr, e, err)
			}
		} else if !isSyntaxError(parseErr) || !isSyntaxError(err) || e != nil {
			t.Errorf("%d before SKF: %v; %+v, %v; want *Error", n, parseErr, e, err)
		}
	}
}

// A selector's text is short, whatever its range.
func TestRow18SelectorText(t *testing.T) {
	s := Selector{Protocol: 255, StartPort: 65534, EndPort: 65535, From: netip.MustParseAddr("::1"), To: netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe")}
	if n := len(s.String()); n > 100 {
		t.Errorf("%d octets: %v", n, s)
	}
}

// Identities of each type and of 0 to 65,000 octets.
func TestRow19IdentityLength(t *testing.T) {
	for _, size := range []int{0, 1, 3, 4, 5, 15, 16, 17, 255, 256, 4096, 65000} {
		for kind := range 256 {
			id := &ID{Kind: uint8(kind), Data: make([]byte, size)}
			ps, err := ParsePayloads(TypeIDi, AppendPayloads(nil, []Payload{id}))
			if err != nil {
				t.Fatalf("type %d, %d octets: %v", kind, size, err)
			}
			if got := ps[0].(*ID); len(got.Data) != size || len(got.Body()) != size+4 {
				t.Fatalf("type %d, %d octets: %d", kind, size, len(got.Data))
			}
		}
		if size > 255 {
			continue
		}
		for n := range 4 {
			if _, err := ParsePayloads(TypeIDr, payload(t, strings.Repeat("01", n))); !isSyntaxError(err) {
				t.Errorf("identity of %d octets in all: %v", n, err)
			}
		}
	}
}

// No octet of a peer gets into an error or a name: only numbers do.
func TestRow20PeerStrings(t *testing.T) {
	const evil = "`reboot`;$(id)\x1b[2J%s%n\r\n"
	for _, name := range []string{evil, "", "a b.example", "ä.example", "a.example\x00", strings.Repeat("a", 254)} {
		if got, err := NewDomainAttribute(name).Domain(); err == nil {
			t.Errorf("domain %q is taken as %q", name, got)
		} else if strings.ContainsAny(err.Error(), "`$\x1b\r\n\x00ä") {
			t.Errorf("domain %q: the error repeats it: %q", name, err)
		}
	}
	for typ := 1; typ < 256; typ++ {
		wire := append([]byte{0, 0, 0, byte(4 + len(evil))}, evil...)
		_, err := ParsePayloads(PayloadType(typ), append(wire, evil...))
		if err != nil && strings.ContainsAny(err.Error(), "`$\x1b\r\n\x00") {
			t.Errorf("payload %d: the error repeats the peer: %q", typ, err)
		}
	}
	for _, s := range []fmt.Stringer{NotifyType(0x6024), PayloadType(0x60), AttributeType(0x6024), ExchangeType(0x60), AuthMethod(0x60), CertEncoding(0x60), ConfigType(0x60)} {
		if strings.ContainsAny(s.String(), "`$") {
			t.Errorf("%T: %q", s, s)
		}
	}
}

// Fragments: 65,535 of them, two messages at once, growing totals, overlaps.
func TestRow21Fragments(t *testing.T) {
	var r Reassembly
	for n := range 65536 {
		for _, total := range []uint16{0, 1, 64, 65, 65535} {
			e := &Encrypted{Fragment: uint16(n), Total: total}
			_, whole, done := r.Add(uint32(n%2), e, []byte("x"))
			if want := n == 1 && total == 1; done != want {
				t.Fatalf("fragment %d of %d: done %v with %q", n, total, done, whole)
			}
		}
	}
	for _, total := range []uint16{0, 1, 5} {
		for _, number := range []uint16{0, 6, 65535} {
			e := &Unknown{Number: TypeSKF, Body: []byte{byte(number >> 8), byte(number), byte(total >> 8), byte(total)}}
			if _, err := Parse((&Message{Payloads: []Payload{e}}).Append(nil)); !isSyntaxError(err) {
				t.Errorf("fragment %d of %d: %v; want *Error", number, total, err)
			}
		}
	}
}

// The largest inputs cost no more memory than 1 MiB, and so no more time than that
// takes to fill.
func TestRow22LargestInputs(t *testing.T) {
	fill := func(typ PayloadType, head, part string, count int) []byte {
		// Payloads of the greatest number, of equal size, 64 KiB in all.
		body := payload(t, head+strings.Repeat(part, count))
		var chain []byte
		for len(chain)+len(body) <= 65535 && len(chain)/len(body) < 100 {
			body[0] = byte(typ)
			chain = append(chain, body...)
		}
		chain[len(chain)-len(body)] = 0
		return chain
	}
	const v4 = "070000100000ffff0a0000000a0000ff"
	for name, c := range map[string]struct {
		first PayloadType
		chain []byte
	}{
		"unknown":       {201, fill(201, "", "00", 600)},
		"attributes":    {TypeCP, fill(TypeCP, "01000000", "00010000", 160)},
		"attributes, 1": {TypeCP, fill(TypeCP, "01000000", "00010000", 16000)},
		"selectors":     {TypeTSi, fill(TypeTSi, "28000000", v4, 40)},
		"proposals":     {TypeSA, fill(TypeSA, "", "0200000801010000", 80)},
		"transforms":    {TypeSA, fill(TypeSA, "00000800010100ff", "0300000804000001", 255)},
		"SPIs":          {TypeDelete, fill(TypeDelete, "03043e80", "00000001", 16000)},
		"notifies":      {TypeNotify, fill(TypeNotify, "0000400000", "00", 600)},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := ParsePayloads(c.first, c.chain)
		runtime.ReadMemStats(&after)
		n := after.TotalAlloc - before.TotalAlloc
		if n > 1<<20 {
			t.Errorf("%s: %d octets make us allocate %d (%v)", name, len(c.chain), n, err)
		}
	}
}

// What is sent has no octet that was not written: the padding is 0, also when the
// memory was used before.
func TestRow26Padding(t *testing.T) {
	for name, c := range ciphers(t) {
		for size := range 40 {
			pkt := Seal(testHeader, []Payload{&VendorID{Data: bytes.Repeat([]byte{0xee}, size)}}, c, counter(), 0)[0]
			text, err := c.Open(pkt, HeaderLen+4, suite.ESN{})
			if err != nil {
				t.Fatal(err)
			}
			padding := text[4+size:]
			if pad := len(padding) - 1; int(padding[pad]) != pad || pad >= c.BlockLen() || bytes.Count(padding[:pad], []byte{0}) != pad {
				t.Errorf("%s: %d octets: padding is %x", name, size, padding)
			}
		}
	}
}

// Captures, also those that crashed other programs: see TestCaptures, which asks for
// more. Here each octet of the recorded messages is damaged in turn.
func TestRow25DamagedCaptures(t *testing.T) {
	for _, file := range golden.CaptureFiles(t) {
		packets, err := golden.ReadCapture(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range packets {
			msg, ok := p.IKE()
			if !ok || i > 20 {
				continue
			}
			for at := range msg {
				bad := bytes.Clone(msg)
				bad[at] ^= 0xff
				if m, err := Parse(bad); err == nil && m.Append(nil) == nil {
					t.Fatalf("%s: packet %d, octet %d: parses and cannot be appended", file, i, at)
				}
			}
		}
	}
}
