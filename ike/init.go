package ike

import (
	"bytes"
	"encoding/binary"
	"slices"

	"martlet/crypto/kex"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// What both roles do for IKE_SA_INIT (RFC 7296 §1.2).

// initExtras is the payloads of IKE_SA_INIT behind SA, KE and Nonce that announce
// what we can do: all of it as an initiator, what the peer announced too as a responder.
func initExtras(spii, spir message.SPI, p Path, announce extension) []message.Payload {
	ps := natDetection(spii, spir, p)
	if announce&extFragmentation != 0 {
		ps = append(ps, notify(message.FragmentationSupported))
	}
	if announce&extSignatureHashes != 0 {
		ps = append(ps, notifyData(message.SignatureHashAlgorithms, signatureHashes()))
	}
	if announce&extIntermediate != 0 {
		ps = append(ps, notify(message.IntermediateExchangeSupported))
	}
	if announce&extPPK != 0 {
		ps = append(ps, notify(message.UsePPK))
	}
	return ps
}

// windowsVendor is what the vendor ID of Windows begins with ("MS NT5 ISAKMPOAKLEY",
// hashed); the version follows.
var windowsVendor = []byte("\x1e\x2b\x51\x69\x05\x99\x1c\x7d\x7c\x96\xfc\xbf\xb5\x87\xe4\x61")

// announces is what an initiator says in IKE_SA_INIT that it can do.
func (s *ikeSA) announces() extension {
	x := extSignatureHashes
	if s.conn.FragmentSize >= 0 {
		x |= extFragmentation
	}
	if s.knowsAddKE() {
		x |= extIntermediate
	}
	if s.hasPPK() {
		x |= extPPK
	}
	return x
}

// readExtensions notes what the peer's IKE_SA_INIT says that it supports.
func (s *ikeSA) readExtensions(ps []message.Payload) {
	for _, p := range ps {
		if v, ok := p.(*message.VendorID); ok && bytes.HasPrefix(v.Data, windowsVendor) {
			s.exts |= extWindows
		}
		n, ok := p.(*message.Notify)
		if !ok {
			continue
		}
		switch n.Notify {
		case message.FragmentationSupported:
			if s.conn.FragmentSize >= 0 {
				s.exts |= extFragmentation
			}
		case message.SignatureHashAlgorithms:
			s.exts |= extSignatureHashes
			s.peerHashes = parseHashes(n.Data)
		case message.RedirectSupported, message.RedirectedFrom:
			if from, ok := redirectable(ps); ok {
				s.exts |= extRedirect
				s.redirectedFrom = from
			}
		case message.IntermediateExchangeSupported:
			if s.knowsAddKE() {
				s.exts |= extIntermediate
			}
		case message.UsePPK:
			if s.hasPPK() {
				s.exts |= extPPK
			}
		case message.ChildlessIKEv2Supported:
			s.exts |= extChildless
		case message.SupportedAuthMethods:
			s.readMethods(n)
		case message.MultipleAuthSupported:
			s.exts |= extMultipleAuth
		}
	}
}

// keyed derives the keys of the SA from what IKE_SA_INIT agreed.
func (s *ikeSA) keyed(shared []byte) error {
	var err error
	if s.prf, err = suite.NewPRF(s.suite.PRF); err != nil {
		return err
	}
	s.moreKEs = s.suite.AddKEs()
	return s.setKeys(SKEYSEED(s.prf, s.ni, s.nr, shared))
}

// setKeys derives the keys from a seed and makes the ciphers.
func (s *ikeSA) setKeys(seed suite.Secret) error {
	k, err := DeriveIKE(s.suite, seed, s.ni, s.nr, s.spii, s.spir)
	if err != nil {
		return err
	}
	s.keys = k
	fromI, err := suite.NewCipher(s.suite.Encr, s.suite.Integ, k.Ei, k.Ai)
	if err != nil {
		return err
	}
	fromR, err := suite.NewCipher(s.suite.Encr, s.suite.Integ, k.Er, k.Ar)
	if err != nil {
		return err
	}
	s.seal, s.open = fromR, fromI
	if s.initiator {
		s.seal, s.open = fromI, fromR
	}
	s.iv = 0
	s.logKeys()
	return nil
}

// usableKEs is the key exchange methods of the proposals that we can do, in order of
// preference.
func usableKEs(proposals []suite.Proposal) []uint16 {
	var out []uint16
	for _, p := range proposals {
		for _, m := range p.KEs() {
			if kex.Supported(m) && !slices.Contains(out, m) {
				out = append(out, m)
			}
		}
	}
	return out
}

// wireProposals numbers proposals and gives each the SPI.
func wireProposals(proposals []suite.Proposal, spi []byte) *message.SA {
	sa := &message.SA{}
	for i, p := range proposals {
		sa.Proposals = append(sa.Proposals, message.Proposal{Num: uint8(i + 1), SPI: spi, Proposal: p})
	}
	return sa
}

// plainProposals is what Select compares. A proposal that must not be chosen becomes
// an empty one, so that the indices stay.
func plainProposals(sa *message.SA, usable func(message.Proposal) bool) []suite.Proposal {
	out := make([]suite.Proposal, len(sa.Proposals))
	for i, p := range sa.Proposals {
		if !p.Unknown && usable(p) {
			out[i] = p.Proposal
		}
	}
	return out
}

// chosen is the suite of a responder's answer, which must be one proposal that
// narrows one of ours.
func chosen(sa *message.SA, offered []suite.Proposal) (suite.Suite, []byte, bool) {
	if len(sa.Proposals) != 1 || sa.Proposals[0].Unknown {
		return suite.Suite{}, nil, false
	}
	p := sa.Proposals[0]
	got, err := p.Suite()
	if err != nil || !slices.ContainsFunc(offered, got.Narrows) {
		return suite.Suite{}, nil, false
	}
	return got, p.SPI, true
}

// groupOf reads the data of INVALID_KE_PAYLOAD.
func groupOf(n *message.Notify) (uint16, bool) {
	if len(n.Data) != 2 {
		return 0, false
	}
	return binary.BigEndian.Uint16(n.Data), true
}

// generate makes a key pair, elsewhere if that takes long.
func (s *ikeSA) generate(method uint16, then func(kex.Initiator, error)) {
	if !kex.Slow(method) {
		then(kex.Generate(method))
		return
	}
	s.work(func() (any, error) { return kex.Generate(method) }, func(v any, err error) {
		pair, ok := v.(kex.Initiator)
		if err == nil && !ok {
			err = errWrongReply
		}
		then(pair, err)
	})
}

// finish makes the shared secret of a key pair, elsewhere if that takes long.
func (s *ikeSA) finish(pair kex.Initiator, peer []byte, then func([]byte, error)) {
	if !kex.Slow(pair.Method()) {
		then(pair.Finish(peer))
		return
	}
	s.work(func() (any, error) { return pair.Finish(peer) }, func(v any, err error) {
		shared, ok := v.([]byte)
		if err == nil && !ok {
			err = errWrongReply
		}
		then(shared, err)
	})
}

// exchangeKeys is the responder's half of a key exchange.
func (s *ikeSA) exchangeKeys(method uint16, peer []byte, then func(public, shared []byte, err error)) {
	if !kex.Slow(method) {
		then(kex.Respond(method, peer))
		return
	}
	type halves struct{ public, shared []byte }
	s.work(func() (any, error) {
		public, shared, err := kex.Respond(method, peer)
		return halves{public, shared}, err
	}, func(v any, err error) {
		h, ok := v.(halves)
		if err == nil && !ok {
			err = errWrongReply
		}
		then(h.public, h.shared, err)
	})
}
