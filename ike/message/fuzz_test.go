package message_test

// The seeds are the captures of the vectors folder: what was in the clear, and what
// was inside SK where there are keys. Each target asks that an error is an *Error
// and that what parses is appended to octets that parse to the same again.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"martlet/crypto/suite"
	. "martlet/ike/message"
)

func FuzzParse(f *testing.F) {
	f.Add((&Message{Payloads: samples()}).Append(nil))
	// One of each shape: hundreds of seeds would take the time in which to fuzz.
	shapes := map[string]bool{}
	for _, msg := range recorded(f) {
		if shape := shapeOf(msg); !shapes[shape] {
			shapes[shape] = true
			f.Add(msg)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, headerErr := ParseHeader(b)
		m, err := Parse(b)
		if err != nil {
			if _, ok := errors.AsType[*VersionError](err); !ok && !isSyntaxError(err) {
				t.Fatalf("error is %T", err)
			}
			return
		}
		if headerErr != nil {
			t.Fatalf("parses though its header does not: %v", headerErr)
		}
		once := m.Append(nil)
		again, err := Parse(once)
		if err != nil {
			t.Fatalf("appended as %x, which does not parse: %v", once, err)
		}
		if twice := again.Append(nil); !bytes.Equal(once, twice) {
			t.Fatalf("appended as %x, then as %x", once, twice)
		}
	})
}

// shapeOf names the exchange and the payloads of a message, or why it has none.
func shapeOf(msg []byte) string {
	m, err := Parse(msg)
	if err != nil {
		return err.Error()
	}
	shape := m.Exchange.String()
	for _, p := range m.Payloads {
		shape += " " + p.Type().String()
	}
	return shape
}

func FuzzParsePayloads(f *testing.F) {
	f.Add(uint8(TypeSA), AppendPayloads(nil, samples()))
	for _, c := range decrypted(f) {
		f.Add(uint8(c.first), c.text)
	}
	f.Fuzz(func(t *testing.T, first uint8, b []byte) {
		checkFixpoint(t, PayloadType(first), b)
	})
}

// FuzzInsideSK is the peer that finished IKE_SA_INIT, has the keys, and seals what it
// likes: the chain, the padding, payloads before SK, SK or a fragment.
func FuzzInsideSK(f *testing.F) {
	for _, c := range decrypted(f) {
		f.Add(uint8(c.first), c.text, uint8(0), uint16(0))
	}
	f.Add(uint8(TypeNonce), []byte{}, uint8(200), uint16(1))
	// Each has state, so that two goroutines must not share one.
	f.Fuzz(func(t *testing.T, first uint8, text []byte, pad uint8, fragment uint16) {
		if len(text) > 60000 {
			return
		}
		c := ciphers(t)["GCM-256"]
		body := make([]byte, c.IVLen(), c.IVLen()+len(text)+1+c.ICVLen())
		body = append(append(body, text...), pad)
		body = body[:cap(body)]
		e := &Encrypted{First: PayloadType(first), Fragment: fragment, Total: fragment, Body: body}
		pkt := (&Message{Header: testHeader, Payloads: []Payload{e}}).Append(nil)
		c.Seal(pkt, len(pkt)-len(body), 1, suite.ESN{})

		h, got, inside, err := Open(pkt, c)
		if got == nil || h != testHeader {
			t.Fatalf("authentic message is refused: %v", err)
		}
		if err != nil {
			if !isSyntaxError(err) || int(pad) <= len(text) {
				t.Fatalf("pad length %d of %d octets: %v", pad, len(text), err)
			}
			return
		}
		if want := text[:len(text)-int(pad)]; !bytes.Equal(inside, want) {
			t.Fatalf("inside is %x, want %x", inside, want)
		}
		checkFixpoint(t, got.First, inside)
	})
}

func FuzzSA(f *testing.F) {
	seedBodies(f, func(_ Payload, body []byte) { f.Add(body) }, TypeSA)
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > 65531 {
			return
		}
		checkFixpoint(t, TypeSA, chainOf(body))
		ps, err := ParsePayloads(TypeSA, chainOf(body))
		if err != nil {
			return
		}
		sa := ps[0].(*SA)
		if len(sa.Proposals) == 0 {
			t.Fatal("no proposal")
		}
		for _, p := range sa.Proposals {
			switch p.Protocol {
			case suite.ProtocolIKE:
				if len(p.SPI) != 0 && len(p.SPI) != 8 {
					t.Fatalf("SPI of %d octets for IKE", len(p.SPI))
				}
			case suite.ProtocolAH, suite.ProtocolESP:
				if len(p.SPI) != 4 {
					t.Fatalf("SPI of %d octets for ESP", len(p.SPI))
				}
			default:
				if !p.Unknown {
					t.Fatalf("protocol %d is known", p.Protocol)
				}
			}
		}
	})
}

func FuzzTS(f *testing.F) {
	seedBodies(f, func(_ Payload, body []byte) { f.Add(body) }, TypeTSi, TypeTSr)
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > 65531 {
			return
		}
		checkFixpoint(t, TypeTSi, chainOf(body))
		ps, err := ParsePayloads(TypeTSi, chainOf(body))
		if err != nil {
			return
		}
		ts := ps[0].(*TS)
		for i, s := range ts.Selectors {
			if s.From.Is4() != s.To.Is4() || s.To.Less(s.From) || !s.Contains(s) {
				t.Fatalf("selector %v", s)
			}
			var next netip.Addr
			for j, p := range s.Prefixes() {
				if j > 0 && p.Addr() != next {
					t.Fatalf("%v: prefix %v does not follow the one before", s, p)
				}
				next = SelectorOf(p).To.Next()
			}
			if s.String() == "" {
				t.Fatal("no text")
			}
			if got, ok := s.Intersect(ts.Selectors[0]); ok && (!s.Contains(got) || !ts.Selectors[0].Contains(got)) {
				t.Fatalf("selector %d: %v and %v meet in %v", i, s, ts.Selectors[0], got)
			}
		}
	})
}

