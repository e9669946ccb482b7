package suite

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// Errors of Cipher.Open. They are compared with ==, and cost no allocation.
var (
	// ErrLength: the packet is too short, or its text is not whole blocks.
	ErrLength = errors.New("suite: packet length does not fit the cipher")
	// ErrICV: the integrity check value is wrong; forged, damaged, or another key.
	ErrICV = errors.New("suite: integrity check failed")
)

// KeyLens returns how many octets of key material the suite's encryption and
// integrity algorithms take in each direction. encr includes the salt or nonce that
// follows the key: 4 octets for AES-GCM (RFC 4106 §8.1), AES-CTR (RFC 3686 §5.1)
// and ChaCha20-Poly1305 (RFC 7634 §2). integ is 0 beside an AEAD.
func (s Suite) KeyLens() (encr, integ int, err error) {
	if encr, err = encrKeyLen(s.Encr); err != nil {
		return 0, 0, err
	}
	if aead(s.Encr.ID) {
		if s.Integ.ID != IntegNone {
			return 0, 0, fmt.Errorf("suite: %v authenticates by itself, expected no integrity algorithm, got %v", s.Encr, s.Integ)
		}
		return encr, 0, nil
	}
	mac, err := macOf(s.Integ)
	if err != nil {
		return 0, 0, err
	}
	return encr, mac.keyLen, nil
}

// encrKeyLen returns the octets of an encryption key, salt included.
func encrKeyLen(t Transform) (int, error) {
	salt := 0
	switch t.ID {
	case EncrChaCha20Poly1305, EncrChaCha20Poly1305IIV:
		if t == (Transform{TypeEncr, t.ID, 0}) {
			return chacha20poly1305.KeySize + 4, nil
		}
	case EncrAESGCM16, EncrAESGCM16IIV, EncrAESGCM12, EncrAESGCM8, EncrAESCTR:
		salt = 4
		fallthrough
	case EncrAESCBC:
		switch {
		case t.Type != TypeEncr:
		case t.KeyLen == 128, t.KeyLen == 192, t.KeyLen == 256:
			return int(t.KeyLen)/8 + salt, nil
		}
	}
	return 0, fmt.Errorf("suite: %v is not an encryption algorithm that is implemented", t)
}

// NewCipher returns the cipher that encr and integ name; integ is zero or NONE for
// an AEAD. The keys have the lengths that KeyLens says; they are copied.
func NewCipher(encr, integ Transform, encrKey, integKey []byte) (Cipher, error) {
	encrLen, integLen, err := Suite{Encr: encr, Integ: integ}.KeyLens()
	if err != nil {
		return nil, err
	}
	if len(encrKey) != encrLen || len(integKey) != integLen {
		return nil, fmt.Errorf("suite: keys for %v: expected %d and %d octets, got %d and %d", encr, encrLen, integLen, len(encrKey), len(integKey))
	}
	if encr.ID == EncrChaCha20Poly1305 || encr.ID == EncrChaCha20Poly1305IIV {
		key, salt := encrKey[:encrLen-4], encrKey[encrLen-4:]
		a, err := chacha20poly1305.New(key)
		if err != nil {
			return nil, fmt.Errorf("suite: %v: %w", encr, err)
		}
		c := newAEAD(a, salt)
		if implicitIV(encr.ID) {
			return &implicitCipher{*c}, nil
		}
		return c, nil
	}
	block, err := aes.NewCipher(encrKey[:encr.KeyLen/8])
	if err != nil {
		return nil, fmt.Errorf("suite: %v: %w", encr, err)
	}
	salt := encrKey[encr.KeyLen/8:]
	switch encr.ID {
	case EncrAESCBC:
		return newCBC(block, integ, integKey)
	case EncrAESCTR:
		return newCTR(block, salt, integ, integKey)
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("suite: %v: %w", encr, err)
	}
	c := newAEAD(a, salt)
	switch encr.ID {
	case EncrAESGCM12:
		return &gcmShort{aeadCipher: *c, icvLen: 12}, nil
	case EncrAESGCM8:
		return &gcmShort{aeadCipher: *c, icvLen: 8}, nil
	case EncrAESGCM16IIV:
		return &implicitCipher{*c}, nil
	}
	return c, nil
}
