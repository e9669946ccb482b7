package udpencap

import (
	"encoding/binary"
	"errors"
)

// What stands on a TCP stream (RFC 9329 §3): messages, each behind its length in two
// octets, which count themselves. IKE messages have the non-ESP marker. The side that opened
// the stream sends the prefix first (RFC 9329 §4), the other one does not.
const (
	streamPrefix = "IKETCP"
	lengthLen    = 2
	maxFrame     = 65535 // with its length
)

var errFrame = errors.New("udpencap: a message on a stream has a length of 0 or 1")

// cutFrame takes the first message off what was read of a stream. size is the octets that it
// has there, its length with them: 0 while not even that is known. Data is nil as
// long as the message is not whole.
func cutFrame(b []byte) (data []byte, size int, err error) {
	if len(b) < lengthLen {
		return nil, 0, nil
	}
	size = int(binary.BigEndian.Uint16(b))
	switch {
	case size < lengthLen:
		return nil, 0, errFrame
	case len(b) < size:
		return nil, size, nil
	}
	return b[lengthLen:size:size], size, nil
}

// appendFrame puts a message behind b as it stands on a stream. The caller has found
// that frameLen is at most maxFrame.
func appendFrame(b []byte, p *Packet) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(frameLen(p)))
	switch p.Kind {
	case IKE:
		b = append(b, marker[:]...)
	case Keepalive:
		return append(b, 0xff)
	case ESP, TooBig:
	}
	return append(b, p.Data...)
}

// frameLen is the octets that a message has on a stream.
func frameLen(p *Packet) int {
	switch p.Kind {
	case IKE:
		return lengthLen + markerLen + len(p.Data)
	case Keepalive:
		return lengthLen + 1
	case ESP, TooBig:
	}
	return lengthLen + len(p.Data)
}