func FuzzConfig(f *testing.F) {
	seedBodies(f, func(_ Payload, body []byte) { f.Add(body) }, TypeCP)
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > 65531 {
			return
		}
		checkFixpoint(t, TypeCP, chainOf(body))
		ps, err := ParsePayloads(TypeCP, chainOf(body))
		if err != nil {
			return
		}
		for _, a := range ps[0].(*Config).Attributes {
			if addr, err := a.Addr(); (err == nil) != addr.IsValid() {
				t.Fatalf("%v %x: %v, %v", a.Type, a.Value, addr, err)
			}
			if p, err := a.Prefix(); (err == nil) != p.IsValid() {
				t.Fatalf("%v %x: %v, %v", a.Type, a.Value, p, err)
			}
			if ds, err := a.TrustAnchor(); (err == nil) != (len(ds.Digest) > 0) || err == nil && !bytes.Equal(NewTrustAnchorAttribute(ds).Value, a.Value) {
				t.Fatalf("%v %x: %v, %v", a.Type, a.Value, ds, err)
			}
			if name, err := a.Domain(); (err == nil) != (name != "") {
				t.Fatalf("%v %x: %q, %v", a.Type, a.Value, name, err)
			}
		}
	})
}

func FuzzNotifyDelete(f *testing.F) {
	seedBodies(f, func(p Payload, body []byte) { f.Add(p.Type() == TypeDelete, body) }, TypeNotify, TypeDelete)
	f.Fuzz(func(t *testing.T, isDelete bool, body []byte) {
		if len(body) > 65531 {
			return
		}
		typ := TypeNotify
		if isDelete {
			typ = TypeDelete
		}
		checkFixpoint(t, typ, chainOf(body))
		ps, err := ParsePayloads(typ, chainOf(body))
		if err != nil {
			return
		}
		if d, ok := Find[*Delete](ps); ok && d.Protocol == suite.ProtocolIKE && len(d.SPIs) != 0 {
			t.Fatalf("IKE SA deleted with SPIs %x", d.SPIs)
		}
		if n, ok := Find[*Notify](ps); ok && n.Notify.String() == "" {
			t.Fatal("no name")
		}
	})
}

// FuzzReassembly reads steps of 8 octets (message ID, fragment, total, length of the
// text) and compares with a model that keeps a map.
func FuzzReassembly(f *testing.F) {
	f.Add([]byte{0, 1, 0, 1, 0, 2, 0, 9, 0, 1, 0, 2, 0, 2, 0, 3})
	f.Add([]byte{0, 1, 0, 2, 0, 2, 0, 0, 0, 1, 0, 1, 0, 3, 0, 1, 0, 1, 0, 1, 0, 2, 0, 1})
	for _, msg := range recorded(f) {
		if m, err := Parse(msg); err == nil {
			if e, ok := Find[*Encrypted](m.Payloads); ok && e.Fragment != 0 {
				var step []byte
				for i := range e.Total {
					for _, n := range []uint16{uint16(m.MessageID), i + 1, e.Total, uint16(len(e.Body))} {
						step = binary.BigEndian.AppendUint16(step, n)
					}
				}
				f.Add(step)
			}
		}
	}
	f.Fuzz(func(t *testing.T, steps []byte) {
		var r Reassembly
		var id, total uint16
		parts := map[uint16][]byte{}
		for ; len(steps) >= 8; steps = steps[8:] {
			stepID, number, stepTotal := binary.BigEndian.Uint16(steps), binary.BigEndian.Uint16(steps[2:]), binary.BigEndian.Uint16(steps[4:])
			text := bytes.Repeat([]byte{byte(number)}, int(binary.BigEndian.Uint16(steps[6:])))
			first, whole, done := r.Add(uint32(stepID), &Encrypted{First: TypeNonce, Fragment: number, Total: stepTotal}, text)

			want, wantDone := []byte(nil), false
			if number >= 1 && number <= stepTotal && stepTotal <= MaxFragments {
				if len(parts) == 0 || stepID != id || stepTotal > total {
					id, total, parts = stepID, stepTotal, map[uint16][]byte{}
				}
				if _, there := parts[number]; stepTotal == total && !there {
					parts[number] = text
					size := 0
					for _, p := range parts {
						size += len(p)
					}
					if size > MaxReassembled {
						parts = map[uint16][]byte{}
					} else if len(parts) == int(total) {
						for n := range total {
							want = append(want, parts[n+1]...)
						}
						wantDone, parts = true, map[uint16][]byte{}
					}
				}
			}
			if done != wantDone || !bytes.Equal(whole, want) || done && first != TypeNonce {
				t.Fatalf("fragment %d of %d: %d octets, %v; want %d, %v", number, stepTotal, len(whole), done, len(want), wantDone)
			}
			if _, pending := r.Pending(); pending != (len(parts) > 0) {
				t.Fatalf("pending %v, the model has %d parts", pending, len(parts))
			}
		}
	})
}
