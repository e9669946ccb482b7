package message

import (
	"encoding/binary"
	"math"

	"martlet/crypto/suite"
)

// minFragmentText is the least that Seal puts into a fragment, however small the
// datagrams: a path needs to carry 576 octets anyhow (RFC 7383 §2.5.1).
const minFragmentText = 64

// Seal writes payloads as protected message: one with SK or, where that would be
// longer than maxDatagram octets and maxDatagram is above 0, several with SKF (RFC
// 7383 §2.5). Each element is a whole IKE message without non-ESP marker. nextIV
// is called once for each and must never repeat a value under c's key. Seal returns
// nil where the payloads fit neither their own length fields nor those of SK.
//
// The padding is as short as the cipher allows (RFC 7296 §3.14).
func Seal(h Header, payloads []Payload, c suite.Cipher, nextIV func() uint64, maxDatagram int) [][]byte {
	return SealBehind(h, nil, payloads, c, nextIV, maxDatagram)
}

// SealBehind is Seal with a payload in the clear, covered by the ICV, before SK or the first
// SKF (RFC 7383 §2.5.3); nil is none.
func SealBehind(h Header, clear Payload, payloads []Payload, c suite.Cipher, nextIV func() uint64, maxDatagram int) [][]byte {
	text, before := AppendPayloads(nil, payloads), []byte{}
	if clear != nil {
		before = AppendPayloads(nil, []Payload{clear})
	}
	if text == nil || before == nil {
		return nil
	}
	first := FirstType(payloads)
	size := SealedLen(len(text), c) + len(before)
	if maxDatagram <= 0 || size <= maxDatagram {
		if size-HeaderLen-len(before) > math.MaxUint16 {
			return nil
		}
		return [][]byte{seal(h, clear, before, Encrypted{First: first}, text, c, nextIV())}
	}

	room := min(maxDatagram, math.MaxUint16) - HeaderLen - len(before) - payloadHeaderLen - fragmentHeaderLen - c.IVLen() - c.ICVLen()
	// One octet of the last block is the pad length.
	room = max(room/c.BlockLen()*c.BlockLen()-1, minFragmentText)
	total := (len(text) + room - 1) / room
	if total > math.MaxUint16 {
		return nil
	}
	out := make([][]byte, 0, total)
	for i := range total {
		// RFC 7383 §2.5: only the first fragment tells the first payload's type.
		e := Encrypted{Fragment: uint16(i + 1), Total: uint16(total)}
		if i == 0 {
			e.First = first
		}
		n := min(room, len(text))
		out = append(out, seal(h, clear, before, e, text[:n], c, nextIV()))
		clear, before = nil, nil
		text = text[n:]
	}
	return out
}

// SealedLen is the length of a message with SK that has n octets of payloads inside, without
// non-ESP marker.
func SealedLen(n int, c suite.Cipher) int {
	return HeaderLen + payloadHeaderLen + c.IVLen() + PaddedLen(n, c) + c.ICVLen()
}

// NotifyLen is the length of a Notify payload without SPI and data.
const NotifyLen = payloadHeaderLen + 4

// PaddedLen is the length of n octets of payloads with padding and pad length.
func PaddedLen(n int, c suite.Cipher) int {
	block := c.BlockLen()
	return (n + 1 + block - 1) / block * block
}

// seal writes one message with the payload e, which holds text, behind one in the clear, if
// there is one, which before has appended.
func seal(h Header, clear Payload, before []byte, e Encrypted, text []byte, c suite.Cipher, iv uint64) []byte {
	padded := PaddedLen(len(text), c)
	pkt := make([]byte, 0, HeaderLen+len(before)+payloadHeaderLen+fragmentHeaderLen+c.IVLen()+padded+c.ICVLen())
	if clear == nil {
		pkt = h.append(pkt, e.Type())
	} else {
		pkt = append(h.append(pkt, clear.Type()), before...)
		pkt[HeaderLen] = uint8(e.Type())
	}
	at := len(pkt)
	pkt = append(pkt, uint8(e.First), 0, 0, 0)
	pkt = e.appendHeader(pkt)
	head := len(pkt)
	pkt = append(pkt, make([]byte, c.IVLen())...)
	pkt = append(pkt, text...)
	pkt = append(pkt, make([]byte, padded-len(text)-1)...)
	pkt = append(pkt, uint8(padded-len(text)-1))
	pkt = append(pkt, make([]byte, c.ICVLen())...)
	binary.BigEndian.PutUint16(pkt[at+2:], uint16(len(pkt)-at))
	setLength(pkt)
	c.Seal(pkt, head, iv, suite.ESN{})
	return pkt
}

// Open finds the SK or SKF payload of the message raw, checks its ICV, decrypts it
// in place and returns what was inside without the padding: a part of raw. Payloads
// that stand before it, unprotected, are skipped and mean nothing
// (RFC 7296 §2.5, §3.14).
//
// The error is an *Error or a *VersionError where raw is no such message, ErrICV
// where the check fails. e is not nil exactly where the ICV was right (its Body is
// nil: it was decrypted); an error beside an e that is not nil is the fault of the
// peer itself, to be answered with INVALID_SYNTAX.
func Open(raw []byte, c suite.Cipher) (h Header, e *Encrypted, text []byte, err error) {
	h, next, r, err := parseHeader(raw)
	if err != nil {
		return h, nil, nil, err
	}
	for range maxPayloads {
		if next == NoNextPayload {
			break
		}
		t, following, _, body, err := parsePayloadHeader(next, &r)
		if err != nil {
			return h, nil, nil, err
		}
		if t == TypeSK || t == TypeSKF {
			if !r.empty() {
				return h, nil, nil, r.fail("octets behind the encrypted payload, which must be last")
			}
			e, err := parseEncryptedHeader(t, following, &body)
			if err != nil {
				return h, nil, nil, err
			}
			text, err := c.Open(raw, body.offset(), suite.ESN{})
			if err != nil {
				return h, nil, nil, ErrICV
			}
			text, err = stripPadding(t, body.offset()+c.IVLen(), text)
			return h, e, text, err
		}
		next = following
	}
	return h, nil, nil, r.fail("no encrypted payload where one is due")
}

// stripPadding takes padding and pad length off. The padding's octets may be
// anything (RFC 7296 §3.14). at is the offset of text in the message.
func stripPadding(t PayloadType, at int, text []byte) ([]byte, error) {
	r := newReader(text)
	r.payload, r.end = t, at+len(text)
	if len(text) == 0 {
		return nil, r.fail("nothing inside, not even the pad length")
	}
	pad := int(text[len(text)-1])
	if pad > len(text)-1 {
		return nil, r.fail("pad length is longer than what was decrypted")
	}
	return text[:len(text)-1-pad], nil
}
