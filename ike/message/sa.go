package message

import (
	"encoding/binary"
	"fmt"
	"math"

	"martlet/crypto/suite"
)

// SA is the Security Association payload (RFC 7296 §3.3). It has at least one
// proposal.
type SA struct{ Proposals []Proposal }

// Proposal is one proposal of an SA payload. Num is echoed, never assumed to
// count from 1. SPI has 0 or 8 octets for IKE, 4 for ESP and AH.
//
// Unknown is set when it has a protocol or a transform type that this package does
// not know, or wants a type of which it could read no transform: such a proposal
// must not be chosen (RFC 7296 §3.3.6). Of a known type, a transform with an
// attribute that we do not know is left out and the others stay, as that section
// asks; transforms of unknown types and with unknown IDs are kept.
type Proposal struct {
	Num     uint8
	SPI     []byte
	Unknown bool
	suite.Proposal
}

func (*SA) Type() PayloadType { return TypeSA }

const (
	moreProposals  = 2 // RFC 7296 §3.3.1, Last Substruc
	moreTransforms = 3 // RFC 7296 §3.3.2
	lastSubstruc   = 0

	proposalHeaderLen  = 8
	transformHeaderLen = 8

	attributeTV     = 0x8000 // RFC 7296 §3.3.5: AF bit, the value is in the length field
	attributeKeyLen = 14
)

func parseSA(r *reader) (*SA, error) {
	sa := &SA{}
	for more := true; more; {
		if err := r.part(); err != nil {
			return nil, err
		}
		var p Proposal
		var err error
		if p, more, err = parseProposal(r); err != nil {
			return nil, err
		}
		sa.Proposals = append(sa.Proposals, p)
	}
	return sa, nil
}

func parseProposal(r *reader) (p Proposal, more bool, err error) {
	var last, reserved, protocol, spiLen, count uint8
	var length uint16
	if !r.s.ReadUint8(&last) || !r.s.ReadUint8(&reserved) || !r.s.ReadUint16(&length) ||
		!r.s.ReadUint8(&p.Num) || !r.s.ReadUint8(&protocol) ||
		!r.s.ReadUint8(&spiLen) || !r.s.ReadUint8(&count) {
		return p, false, r.fail("proposal is cut off in its header")
	}
	if last != lastSubstruc && last != moreProposals {
		return p, false, r.fail(fmt.Sprintf("last substructure of a proposal is %d, want 0 or 2", last))
	}
	body, ok := r.sub(int(length) - proposalHeaderLen)
	if !ok {
		return p, false, r.fail(fmt.Sprintf("proposal length says %d octets, want %d to %d", length, proposalHeaderLen, len(r.s)+proposalHeaderLen))
	}
	p.Protocol = suite.Protocol(protocol)
	switch p.Protocol {
	case suite.ProtocolIKE:
		// RFC 7296 §3.3.1: 0 in the first exchange, 8 when an IKE SA is rekeyed.
		ok = spiLen == 0 || spiLen == 8
	case suite.ProtocolAH, suite.ProtocolESP:
		ok = spiLen == 4
	default:
		p.Unknown = true
	}
	if !ok {
		return p, false, body.fail(fmt.Sprintf("SPI size %d does not belong to protocol %d", spiLen, protocol))
	}
	if p.SPI, ok = body.bytes(int(spiLen)); !ok {
		return p, false, body.fail(fmt.Sprintf("SPI size says %d octets, the proposal has %d left", spiLen, len(body.s)))
	}
	if err := p.parseTransforms(&body, int(count)); err != nil {
		return p, false, err
	}
	return p, last == moreProposals, nil
}

