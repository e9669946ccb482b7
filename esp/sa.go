package esp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"martlet/crypto/suite"
)

// headLen is the length of SPI and sequence number.
const headLen = 8

// softPackets is the number of packets after which a child SA is to be replaced. It
// lies far from the end of 32-bit numbers, and far below what one AES-GCM key bears.
const softPackets = 1 << 31

// maxDatagram is the longest payload of a UDP datagram over IPv4; over IPv6 it is
// not shorter.
const maxDatagram = 65535 - 20 - 8

// Outbound is the sending direction of a child SA (RFC 4303 §3.3): one SPI, its key
// and its sequence numbers. It belongs to one goroutine, and allocates nothing.
type Outbound struct {
	cipher suite.Cipher
	spi    uint32
	esn    bool
	seq    uint64 // of the last packet
	limit  uint64 // the last sequence number that may be used
	align  int    // what the length of the encrypted text is a multiple of
	pad    int    // octets to which shorter inner packets are padded
	lead   int    // octets before the inner packet
	tail   int    // octets behind the encrypted text
}

// NewOutbound makes the sending direction of an SA; its first packet has number 1.
// It fails if the algorithms are none that we have, or if a key has not their
// length.
func NewOutbound(k Keys) (*Outbound, error) {
	c, err := newCipher(k)
	if err != nil {
		return nil, err
	}
	o := &Outbound{
		cipher: c,
		spi:    k.SPI,
		esn:    k.ESN,
		limit:  math.MaxUint32,
		align:  max(4, c.BlockLen()), // RFC 4303 §2.4
		lead:   headLen + c.IVLen(),
		tail:   c.ICVLen(),
	}
	if k.ESN {
		o.limit = math.MaxUint64 - 1
	}
	return o, nil
}

func newCipher(k Keys) (suite.Cipher, error) {
	c, err := suite.NewCipher(k.Encr, k.Integ, k.EncrKey, k.IntegKey)
	if err != nil {
		return nil, fmt.Errorf("esp: SPI %#08x: %w", k.SPI, err)
	}
	return c, nil
}

// SealedLen is the length in octets of the ESP packet around an inner packet of that
// length.
func (o *Outbound) SealedLen(inner int) int {
	return o.lead + o.textLen(inner) + o.tail
}

// textLen is the length of the encrypted text: the inner packet, what hides its length
// (RFC 4303 §2.7), the least padding, pad length and next header.
func (o *Outbound) textLen(inner int) int {
	return (max(inner, o.pad) + 2 + o.align - 1) / o.align * o.align
}

// longest is the longest inner packet whose ESP packet has at most so many octets.
func (o *Outbound) longest(sealed int) int {
	return max(0, (sealed-o.lead-o.tail)/o.align*o.align-2)
}

// Seal appends the ESP packet around inner to dst, which is returned longer; where
// its capacity holds SealedLen more octets, nothing is allocated. inner does not
// overlap it. next is the protocol of inner: 4 for IPv4, 41 for IPv6.
//
// After the last sequence number (2^32-1, or 2^64-2 with extended ones) it returns
// dst as it was and DropExhausted, for ever.
func (o *Outbound) Seal(dst, inner []byte, next uint8) ([]byte, error) {
	if o.exhausted() {
		return dst, DropExhausted
	}
	start, size := len(dst), o.SealedLen(len(inner))
	dst = slices.Grow(dst, size)[:start+size]
	pkt := dst[start:]
	copy(pkt[o.lead:], inner)
	o.seal(pkt, len(inner), next)
	return dst, nil
}

// exhausted tells whether no sequence number is left: a counter must not cycle (RFC 4303
// §3.3.3).
func (o *Outbound) exhausted() bool { return o.seq >= o.limit }

// inner is where the inner packet of so many octets stands in an ESP packet before seal.
func (o *Outbound) inner(pkt []byte, n int) []byte { return pkt[o.lead : o.lead+n] }

// seal makes the ESP packet around the inner packet of n octets, which is in its place. pkt has
// SealedLen octets. A sequence number is left.
func (o *Outbound) seal(pkt []byte, n int, next uint8) {
	o.seq++
	binary.BigEndian.PutUint32(pkt, o.spi)
	binary.BigEndian.PutUint32(pkt[4:], uint32(o.seq))
	end := o.lead + n
	if hidden := o.pad - n; hidden > 0 {
		clear(pkt[end : end+hidden])
		end += hidden
	}
	pad := len(pkt) - o.tail - end - 2
	for i := range pad {
		pkt[end+i] = byte(i + 1)
	}
	pkt[end+pad], pkt[end+pad+1] = byte(pad), next
	// The sequence number is unique under the key, so it is the IV too (RFC 4106 §3.1).
	o.cipher.Seal(pkt, headLen, o.seq, suite.ESN{On: o.esn, High: uint32(o.seq >> 32)})
}

