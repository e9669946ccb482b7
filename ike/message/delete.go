package message

import (
	"encoding/binary"
	"fmt"
	"math"

	"martlet/crypto/suite"
)

// Delete is the Delete payload (RFC 7296 §3.11). For the IKE SA SPIs is empty; for
// ESP and AH they are the SPIs that the sender expects in what it receives.
type Delete struct {
	Protocol suite.Protocol
	SPIs     []uint32
}

func (*Delete) Type() PayloadType { return TypeDelete }

func parseDelete(r *reader) (*Delete, error) {
	var protocol, size uint8
	var count uint16
	if !r.s.ReadUint8(&protocol) || !r.s.ReadUint8(&size) || !r.s.ReadUint16(&count) {
		return nil, r.fail("delete payload is cut off in its header")
	}
	p := &Delete{Protocol: suite.Protocol(protocol)}
	if p.Protocol == suite.ProtocolIKE {
		// RFC 7296 §3.11: the SPI is the header's; the count is of no use then.
		if size != 0 || !r.empty() {
			return nil, r.fail(fmt.Sprintf("SPI size is %d for the IKE SA, want 0", size))
		}
		return p, nil
	}
	if size != 4 {
		return nil, r.fail(fmt.Sprintf("SPI size is %d for protocol %d, want 4", size, protocol))
	}
	if len(r.s) != 4*int(count) {
		return nil, r.fail(fmt.Sprintf("%d SPIs announced, %d octets left", count, len(r.s)))
	}
	p.SPIs = make([]uint32, 0, count)
	for range count {
		var spi uint32
		if !r.s.ReadUint32(&spi) {
			return nil, r.fail("SPI is cut off")
		}
		p.SPIs = append(p.SPIs, spi)
	}
	return p, nil
}

func (p *Delete) appendBody(b []byte) []byte {
	if p.Protocol == suite.ProtocolIKE {
		return append(b, uint8(p.Protocol), 0, 0, 0)
	}
	if len(p.SPIs) > math.MaxUint16 {
		return nil
	}
	b = append(b, uint8(p.Protocol), 4)
	b = binary.BigEndian.AppendUint16(b, uint16(len(p.SPIs)))
	for _, spi := range p.SPIs {
		b = binary.BigEndian.AppendUint32(b, spi)
	}
	return b
}
