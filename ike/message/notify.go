package message

import (
	"encoding/binary"
	"fmt"
	"math"

	"martlet/crypto/suite"
)

// Notify is the Notify payload (RFC 7296 §3.10). SPI has 0, 4 or 8 octets in what
// the RFC knows; any protocol and any size up to 255 parse, so that the fault can be
// answered: whoever uses SPI looks at its length first.
type Notify struct {
	Protocol suite.Protocol
	SPI      []byte
	Notify   NotifyType
	Data     []byte
}

func (*Notify) Type() PayloadType { return TypeNotify }

func parseNotify(r *reader) (*Notify, error) {
	var protocol, size uint8
	var kind uint16
	if !r.s.ReadUint8(&protocol) || !r.s.ReadUint8(&size) || !r.s.ReadUint16(&kind) {
		return nil, r.fail("notify payload is cut off in its header")
	}
	spi, ok := r.bytes(int(size))
	if !ok {
		return nil, r.fail(fmt.Sprintf("SPI size says %d octets, the payload has %d left", size, len(r.s)))
	}
	return &Notify{
		Protocol: suite.Protocol(protocol),
		SPI:      spi,
		Notify:   NotifyType(kind),
		Data:     r.rest(),
	}, nil
}

func (p *Notify) appendBody(b []byte) []byte {
	if len(p.SPI) > math.MaxUint8 {
		return nil
	}
	b = append(b, uint8(p.Protocol), uint8(len(p.SPI)))
	b = binary.BigEndian.AppendUint16(b, uint16(p.Notify))
	b = append(b, p.SPI...)
	return append(b, p.Data...)
}

// FindNotify returns the first Notify payload of type t in ps, or nil.
func FindNotify(ps []Payload, t NotifyType) *Notify {
	for _, p := range ps {
		if n, ok := p.(*Notify); ok && n.Notify == t {
			return n
		}
	}
	return nil
}

// FindError returns the first Notify payload of ps whose type is an error, or nil.
func FindError(ps []Payload) *Notify {
	for _, p := range ps {
		if n, ok := p.(*Notify); ok && n.Notify.IsError() {
			return n
		}
	}
	return nil
}