// parseTransforms reads the transforms of p, which fill r.
func (p *Proposal) parseTransforms(r *reader, count int) error {
	var unread, read [256]bool // by transform type
	for i := range count {
		if err := r.part(); err != nil {
			return err
		}
		t, understood, more, err := parseTransform(r)
		if err != nil {
			return err
		}
		if more != (i < count-1) {
			return r.fail(fmt.Sprintf("transform %d of %d has the wrong last substructure", i+1, count))
		}
		if t.Type < suite.TypeEncr || t.Type > suite.TypeAddKE7 {
			p.Unknown = true
		}
		if !understood {
			unread[t.Type] = true
			continue
		}
		read[t.Type] = true
		p.Transforms = append(p.Transforms, t)
	}
	if !r.empty() {
		return r.fail(fmt.Sprintf("octets behind the %d transforms of a proposal", count))
	}
	for t := range unread {
		p.Unknown = p.Unknown || unread[t] && !read[t]
	}
	return nil
}

// parseTransform reads one transform; understood is whether we know all its
// attributes.
func parseTransform(r *reader) (t suite.Transform, understood, more bool, err error) {
	var last, reserved, kind uint8
	var length uint16
	if !r.s.ReadUint8(&last) || !r.s.ReadUint8(&reserved) || !r.s.ReadUint16(&length) ||
		!r.s.ReadUint8(&kind) || !r.s.ReadUint8(&reserved) || !r.s.ReadUint16(&t.ID) {
		return t, false, false, r.fail("transform is cut off in its header")
	}
	if last != lastSubstruc && last != moreTransforms {
		return t, false, false, r.fail(fmt.Sprintf("last substructure of a transform is %d, want 0 or 3", last))
	}
	t.Type = suite.TransformType(kind)
	body, ok := r.sub(int(length) - transformHeaderLen)
	if !ok {
		return t, false, false, r.fail(fmt.Sprintf("transform length says %d octets, want %d to %d", length, transformHeaderLen, len(r.s)+transformHeaderLen))
	}
	understood = true
	for !body.empty() {
		var number, value uint16
		if !body.s.ReadUint16(&number) || !body.s.ReadUint16(&value) {
			return t, false, false, body.fail("transform attribute is cut off")
		}
		switch {
		case number&attributeTV == 0:
			// No attribute of this form is defined; value is its length.
			understood = false
			if !body.s.Skip(int(value)) {
				return t, false, false, body.fail(fmt.Sprintf("transform attribute says %d octets, %d are left", value, len(body.s)))
			}
		case number&^attributeTV == attributeKeyLen && t.KeyLen == 0 && value != 0:
			t.KeyLen = value
		default:
			understood = false
		}
	}
	return t, understood, last == moreTransforms, nil
}

func (p *SA) appendBody(b []byte) []byte {
	for i, prop := range p.Proposals {
		last := uint8(moreProposals)
		if i == len(p.Proposals)-1 {
			last = lastSubstruc
		}
		if b = prop.append(b, last); b == nil {
			return nil
		}
	}
	return b
}

func (p *Proposal) append(b []byte, last uint8) []byte {
	if len(p.SPI) > math.MaxUint8 || len(p.Transforms) > math.MaxUint8 {
		return nil
	}
	start := len(b)
	b = append(b, last, 0, 0, 0, p.Num, uint8(p.Protocol), uint8(len(p.SPI)), uint8(len(p.Transforms)))
	b = append(b, p.SPI...)
	for i, t := range p.Transforms {
		more, length := uint8(moreTransforms), uint8(transformHeaderLen)
		if i == len(p.Transforms)-1 {
			more = lastSubstruc
		}
		if t.KeyLen != 0 {
			length += 4
		}
		b = append(b, more, 0, 0, length, uint8(t.Type), 0)
		b = binary.BigEndian.AppendUint16(b, t.ID)
		if t.KeyLen != 0 {
			b = binary.BigEndian.AppendUint16(b, attributeTV|attributeKeyLen)
			b = binary.BigEndian.AppendUint16(b, t.KeyLen)
		}
	}
	// 255 SPI octets and 255 transforms of 12 stay below the 65,535 of the field.
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	return b
}