// Sequence is the number of the last packet sealed; 0 if there was none.
func (o *Outbound) Sequence() uint64 { return o.seq }

// Inbound is the receiving direction of a child SA (RFC 4303 §3.4): one SPI, its
// key and its replay window. It belongs to one goroutine at a time, and allocates
// nothing.
type Inbound struct {
	cipher suite.Cipher
	spi    uint32
	esn    bool
	least  int // the length of the shortest packet
	window window
}

// NewInbound makes the receiving direction of an SA with a replay window of so many
// packets: 64 to 65536, or 0 for 4096. It fails as NewOutbound does.
func NewInbound(k Keys, packets int) (*Inbound, error) {
	if packets == 0 {
		packets = defaultWindow
	}
	if packets < minWindow || packets > maxWindow {
		return nil, fmt.Errorf("esp: replay window of %d packets: want %d to %d", packets, minWindow, maxWindow)
	}
	c, err := newCipher(k)
	if err != nil {
		return nil, err
	}
	return &Inbound{
		cipher: c,
		spi:    k.SPI,
		esn:    k.ESN,
		least:  headLen + c.IVLen() + 2 + c.ICVLen(),
		window: newWindow(packets),
	}, nil
}

// Open checks an ESP packet of this SPI, decrypts it in place and returns the inner
// IP packet, a part of pkt, without padding of any kind. The window moves if, and only
// if, the packet is authentic. The error is a Drop: TooShort, Replay, TooOld, BadICV,
// BadPadding, NextHeader, Dummy or BadInner. Selectors are not Open's matter.
func (in *Inbound) Open(pkt []byte) (inner []byte, err error) {
	inner, _, _, err = in.open(pkt)
	return inner, err
}

// Sequence is the highest number accepted; 0 if there was none.
func (in *Inbound) Sequence() uint64 { return in.window.top }

// open is Open; it tells also what the inner packet's headers say, and whether the
// packet is authentic and the newest. newest holds beside an error as well.
func (in *Inbound) open(pkt []byte) (inner []byte, f Flow, newest bool, err error) {
	payload, next, newest, err := in.decrypt(pkt)
	if err != nil {
		return nil, f, newest, err
	}
	switch next {
	case protoIPv4, protoIPv6:
	case protoNone:
		return nil, f, newest, DropDummy
	default:
		return nil, f, newest, DropNextHeader
	}
	f, length, ok := parse(payload)
	if !ok || (next == protoIPv4) != f.Src.Is4() {
		return nil, f, newest, DropBadInner
	}
	// RFC 4303 §2.7: what follows the inner packet pads its length.
	return payload[:length], f, newest, nil
}

// decrypt does what any mode of ESP has in common: replay check, integrity, padding.
func (in *Inbound) decrypt(pkt []byte) (payload []byte, next uint8, newest bool, err error) {
	if len(pkt) < in.least {
		return nil, 0, false, DropTooShort
	}
	low := binary.BigEndian.Uint32(pkt[4:])
	seq := uint64(low)
	if in.esn {
		var ok bool
		if seq, ok = in.window.infer(low); !ok {
			return nil, 0, false, DropTooOld
		}
	}
	if why := in.window.check(seq); why != 0 {
		return nil, 0, false, why
	}
	text, err := in.cipher.Open(pkt, headLen, suite.ESN{On: in.esn, High: uint32(seq >> 32)})
	if errors.Is(err, suite.ErrLength) {
		return nil, 0, false, DropTooShort
	}
	if err != nil {
		return nil, 0, false, DropBadICV
	}
	// RFC 4303 §3.4.3: the window is updated only after the integrity check.
	newest = in.window.commit(seq)
	n := len(text) - 2
	if n < 0 {
		return nil, 0, newest, DropBadPadding
	}
	pad := int(text[n])
	if pad > n {
		return nil, 0, newest, DropBadPadding
	}
	for i, b := range text[n-pad : n] {
		if int(b) != i+1 {
			return nil, 0, newest, DropBadPadding
		}
	}
	return text[:n-pad], text[n+1], newest, nil
}
