// Package probe asks a gateway what it takes and what it can do, by IKE_SA_INIT alone: nobody
// proves who he is, and the gateway tells nothing that it does not tell everybody.
//
// A gateway that takes a request keeps a half-open SA for it, of which it has room for few from one
// address. So almost all questions are put so that it keeps nothing: their key exchange is of
// a group that no gateway takes, MODP-768, offered behind those that are asked about. What it takes
// besides is told by INVALID_KE_PAYLOAD, which names the group that it chose, and what it does not
// take by NO_PROPOSAL_CHOSEN (RFC 7296 §1.2, §2.7).
//
// Like the engine of package ike this one does no I/O. Nothing of an answer is protected:
// whoever is on the way can have written it.
package probe

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"martlet/crypto/kex"
	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// Question is what is to be found out by one exchange.
type Question struct {
	// Offer are the proposals.
	Offer []suite.Proposal
	// Group is the key exchange of the request; Decoy leaves nothing at the gateway.
	Group uint16
	// Redirect tells the gateway that it may name another one (RFC 5685 §3).
	Redirect bool
	// Size is what the message is filled up to, in octets; less than it has anyway is ignored.
	Size int
}

// Decoy is the group that nobody takes.
const Decoy = suite.KEMODP768

const (
	decoyLen = 96 // octets of a value of 768 bits
	nonceLen = 32
)

// Request is an IKE_SA_INIT request: a question with what makes it one of a kind.
type Request struct {
	Question
	// Local and Remote are the two ends, for NAT detection.
	Local, Remote netip.AddrPort
	// Cookie is what the gateway wants to see again (RFC 7296 §2.6); nil before it does.
	Cookie []byte

	cookies int // that it was given
	spii    message.SPI
	nonce   []byte
	ke      message.KE
}

// NewRequest makes a request of its own SPI, nonce and key exchange. The error is about a group
// that is not implemented.
func NewRequest(q Question, local, remote netip.AddrPort) (*Request, error) {
	r := &Request{Question: q, Local: local, Remote: remote, nonce: make([]byte, nonceLen), ke: message.KE{Method: q.Group}}
	rand.Read(r.nonce)
	var spi [8]byte
	for r.spii == 0 {
		rand.Read(spi[:])
		r.spii = message.SPI(binary.BigEndian.Uint64(spi[:]))
	}
	if q.Group == Decoy {
		// Any number below the prime looks like a public value, and nobody computes with this one.
		r.ke.Data = make([]byte, decoyLen)
		rand.Read(r.ke.Data[1:])
		return r, nil
	}
	pair, err := kex.Generate(q.Group)
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	r.ke.Data = pair.Public()
	return r, nil
}

// Append appends the message, without the non-ESP marker. It is the same each time, but for
// Cookie.
func (r *Request) Append(b []byte) []byte {
	var ps []message.Payload
	if r.Cookie != nil {
		ps = append(ps, &message.Notify{Notify: message.Cookie, Data: r.Cookie})
	}
	sa := &message.SA{}
	for i, p := range r.Offer {
		sa.Proposals = append(sa.Proposals, message.Proposal{Num: uint8(i + 1), Proposal: p})
	}
	var hashes []byte
	for _, h := range pki.Hashes() {
		hashes = binary.BigEndian.AppendUint16(hashes, uint16(h))
	}
	ps = append(ps, sa, &r.ke, &message.Nonce{Data: r.nonce},
		&message.Notify{Notify: message.NATDetectionSourceIP, Data: message.NATDetection(r.spii, 0, r.Local)},
		&message.Notify{Notify: message.NATDetectionDestinationIP, Data: message.NATDetection(r.spii, 0, r.Remote)},
		// What a gateway can do it says to those only that can do it too.
		&message.Notify{Notify: message.FragmentationSupported},
		&message.Notify{Notify: message.SignatureHashAlgorithms, Data: hashes},
		&message.Notify{Notify: message.IntermediateExchangeSupported},
		&message.Notify{Notify: message.UsePPK},
	)
	if r.Redirect {
		ps = append(ps, &message.Notify{Notify: message.RedirectSupported})
	}
	m := message.Message{
		Header:   message.Header{SPIi: r.spii, Exchange: message.IKESAInit, Flags: message.FlagInitiator},
		Payloads: ps,
	}
	start := len(b)
	b = m.Append(b)
	const paddingHeader = 8 // of a Notify payload (RFC 7296 §3.10)
	if missing := r.Size - (len(b) - start) - paddingHeader; missing >= 0 {
		m.Payloads = append(m.Payloads, &message.Notify{Notify: message.Padding, Data: make([]byte, missing)})
		b = m.Append(b[:start])
	}
	return b
}

// ErrCookies is of a gateway that is content with none of its own cookies.
var ErrCookies = errors.New("probe: the gateway asks for another cookie each time")

// maxCookies is how often a request is repeated with another cookie: one can have grown old on the
// way.
const maxCookies = 3

// Repeat takes the cookie of an answer, for the same request once more, and counts. The error is
// ErrCookies.
func (r *Request) Repeat(a *Answer) error {
	if r.cookies == maxCookies {
		return fmt.Errorf("%w: %d times", ErrCookies, maxCookies)
	}
	r.cookies++
	r.Cookie = a.Cookie
	return nil
}
