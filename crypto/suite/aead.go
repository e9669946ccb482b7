package suite

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
)

const (
	ivLen   = 8  // of all ciphers but CBC
	espHead = 8  // SPI and sequence number (RFC 4303 §2)
	gcmTag  = 16 // what GCM makes before it is truncated
)

// aeadCipher is AES-GCM (RFC 4106, RFC 5282) or ChaCha20-Poly1305 (RFC 7634): a nonce
// of 4 octets salt and 8 octets IV, and the head as additional data.
type aeadCipher struct {
	aead  cipher.AEAD
	nonce [12]byte // salt, and the IV of the packet at hand
	aad   [12]byte // with ESN: SPI, high half, low half
}

func newAEAD(a cipher.AEAD, salt []byte) *aeadCipher {
	c := &aeadCipher{aead: a}
	copy(c.nonce[:4], salt)
	return c
}

func (c *aeadCipher) IVLen() int    { return ivLen }
func (c *aeadCipher) ICVLen() int   { return c.aead.Overhead() }
func (c *aeadCipher) BlockLen() int { return 1 }

func (c *aeadCipher) Seal(pkt []byte, head int, iv uint64, esn ESN) {
	text := pkt[head+ivLen : len(pkt)-c.aead.Overhead()]
	binary.BigEndian.PutUint64(pkt[head:], iv)
	binary.BigEndian.PutUint64(c.nonce[4:], iv)
	c.aead.Seal(text[:0], c.nonce[:], text, c.additional(pkt[:head], esn))
}

func (c *aeadCipher) Open(pkt []byte, head int, esn ESN) ([]byte, error) {
	if !fits(len(pkt), head, ivLen+c.aead.Overhead(), esn) {
		return nil, ErrLength
	}
	text := pkt[head+ivLen:]
	copy(c.nonce[4:], pkt[head:])
	text, err := c.aead.Open(text[:0], c.nonce[:], text, c.additional(pkt[:head], esn))
	if err != nil {
		return nil, ErrICV
	}
	return text, nil
}

// implicitCipher is an AEAD of ESP whose packets carry no IV: it is the sequence number, of
// which the packet has the low half in its head (RFC 8750 §4). The number is unique under
// the key as an IV has to be. Without ESN its high half is 0.
type implicitCipher struct{ aeadCipher }

func (c *implicitCipher) IVLen() int { return 0 }

// Seal ignores iv: it is in the head.
func (c *implicitCipher) Seal(pkt []byte, head int, _ uint64, esn ESN) {
	text := pkt[head : len(pkt)-c.aead.Overhead()]
	c.imply(pkt, esn)
	c.aead.Seal(text[:0], c.nonce[:], text, c.additional(pkt[:head], esn))
}

func (c *implicitCipher) Open(pkt []byte, head int, esn ESN) ([]byte, error) {
	if head != espHead || !fits(len(pkt), head, c.aead.Overhead(), esn) {
		return nil, ErrLength
	}
	text := pkt[head:]
	c.imply(pkt, esn)
	text, err := c.aead.Open(text[:0], c.nonce[:], text, c.additional(pkt[:head], esn))
	if err != nil {
		return nil, ErrICV
	}
	return text, nil
}

func (c *implicitCipher) imply(pkt []byte, esn ESN) {
	var high uint32
	if esn.On {
		high = esn.High
	}
	binary.BigEndian.PutUint32(c.nonce[4:], high)
	copy(c.nonce[8:], pkt[4:espHead])
}

// additional returns what is authenticated beside the text: the head, and with ESN
// the high half between SPI and sequence number (RFC 4106 §5, RFC 7634 §2.1).
func (c *aeadCipher) additional(head []byte, esn ESN) []byte {
	if !esn.On {
		return head
	}
	copy(c.aad[:4], head[:4])
	binary.BigEndian.PutUint32(c.aad[4:], esn.High)
	copy(c.aad[8:], head[4:espHead])
	return c.aad[:]
}

// fits says whether a packet of length n can hold the head and what the cipher
// adds. With ESN the head is ESP's.
func fits(n, head, added int, esn ESN) bool {
	return head >= 0 && n-head >= added && (!esn.On || head == espHead)
}

// gcmShort is AES-GCM with an ICV of 12 or 8 octets: the full tag is made in scratch
// memory and truncated. Go's GCM refuses 8 octets, and with 12 its assembly (1.26,
// amd64) writes up to three octets behind the packet, where the next one begins.
type gcmShort struct {
	aeadCipher
	icvLen  int
	scratch []byte // one text and its full tag; grows to the largest packet
}

func (c *gcmShort) ICVLen() int { return c.icvLen }

func (c *gcmShort) Seal(pkt []byte, head int, iv uint64, esn ESN) {
	text, icv := pkt[head+ivLen:len(pkt)-c.icvLen], pkt[len(pkt)-c.icvLen:]
	binary.BigEndian.PutUint64(pkt[head:], iv)
	binary.BigEndian.PutUint64(c.nonce[4:], iv)
	sealed := c.seal(text, c.additional(pkt[:head], esn))
	copy(text, sealed)
	copy(icv, sealed[len(text):])
}

// Open decrypts by encrypting: GCM is a key stream, so that sealing the ciphertext
// gives the text. Sealing that once more gives the tag that it should have.
func (c *gcmShort) Open(pkt []byte, head int, esn ESN) ([]byte, error) {
	if !fits(len(pkt), head, ivLen+c.icvLen, esn) {
		return nil, ErrLength
	}
	text, icv := pkt[head+ivLen:len(pkt)-c.icvLen], pkt[len(pkt)-c.icvLen:]
	copy(c.nonce[4:], pkt[head:])
	additional := c.additional(pkt[:head], esn)
	copy(text, c.seal(text, additional))
	tag := c.seal(text, additional)[len(text):]
	if subtle.ConstantTimeCompare(tag[:c.icvLen], icv) != 1 {
		return nil, ErrICV
	}
	return text, nil
}

// seal returns the ciphertext of text and its full tag, in the scratch memory.
func (c *gcmShort) seal(text, additional []byte) []byte {
	if n := len(text) + gcmTag; cap(c.scratch) < n {
		c.scratch = make([]byte, 0, n)
	}
	return c.aead.Seal(c.scratch[:0], c.nonce[:], text, additional)
}
