package suite

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"
)

// macKind is an integrity algorithm: HMAC truncated to icvLen octets.
type macKind struct {
	hash           func() hash.Hash
	keyLen, icvLen int
}

// macOf returns the integrity algorithm that t names (RFC 2404; RFC 4868 §2.6).
func macOf(t Transform) (macKind, error) {
	if t.Type == TypeInteg && t.KeyLen == 0 {
		switch t.ID {
		case IntegHMACSHA1_96:
			return macKind{sha1.New, sha1.Size, 12}, nil
		case IntegHMACSHA2_256_128:
			return macKind{sha256.New, sha256.Size, 16}, nil
		case IntegHMACSHA2_384_192:
			return macKind{sha512.New384, sha512.Size384, 24}, nil
		case IntegHMACSHA2_512_256:
			return macKind{sha512.New, sha512.Size, 32}, nil
		}
	}
	return macKind{}, fmt.Errorf("suite: %v is not an integrity algorithm that is implemented", t)
}

// mac authenticates head, IV and ciphertext (encrypt, then MAC).
type mac struct {
	hmac   hash.Hash
	icvLen int
	sum    [sha512.Size]byte
	high   [4]byte
}

func newMAC(t Transform, key []byte) (mac, error) {
	kind, err := macOf(t)
	if err != nil {
		return mac{}, err
	}
	return mac{hmac: hmac.New(kind.hash, key), icvLen: kind.icvLen}, nil
}

func (m *mac) ICVLen() int { return m.icvLen }

// icv returns the value for data, in the scratch memory. The high half of an
// extended sequence number follows the data (RFC 4303 §2.2.1).
func (m *mac) icv(data []byte, esn ESN) []byte {
	m.hmac.Reset()
	m.hmac.Write(data)
	if esn.On {
		binary.BigEndian.PutUint32(m.high[:], esn.High)
		m.hmac.Write(m.high[:])
	}
	return m.hmac.Sum(m.sum[:0])[:m.icvLen]
}

// seal writes the ICV at pkt's end, open checks it.
func (m *mac) seal(pkt []byte, esn ESN) {
	end := len(pkt) - m.icvLen
	copy(pkt[end:], m.icv(pkt[:end], esn))
}

func (m *mac) open(pkt []byte, esn ESN) bool {
	end := len(pkt) - m.icvLen
	return subtle.ConstantTimeCompare(pkt[end:], m.icv(pkt[:end], esn)) == 1
}

// cbc is AES-CBC (RFC 3602) with a separate MAC. Its IV must not be predictable by
// who chooses the text (RFC 3602 §3): it is the packet's counter, encrypted under a
// random key that nothing else uses.
type cbc struct {
	mac
	block, ivBlock cipher.Block
	chain, next    [aes.BlockSize]byte
}

func newCBC(block cipher.Block, integ Transform, integKey []byte) (*cbc, error) {
	m, err := newMAC(integ, integKey)
	if err != nil {
		return nil, err
	}
	var key [32]byte
	rand.Read(key[:]) // never fails: the program ends without a random source
	ivBlock, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("suite: key for initialization vectors: %w", err)
	}
	return &cbc{mac: m, block: block, ivBlock: ivBlock}, nil
}

func (c *cbc) IVLen() int    { return aes.BlockSize }
func (c *cbc) BlockLen() int { return aes.BlockSize }

func (c *cbc) Seal(pkt []byte, head int, iv uint64, esn ESN) {
	clear(c.chain[:])
	binary.BigEndian.PutUint64(c.chain[8:], iv)
	prev := pkt[head : head+aes.BlockSize]
	c.ivBlock.Encrypt(prev, c.chain[:])
	text := pkt[head+aes.BlockSize : len(pkt)-c.icvLen]
	for len(text) != 0 {
		b := text[:aes.BlockSize]
		subtle.XORBytes(b, b, prev)
		c.block.Encrypt(b, b)
		prev, text = b, text[aes.BlockSize:]
	}
	c.seal(pkt, esn)
}

func (c *cbc) Open(pkt []byte, head int, esn ESN) ([]byte, error) {
	if !fits(len(pkt), head, aes.BlockSize+c.icvLen, esn) || (len(pkt)-head-c.icvLen)%aes.BlockSize != 0 {
		return nil, ErrLength
	}
	if !c.open(pkt, esn) {
		return nil, ErrICV
	}
	text := pkt[head+aes.BlockSize : len(pkt)-c.icvLen]
	copy(c.chain[:], pkt[head:])
	for rest := text; len(rest) != 0; rest = rest[aes.BlockSize:] {
		b := rest[:aes.BlockSize]
		copy(c.next[:], b)
		c.block.Decrypt(b, b)
		subtle.XORBytes(b, b, c.chain[:])
		c.chain = c.next
	}
	return text, nil
}

// ctr is AES-CTR (RFC 3686) with a separate MAC.
type ctr struct {
	mac
	block   cipher.Block
	counter [aes.BlockSize]byte // nonce, IV, block number from 1 (RFC 3686 §4)
	stream  [32 * aes.BlockSize]byte
}

func newCTR(block cipher.Block, nonce []byte, integ Transform, integKey []byte) (*ctr, error) {
	m, err := newMAC(integ, integKey)
	if err != nil {
		return nil, err
	}
	c := &ctr{mac: m, block: block}
	copy(c.counter[:4], nonce)
	return c, nil
}

func (c *ctr) IVLen() int    { return ivLen }
func (c *ctr) BlockLen() int { return 1 }

func (c *ctr) Seal(pkt []byte, head int, iv uint64, esn ESN) {
	binary.BigEndian.PutUint64(pkt[head:], iv)
	c.xor(pkt[head:head+ivLen], pkt[head+ivLen:len(pkt)-c.icvLen])
	c.seal(pkt, esn)
}

func (c *ctr) Open(pkt []byte, head int, esn ESN) ([]byte, error) {
	if !fits(len(pkt), head, ivLen+c.icvLen, esn) {
		return nil, ErrLength
	}
	if !c.open(pkt, esn) {
		return nil, ErrICV
	}
	text := pkt[head+ivLen : len(pkt)-c.icvLen]
	c.xor(pkt[head:head+ivLen], text)
	return text, nil
}

// xor applies the key stream. The standard library's CTR mode would allocate for
// each packet, because a stream cannot be set back. All counters of a run are
// written before the first is encrypted: reading a block that was just put together
// of pieces stalls the processor.
func (c *ctr) xor(iv, text []byte) {
	copy(c.counter[4:], iv)
	for number := uint32(1); len(text) != 0; {
		n := min(len(text), len(c.stream))
		for i := 0; i < n; i += aes.BlockSize {
			binary.BigEndian.PutUint32(c.counter[12:], number)
			copy(c.stream[i:], c.counter[:])
			number++
		}
		for i := 0; i < n; i += aes.BlockSize {
			b := c.stream[i : i+aes.BlockSize]
			c.block.Encrypt(b, b)
		}
		subtle.XORBytes(text, text, c.stream[:n])
		text = text[n:]
	}
}
