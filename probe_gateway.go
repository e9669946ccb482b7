package martlet

import (
	"encoding/hex"
	"net/netip"

	"martlet/crypto/suite"
	"martlet/ike/message"
	"martlet/ike/probe"
)

// ProbeGateway is what a gateway takes and can do, as it tells everybody. Algorithms are in
// strongSwan's keywords.
type ProbeGateway struct {
	Remote    netip.AddrPort `json:"remote"`
	Transport string         `json:"transport"`
	// Own is what it chose of our own proposals; empty where it takes none.
	Own string `json:"own,omitempty"`
	// Chosen is what it chose of all that we know, where it takes none of our own.
	Chosen string `json:"chosen,omitempty"`
	// Groups are the key exchanges that it takes, in its order; Additional are those beside a first
	// one (RFC 9370). Hashes are for the PRF or for integrity.
	Groups     []string `json:"groups"`
	Ciphers    []string `json:"ciphers"`
	Hashes     []string `json:"hashes"`
	Additional []string `json:"additional_key_exchanges"`
	// Weak is a line for each of them that should not be used any more.
	Weak []string `json:"weak"`
	// Cookie is whether it wanted a cookie (RFC 7296 §2.6): it is under load, or careful.
	Cookie bool `json:"cookie_asked"`
	// Redirect is the gateway to which it sends who connects (RFC 5685).
	Redirect string `json:"redirect,omitempty"`
	// Described is whether it opened an SA; only then what follows is known.
	Described       bool          `json:"described"`
	Extensions      []string      `json:"extensions,omitempty"` // by IANA's names of the notifies
	SignatureHashes []string      `json:"signature_hashes,omitempty"`
	AsksCertificate bool          `json:"asks_certificate"` // by a CERTREQ
	VendorIDs       []ProbeVendor `json:"vendor_ids,omitempty"`
	NAT             *ProbeNAT     `json:"nat,omitempty"` // nil where it has no NAT traversal
	// Refusals are errors that it answered with, but for NO_PROPOSAL_CHOSEN.
	Refusals []string `json:"refusals,omitempty"`
	// Open are the questions that it did not answer, or that were not put.
	Open []string `json:"open,omitempty"`
}

// ProbeVendor is a vendor ID.
type ProbeVendor struct {
	Hex  string `json:"hex"` // 256 octets of it at most
	Name string `json:"name"`
}

// ProbeNAT is whether an address or port is changed on the way, on our side or on that of the gateway.
// A gateway may say so to have ESP in UDP in any case.
type ProbeNAT struct {
	Here  bool `json:"here"`
	There bool `json:"there"`
}

func newProbeGateway(way ProbeWay, s *probe.Survey) *ProbeGateway {
	g := &ProbeGateway{
		Remote: way.Remote, Transport: way.Transport,
		Groups: keywords(s.Groups), Ciphers: keywords(s.Ciphers), Hashes: keywords(s.Hashes), Additional: keywords(s.Additional),
		Weak: append([]string{}, s.Weak()...), Cookie: way.Cookie, Open: s.Open,
	}
	if s.Gateway != (message.GatewayID{}) {
		g.Redirect = s.Gateway.String()
	}
	for _, n := range s.Refusals {
		g.Refusals = append(g.Refusals, n.String())
	}
	if s.Own != nil {
		g.Own = s.Own.String()
	}
	a := s.Described
	if a == nil {
		return g
	}
	g.Described = true
	if s.Own == nil {
		g.Chosen = a.Suite.String()
	}
	for _, n := range a.Extensions {
		g.Extensions = append(g.Extensions, n.String())
	}
	for _, h := range a.Hashes {
		g.SignatureHashes = append(g.SignatureHashes, h.String())
	}
	for _, v := range a.Vendors {
		g.VendorIDs = append(g.VendorIDs, ProbeVendor{hex.EncodeToString(v), probe.VendorName(v)})
	}
	g.AsksCertificate = a.Asks > 0
	if a.NAT.Told {
		g.NAT = &ProbeNAT{Here: a.NAT.Here, There: a.NAT.There}
	}
	return g
}

func keywords(of []suite.Transform) []string {
	out := []string{}
	for _, t := range of {
		out = append(out, t.String())
	}
	return out
}

// String tells of the NAT in words.
func (n *ProbeNAT) String() string {
	switch {
	case n == nil:
		return "it has no NAT traversal, without which there is no tunnel: all our ESP is in UDP"
	case n.Here && n.There:
		return "both sides are behind one, or the gateway says so"
	case n.Here:
		return "this host is behind one"
	case n.There:
		return "the gateway is behind one, or says so to have ESP in UDP"
	}
	return "none between"
}
