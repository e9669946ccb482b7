package message

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
)

// TS is a TSi or TSr payload (RFC 7296 §3.13); Responder tells which. Selectors of
// a type that this package does not know (Fibre Channel, security labels) are left
// out. It may be empty, for that reason or as it came: TS_UNACCEPTABLE then.
type TS struct {
	Responder bool
	Selectors []Selector
}

// Traffic selector types (RFC 7296 §3.13.1).
const (
	tsIPv4 = 7
	tsIPv6 = 8

	selectorHeaderLen = 4 // type, protocol, length
)

func (p *TS) Type() PayloadType {
	if p.Responder {
		return TypeTSr
	}
	return TypeTSi
}

func parseTS(r *reader) (*TS, error) {
	p := &TS{Responder: r.payload == TypeTSr}
	var count uint8
	if !r.s.ReadUint8(&count) || !r.s.Skip(3) {
		return nil, r.fail("number of traffic selectors is cut off")
	}
	for range count {
		if err := r.part(); err != nil {
			return nil, err
		}
		s, known, err := parseSelector(r)
		if err != nil {
			return nil, err
		}
		if known {
			p.Selectors = append(p.Selectors, s)
		}
	}
	return p, nil
}

func parseSelector(r *reader) (s Selector, known bool, err error) {
	var kind uint8
	var length uint16
	if !r.s.ReadUint8(&kind) || !r.s.ReadUint8(&s.Protocol) || !r.s.ReadUint16(&length) {
		return s, false, r.fail("traffic selector is cut off in its header")
	}
	body, ok := r.sub(int(length) - selectorHeaderLen)
	if !ok {
		return s, false, r.fail(fmt.Sprintf("traffic selector length says %d octets, want %d to %d", length, selectorHeaderLen, len(r.s)+selectorHeaderLen))
	}
	if kind != tsIPv4 && kind != tsIPv6 {
		return s, false, nil
	}
	ok = body.s.ReadUint16(&s.StartPort) && body.s.ReadUint16(&s.EndPort)
	if kind == tsIPv4 {
		var from, to [4]byte
		ok = ok && body.s.CopyBytes(from[:]) && body.s.CopyBytes(to[:])
		s.From, s.To = netip.AddrFrom4(from), netip.AddrFrom4(to)
	} else {
		var from, to [16]byte
		ok = ok && body.s.CopyBytes(from[:]) && body.s.CopyBytes(to[:])
		s.From, s.To = netip.AddrFrom16(from), netip.AddrFrom16(to)
	}
	if !ok || !body.empty() {
		return s, false, body.fail(fmt.Sprintf("traffic selector length %d does not belong to type %d", length, kind))
	}
	if s.To.Less(s.From) {
		return s, false, body.fail("address range of a traffic selector is reversed")
	}
	if s.StartPort > s.EndPort && !s.opaque() {
		return s, false, body.fail(fmt.Sprintf("port range of a traffic selector is reversed: %d to %d", s.StartPort, s.EndPort))
	}
	return s, true, nil
}

func (p *TS) appendBody(b []byte) []byte {
	if len(p.Selectors) > math.MaxUint8 {
		return nil
	}
	b = append(b, uint8(len(p.Selectors)), 0, 0, 0)
	for _, s := range p.Selectors {
		if !s.From.IsValid() || s.From.BitLen() != s.To.BitLen() {
			return nil
		}
		from, to := s.From.AsSlice(), s.To.AsSlice()
		kind := uint8(tsIPv6)
		if s.From.Is4() {
			kind = tsIPv4
		}
		b = append(b, kind, s.Protocol, 0, uint8(selectorHeaderLen+4+len(from)+len(to)))
		b = binary.BigEndian.AppendUint16(b, s.StartPort)
		b = binary.BigEndian.AppendUint16(b, s.EndPort)
		b = append(b, from...)
		b = append(b, to...)
	}
	return b
}

// FindTS returns the TSr payload of ps, or its TSi payload, or nil.
func FindTS(ps []Payload, responder bool) *TS {
	for _, p := range ps {
		if ts, ok := p.(*TS); ok && ts.Responder == responder {
			return ts
		}
	}
	return nil
}
