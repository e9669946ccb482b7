package aaa

import (
	"crypto/md5"
	"crypto/subtle"

	"layeh.com/radius"

	"martlet/crypto/suite"
)

// Microsoft's attributes (RFC 2548 §2.4).
const (
	microsoft      = 311
	msMPPESendKey  = 16
	msMPPERecvKey  = 17
	msPrimaryDNS   = 28
	msSecondaryDNS = 29
)

// mskLen is the least length of an MSK (RFC 3748 §7.10).
const mskLen = 64

// sessionKey is the MSK in an Access-Accept to a request whose authenticator was nonce: what
// the peer receives with, then what it sends with, zeros behind them up to 64 octets
// (RFC 5216 §2.3; MSCHAPv2 has 16 octets each). It is nil where there is none, or one that
// cannot be read.
func sessionKey(p *radius.Packet, nonce [16]byte) suite.Secret {
	recv := oneKey(p, msMPPERecvKey, nonce)
	send := oneKey(p, msMPPESendKey, nonce)
	if recv == nil || send == nil {
		return nil
	}
	msk := make([]byte, 0, max(mskLen, len(recv)+len(send)))
	msk = append(append(msk, recv...), send...)
	return msk[:max(mskLen, len(msk))]
}

func oneKey(p *radius.Packet, t byte, nonce [16]byte) []byte {
	values := microsofts(p, t)
	if len(values) != 1 {
		return nil
	}
	return openKey(values[0], nonce, p.Secret)
}

// openKey decrypts the value of a key attribute (RFC 2548 §2.4.2): a salt of two octets,
// then blocks of 16 of which the first octet is the key's length. It is nil for what
// cannot be a key.
func openKey(value []byte, nonce [16]byte, secret suite.Secret) []byte {
	const salt, block = 2, md5.Size
	if len(value) < salt+block || (len(value)-salt)%block != 0 {
		return nil
	}
	sealed := value[salt:]
	plain := make([]byte, len(sealed))
	before := append(nonce[:], value[:salt]...)
	for i := 0; i < len(sealed); i += block {
		h := md5.New()
		h.Write(secret)
		h.Write(before)
		subtle.XORBytes(plain[i:i+block], sealed[i:i+block], h.Sum(nil))
		before = sealed[i : i+block]
	}
	n := int(plain[0])
	if n == 0 || n > len(plain)-1 {
		return nil
	}
	return plain[1 : 1+n]
}
