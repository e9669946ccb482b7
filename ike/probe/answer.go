package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// Kind is how a gateway answers.
type Kind uint8

const (
	Took       Kind = iota + 1 // it chose a suite, and keeps a half-open SA
	OtherGroup                 // INVALID_KE_PAYLOAD: the same with another group
	CookieAsked
	Redirected // to another gateway
	Refused    // an error, NO_PROPOSAL_CHOSEN as a rule
)

// Answer is what one answer says. Only Took has what follows Refusal.
type Answer struct {
	Kind    Kind
	Group   uint16 // that it chose, of Took and OtherGroup
	Cookie  []byte
	Gateway message.GatewayID // of Redirected
	Refusal message.NotifyType

	Suite      suite.Suite
	Extensions []message.NotifyType // statuses, but for those below
	Hashes     []pki.HashID         // that it verifies signatures with (RFC 7427 §4)
	Vendors    [][]byte
	Asks       int // for certificates, in so many CERTREQ payloads
	NAT        NAT
}

// NAT is what the two hashes of a gateway say (RFC 7296 §2.23).
type NAT struct {
	Told bool // both are there
	// Here and There are whether an address and port is another one as we, or it, knows. Each may
	// be wrong on purpose, to have ESP in UDP in any case: There more often than Here.
	Here, There bool
}

// Errors of what is no answer to a request.
var (
	// ErrForeign is of a message that has nothing to do with the request: another SPI, another
	// exchange, no response.
	ErrForeign = errors.New("probe: not an answer to the request")
	// ErrIKEv1 is of one that knows no version 2.
	ErrIKEv1 = errors.New("probe: the gateway speaks IKEv1 only")
)

// The most that is kept of what a gateway says.
const (
	maxVendors    = 32
	maxVendorLen  = 256
	maxExtensions = 32
	maxCookieLen  = 64 // RFC 7296 §2.6
)

// Read reads what came in answer to a request, which may be anything from anybody: the error is
// ErrForeign or ErrIKEv1, of package message, or says what is wrong with the answer.
func Read(r *Request, b []byte) (*Answer, error) {
	h, err := message.ParseHeader(b)
	if v, ok := errors.AsType[*message.VersionError](err); ok && h.SPIi == r.spii && v.Major == 1 {
		return nil, ErrIKEv1
	}
	if err != nil {
		return nil, err
	}
	if h.SPIi != r.spii || h.Exchange != message.IKESAInit || !h.IsResponse() || h.FromInitiator() || h.MessageID != 0 {
		return nil, ErrForeign
	}
	m, err := message.Parse(b)
	if err != nil {
		return nil, err
	}
	if err := message.CheckCritical(m.Payloads); err != nil {
		return nil, err
	}
	if a, err := readNotify(m, r); a != nil || err != nil {
		return a, err
	}
	return readChoice(m, r)
}

// readNotify reads an answer that is one notify.
func readNotify(m *message.Message, r *Request) (*Answer, error) {
	if n := m.Notify(message.Cookie); n != nil {
		if len(n.Data) == 0 || len(n.Data) > maxCookieLen {
			return nil, fmt.Errorf("probe: a cookie of %d octets, want 1 to %d", len(n.Data), maxCookieLen)
		}
		return &Answer{Kind: CookieAsked, Cookie: n.Data}, nil
	}
	if n := m.Notify(message.Redirect); n != nil {
		to, nonce, ok := message.ParseRedirect(n.Data)
		if !ok || !bytes.Equal(nonce, r.nonce) {
			return nil, errors.New("probe: a REDIRECT that is malformed or not for this request")
		}
		return &Answer{Kind: Redirected, Gateway: to}, nil
	}
	n := message.FindError(m.Payloads)
	switch {
	case n == nil:
		return nil, nil
	case n.Notify != message.InvalidKEPayload:
		return &Answer{Kind: Refused, Refusal: n.Notify}, nil
	case len(n.Data) != 2:
		return nil, fmt.Errorf("probe: INVALID_KE_PAYLOAD with %d octets, want 2", len(n.Data))
	}
	return &Answer{Kind: OtherGroup, Group: binary.BigEndian.Uint16(n.Data)}, nil
}

// readChoice reads an answer that opens an SA.
func readChoice(m *message.Message, r *Request) (*Answer, error) {
	sa, ok1 := message.Find[*message.SA](m.Payloads)
	ke, ok2 := message.Find[*message.KE](m.Payloads)
	_, ok3 := message.Find[*message.Nonce](m.Payloads)
	if !ok1 || !ok2 || !ok3 || m.SPIr == 0 {
		return nil, errors.New("probe: an answer without SA, KE, nonce or SPI")
	}
	if len(sa.Proposals) != 1 || sa.Proposals[0].Unknown {
		return nil, fmt.Errorf("probe: the gateway chose %d proposals, want 1 that we know", len(sa.Proposals))
	}
	chosen, err := sa.Proposals[0].Suite()
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(r.Offer, chosen.Narrows) || chosen.KE.ID != ke.Method {
		return nil, fmt.Errorf("probe: the gateway chose %v, which was not offered", chosen)
	}
	a := &Answer{Kind: Took, Group: ke.Method, Suite: chosen, NAT: detectNAT(m, r)}
	for _, p := range m.Payloads {
		switch p := p.(type) {
		case *message.VendorID:
			if len(a.Vendors) < maxVendors {
				a.Vendors = append(a.Vendors, p.Data[:min(len(p.Data), maxVendorLen)])
			}
		case *message.CertReq:
			a.Asks++
		case *message.Notify:
			a.extension(p)
		}
	}
	return a, nil
}

func (a *Answer) extension(n *message.Notify) {
	switch n.Notify {
	case message.NATDetectionSourceIP, message.NATDetectionDestinationIP:
	case message.SignatureHashAlgorithms:
		for b := n.Data; len(b) >= 2 && len(a.Hashes) < maxExtensions; b = b[2:] {
			a.Hashes = append(a.Hashes, pki.HashID(binary.BigEndian.Uint16(b)))
		}
	default:
		if len(a.Extensions) < maxExtensions && !slices.Contains(a.Extensions, n.Notify) {
			a.Extensions = append(a.Extensions, n.Notify)
		}
	}
}

// detectNAT compares what the gateway sees with what we see.
func detectNAT(m *message.Message, r *Request) NAT {
	here := message.NATDetection(r.spii, m.SPIr, r.Local)
	there := message.NATDetection(r.spii, m.SPIr, r.Remote)
	faked := message.FakedNATDetection(r.spii, m.SPIr, r.Remote)
	var source, destination bool
	n := NAT{Here: true, There: true}
	for _, p := range m.Payloads {
		p, ok := p.(*message.Notify)
		if !ok {
			continue
		}
		switch p.Notify {
		case message.NATDetectionSourceIP:
			source = true
			n.There = n.There && !bytes.Equal(p.Data, there) && !bytes.Equal(p.Data, faked)
		case message.NATDetectionDestinationIP:
			destination = true
			n.Here = n.Here && !bytes.Equal(p.Data, here)
		}
	}
	if !source || !destination {
		return NAT{}
	}
	n.Told = true
	return n
}
