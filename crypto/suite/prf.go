package suite

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
)

// PRF is a pseudo-random function (RFC 7296 §2.13). It may be used from several
// goroutines.
type PRF interface {
	// KeyLen is the preferred key length in octets: what SK_d, SK_pi and SK_pr have.
	KeyLen() int
	// Size is the length of the output in octets.
	Size() int
	// Sum returns prf(key, data), where data is all its parts one after another. A
	// key of any length will do. The caller owns the result.
	Sum(key []byte, data ...[]byte) []byte
}

// NewPRF returns the pseudo-random function that t names.
func NewPRF(t Transform) (PRF, error) {
	if t.Type == TypePRF && t.KeyLen == 0 {
		switch t.ID {
		case PRFHMACSHA1:
			return hmacPRF{sha1.New, sha1.Size}, nil
		case PRFHMACSHA256:
			return hmacPRF{sha256.New, sha256.Size}, nil
		case PRFHMACSHA384:
			return hmacPRF{sha512.New384, sha512.Size384}, nil
		case PRFHMACSHA512:
			return hmacPRF{sha512.New, sha512.Size}, nil
		}
	}
	return nil, fmt.Errorf("suite: %v is not a pseudo-random function that is implemented", t)
}

// PRFPlus returns n octets of prf+(key, seed) (RFC 7296 §2.13). The counter there
// is one octet: n must be at most 255 times the PRF's size, and more is a mistake
// of the program that panics.
func PRFPlus(p PRF, key, seed []byte, n int) []byte {
	if n < 0 || n > 255*p.Size() {
		panic("suite: prf+ cannot give that many octets")
	}
	out := make([]byte, 0, n+p.Size())
	var last []byte
	for i := byte(1); len(out) < n; i++ {
		last = p.Sum(key, last, seed, []byte{i})
		out = append(out, last...)
	}
	return out[:n:n]
}

// hmacPRF is HMAC on a hash; its preferred key is as long as its output (RFC 4868
// §2.1.2).
type hmacPRF struct {
	hash func() hash.Hash
	size int
}

func (p hmacPRF) KeyLen() int { return p.size }
func (p hmacPRF) Size() int   { return p.size }

func (p hmacPRF) Sum(key []byte, data ...[]byte) []byte {
	h := hmac.New(p.hash, key)
	for _, d := range data {
		h.Write(d)
	}
	return h.Sum(nil)
}
