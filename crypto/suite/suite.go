// Package suite names the algorithms of IKEv2 and ESP, reads and writes them in
// strongSwan's keywords, chooses among proposals, and builds what the choice stands
// for: pseudo-random functions, key material and packet ciphers.
//
// ParseProposals reads what a person wrote, Select narrows what a peer offers to what
// is accepted, and gives a Suite or a *MismatchError that shows both sides; NewPRF
// and NewCipher make of that what computes:
//
//	accept, err := suite.ParseProposals(suite.ProtocolIKE, []string{"aes256gcm16-prfsha384-ecp384"}, nil)
//	choice, err := suite.Select(offered, accept, false)
//
// Weak algorithms are never in the defaults; they work where they are named, and
// Weak tells which of a proposal are such. A Secret does not print itself.
//
// Nothing here knows about payloads, sockets or time. Numbers are IANA's
// (registry "Internet Key Exchange Version 2 (IKEv2) Parameters").
package suite

// Protocol is a security protocol identifier (RFC 7296 §3.3.1).
type Protocol uint8

const (
	ProtocolNone Protocol = 0
	ProtocolIKE  Protocol = 1
	ProtocolAH   Protocol = 2
	ProtocolESP  Protocol = 3
)

// TransformType is the kind of an algorithm within a proposal (RFC 7296 §3.3.2,
// RFC 9370 §2 for the additional key exchanges).
type TransformType uint8

const (
	TypeEncr   TransformType = 1
	TypePRF    TransformType = 2
	TypeInteg  TransformType = 3
	TypeKE     TransformType = 4
	TypeESN    TransformType = 5
	TypeAddKE1 TransformType = 6 // up to TypeAddKE7
	TypeAddKE7 TransformType = 12
)

// IsAddKE tells whether t is one of the seven additional key exchanges.
func (t TransformType) IsAddKE() bool { return t >= TypeAddKE1 && t <= TypeAddKE7 }

// Encryption algorithms, transform type 1.
const (
	Encr3DES             uint16 = 3
	EncrNULL             uint16 = 11
	EncrAESCBC           uint16 = 12
	EncrAESCTR           uint16 = 13
	EncrAESGCM8          uint16 = 18
	EncrAESGCM12         uint16 = 19
	EncrAESGCM16         uint16 = 20
	EncrChaCha20Poly1305 uint16 = 28

	// With the IV implied by the sequence number, for ESP only (RFC 8750).
	EncrAESGCM16IIV         uint16 = 30
	EncrChaCha20Poly1305IIV uint16 = 31
)

// Pseudo-random functions, transform type 2.
const (
	PRFHMACSHA1   uint16 = 2
	PRFHMACSHA256 uint16 = 5
	PRFHMACSHA384 uint16 = 6
	PRFHMACSHA512 uint16 = 7
)

// Integrity algorithms, transform type 3.
const (
	IntegNone             uint16 = 0
	IntegHMACSHA1_96      uint16 = 2
	IntegHMACSHA2_256_128 uint16 = 12
	IntegHMACSHA2_384_192 uint16 = 13
	IntegHMACSHA2_512_256 uint16 = 14
)

// Key exchange methods, transform type 4 and 6 to 12.
const (
	KENone      uint16 = 0
	KEMODP768   uint16 = 1
	KEMODP1024  uint16 = 2
	KEMODP1536  uint16 = 5
	KEMODP2048  uint16 = 14
	KEMODP3072  uint16 = 15
	KEMODP4096  uint16 = 16
	KEMODP6144  uint16 = 17
	KEMODP8192  uint16 = 18
	KEECP256    uint16 = 19
	KEECP384    uint16 = 20
	KEECP521    uint16 = 21
	KEX25519    uint16 = 31
	KEX448      uint16 = 32
	KEMLKEM512  uint16 = 35
	KEMLKEM768  uint16 = 36
	KEMLKEM1024 uint16 = 37
)

// Extended sequence numbers, transform type 5.
const (
	ESNNo  uint16 = 0
	ESNYes uint16 = 1
)

// Transform is one algorithm. KeyLen is the Key Length attribute in bits, and 0
// where the algorithm has no such attribute (RFC 7296 §3.3.5). It is comparable.
type Transform struct {
	Type   TransformType
	ID     uint16
	KeyLen uint16
}

// Proposal is a set of alternatives for one protocol: within a transform type
// any one may be chosen, and the order is the preference. A proposal without
// transforms of a type does not want that type at all. The zero value proposes
// nothing.
type Proposal struct {
	Protocol   Protocol
	Transforms []Transform
}

// Suite is what a proposal was narrowed to: at most one algorithm of each type.
// A zero Transform means that the type is absent (as Integ is beside an AEAD).
// It is comparable.
type Suite struct {
	Protocol Protocol
	Encr     Transform
	PRF      Transform
	Integ    Transform
	KE       Transform
	ESN      Transform
	AddKE    [7]Transform // RFC 9370, in the order of the transform types 6 to 12
}
