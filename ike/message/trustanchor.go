package message

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// DS is the delegation signer of a key that signs a domain (RFC 4034 §5.1), which a resolver
// may trust without asking the domains above.
type DS struct {
	KeyTag                uint16
	Algorithm, DigestType uint8
	Digest                []byte
}

// String is the form in which zone files have it (RFC 4034 §5.3).
func (d DS) String() string {
	return fmt.Sprintf("%d %d %d %s", d.KeyTag, d.Algorithm, d.DigestType, strings.ToUpper(hex.EncodeToString(d.Digest)))
}

const (
	dsHeaderLen = 4
	maxDigest   = 64
)

// DigestLen is the length of the digests of a type in octets (RFC 4034 §5.1, RFC 4509, RFC 6605);
// 0 if the type is not known.
func DigestLen(digestType uint8) int {
	switch digestType {
	case 1:
		return 20 // SHA-1
	case 2:
		return 32 // SHA-256
	case 4:
		return 48 // SHA-384
	}
	return 0
}

// NewTrustAnchorAttribute is an INTERNAL_DNSSEC_TA, which belongs behind the INTERNAL_DNS_DOMAIN
// that it is about (RFC 8598 §4.2).
func NewTrustAnchorAttribute(d DS) Attribute {
	value := append(binary.BigEndian.AppendUint16(nil, d.KeyTag), d.Algorithm, d.DigestType)
	return Attribute{Type: InternalDNSSECTA, Value: append(value, d.Digest...)}
}

// TrustAnchor is what an INTERNAL_DNSSEC_TA holds: 4 octets and the digest, as long as its type
// wants it, and where that is not known from 1 to 64 octets. An empty one, which asks, and any
// other type are an error.
func (a Attribute) TrustAnchor() (DS, error) {
	if a.Type != InternalDNSSECTA {
		return DS{}, fmt.Errorf("message: %v holds no trust anchor", a.Type)
	}
	if len(a.Value) <= dsHeaderLen || len(a.Value) > dsHeaderLen+maxDigest {
		return DS{}, a.lengthError(fmt.Sprintf("%d to %d", dsHeaderLen+1, dsHeaderLen+maxDigest))
	}
	d := DS{KeyTag: binary.BigEndian.Uint16(a.Value), Algorithm: a.Value[2], DigestType: a.Value[3], Digest: append([]byte(nil), a.Value[dsHeaderLen:]...)}
	if want := DigestLen(d.DigestType); want != 0 && len(d.Digest) != want {
		return DS{}, a.lengthError(fmt.Sprint(dsHeaderLen + want))
	}
	return d, nil
}
