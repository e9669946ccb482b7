// Package pki is what IKEv2 wants of certificates and identities: it parses
// identities in strongSwan's grammar and matches them to certificates, issues,
// loads and verifies certificates, and makes and checks the signatures of the AUTH
// payload (RFC 7296 §2.15, RFC 7427).
//
// It is pure: the caller brings the time, the files' contents and the revocation
// lists.
//
// An Authority issues, a Verifier judges: Chain gives the way to a trusted CA, and
// MatchCert tells whether a certificate proves an Identity. What is wrong is a
// *CertError, with a code, what was expected, and what to do. Certificates are
// hostile until their chain has reached a trusted CA: how many there are, how
// deep they go and how large their keys are is bounded before a signature is
// computed.
package pki

import "net/netip"

// IDType is the type of an identity (RFC 7296 §3.5).
type IDType uint8

const (
	IDIPv4Addr   IDType = 1
	IDFQDN       IDType = 2
	IDRFC822Addr IDType = 3
	IDIPv6Addr   IDType = 5
	IDDERASN1DN  IDType = 9
	IDDERASN1GN  IDType = 10
	IDKeyID      IDType = 11
	IDNull       IDType = 13 // RFC 7619
)

// The types of IKEv1 (RFC 2407 §4.6.2.1) that matchers use, as strongSwan's do. They
// are never sent, and an identity of such a type from the wire matches nothing
// but itself.
const (
	idIPv4Subnet IDType = 4 // address, mask
	idIPv6Subnet IDType = 6
	idIPv4Range  IDType = 7 // first, last
	idIPv6Range  IDType = 8
)

// Identity is what a peer says it is: the body of an IDi or IDr payload without
// its reserved octets. The zero value is "none" (as a matcher: anybody). It is
// comparable, and so can be a map's key; Data holds raw octets, not text.
//
// Every pair of a type and octets is a valid Identity: what comes from the wire
// is kept as it came and simply matches nothing when it makes no sense.
type Identity struct {
	Type IDType
	Data string
}

// DN is the identity of a distinguished name in DER, such as the RawSubject of a
// certificate. The octets are copied.
func DN(raw []byte) Identity {
	return Identity{Type: IDDERASN1DN, Data: string(raw)}
}

// Addr is the identity of an address. An invalid address gives the zero
// Identity; a zone is dropped.
func Addr(a netip.Addr) Identity {
	switch {
	case a.Is4():
		return Identity{Type: IDIPv4Addr, Data: string(a.AsSlice())}
	case a.Is6():
		return Identity{Type: IDIPv6Addr, Data: string(a.AsSlice())}
	}
	return Identity{}
}

// IsZero tells whether id is "none", as a matcher "anybody".
func (id Identity) IsZero() bool { return id == Identity{} }

// addr is the address of an identity of one of the two address types.
func (id Identity) addr() (netip.Addr, bool) {
	switch {
	case id.Type == IDIPv4Addr && len(id.Data) == 4,
		id.Type == IDIPv6Addr && len(id.Data) == 16:
		return netip.AddrFromSlice([]byte(id.Data))
	}
	return netip.Addr{}, false
}
