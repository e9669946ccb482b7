package message

import (
	"encoding/binary"
	"fmt"
)

// HeaderLen is the length of the IKE header in octets (RFC 7296 §3.1).
const HeaderLen = 28

// major is the version that we speak; the minor one is 0 and ignored on receipt.
const major = 2

// SPI is an IKE SPI, 8 octets in network order.
type SPI uint64

// String gives 16 hexadecimal digits.
func (s SPI) String() string { return fmt.Sprintf("%016x", uint64(s)) }

// ExchangeType tells what kind of exchange a message belongs to (RFC 7296 §3.1).
type ExchangeType uint8

const (
	IKESAInit        ExchangeType = 34
	IKEAuth          ExchangeType = 35
	CreateChildSA    ExchangeType = 36
	Informational    ExchangeType = 37
	IKESessionResume ExchangeType = 38 // RFC 5723
	IKEIntermediate  ExchangeType = 43 // RFC 9242
	IKEFollowupKE    ExchangeType = 44 // RFC 9370
)

// String is the name in IANA's registry, or the number.
func (t ExchangeType) String() string {
	switch t {
	case IKESAInit:
		return "IKE_SA_INIT"
	case IKEAuth:
		return "IKE_AUTH"
	case CreateChildSA:
		return "CREATE_CHILD_SA"
	case Informational:
		return "INFORMATIONAL"
	case IKESessionResume:
		return "IKE_SESSION_RESUME"
	case IKEIntermediate:
		return "IKE_INTERMEDIATE"
	case IKEFollowupKE:
		return "IKE_FOLLOWUP_KE"
	}
	return fmt.Sprintf("exchange %d", uint8(t))
}

// Flags of the IKE header (RFC 7296 §3.1). Other bits are ignored on receipt.
type Flags uint8

const (
	FlagInitiator Flags = 1 << 3 // sent by the original initiator of the IKE SA
	FlagVersion   Flags = 1 << 4 // the sender can speak a higher major version
	FlagResponse  Flags = 1 << 5
)

// Header is the IKE header without its length, which the encoder computes, and
// without its next payload, which the payloads tell (RFC 7296 §3.1). An encoder
// writes a Major of 0 as 2.
type Header struct {
	SPIi, SPIr SPI
	Major      uint8
	Minor      uint8
	Exchange   ExchangeType
	Flags      Flags
	MessageID  uint32
}

// IsResponse tells whether the message answers another.
func (h Header) IsResponse() bool { return h.Flags&FlagResponse != 0 }

// FromInitiator tells whether the original initiator of the IKE SA sent it.
func (h Header) FromInitiator() bool { return h.Flags&FlagInitiator != 0 }

// ParseHeader reads the header of b, which must be one whole message: the length
// field has to equal len(b). Errors are *Error and *VersionError; with the latter
// the Header is filled, for an answer.
func ParseHeader(b []byte) (Header, error) {
	h, _, _, err := parseHeader(b)
	return h, err
}

// parseHeader returns also the type of the first payload and a reader of the chain.
func parseHeader(b []byte) (h Header, first PayloadType, r reader, err error) {
	r = newReader(b)
	var next, version, exchange, flags uint8
	var length uint32
	var spii, spir uint64
	if !r.s.ReadUint64(&spii) || !r.s.ReadUint64(&spir) ||
		!r.s.ReadUint8(&next) || !r.s.ReadUint8(&version) ||
		!r.s.ReadUint8(&exchange) || !r.s.ReadUint8(&flags) ||
		!r.s.ReadUint32(&h.MessageID) || !r.s.ReadUint32(&length) {
		return Header{}, 0, reader{}, r.fail(fmt.Sprintf("message has %d octets, the header alone %d", len(b), HeaderLen))
	}
	h.SPIi, h.SPIr = SPI(spii), SPI(spir)
	h.Major, h.Minor = version>>4, version&15
	h.Exchange, h.Flags = ExchangeType(exchange), Flags(flags)
	if h.Major != major {
		return h, 0, reader{}, &VersionError{Major: h.Major}
	}
	if uint64(length) != uint64(len(b)) {
		return h, 0, reader{}, r.fail(fmt.Sprintf("length field says %d octets, %d came", length, len(b)))
	}
	return h, PayloadType(next), r, nil
}

// append appends the header with a length of 0, which setLength fills.
func (h Header) append(b []byte, first PayloadType) []byte {
	if h.Major == 0 {
		h.Major = major
	}
	b = binary.BigEndian.AppendUint64(b, uint64(h.SPIi))
	b = binary.BigEndian.AppendUint64(b, uint64(h.SPIr))
	b = append(b, uint8(first), h.Major<<4|h.Minor&15, uint8(h.Exchange), uint8(h.Flags))
	b = binary.BigEndian.AppendUint32(b, h.MessageID)
	return binary.BigEndian.AppendUint32(b, 0)
}

// setLength writes the length of the message msg into its header.
func setLength(msg []byte) {
	binary.BigEndian.PutUint32(msg[HeaderLen-4:], uint32(len(msg)))
}
