package personas

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha1" // method 1 of RFC 7296 §3.8
	"crypto/sha256"
	"crypto/x509"
	"net/netip"
	"slices"
	"time"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike"
	"martlet/ike/eap"
	"martlet/ike/message"
)

// sha256WithRSA is the AlgorithmIdentifier before a signature (RFC 7427 §A.1).
var sha256WithRSA = []byte("\x0f\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00")

func idPayload(id pki.Identity, responder bool) *message.ID {
	return &message.ID{Responder: responder, Kind: uint8(id.Type), Data: []byte(id.Data)}
}

// authParts are the payloads that its first IKE_AUTH may have, but AUTH.
func (p *peer) authParts(spi []byte) map[string][]message.Payload {
	parts := map[string][]message.Payload{
		"IDi": {idPayload(p.id, false)}, "IDr": nil, "CERT": nil, "CERTREQ": nil, "AUTH": nil, "CP": nil, "EAP_ONLY": nil,
		"SA":              {&message.SA{Proposals: p.firstESP(spi)}},
		"TSi":             {&message.TS{Selectors: p.tsi}},
		"TSr":             {&message.TS{Responder: true, Selectors: p.tsr}},
		"MOBIKE":          notify(message.MOBIKESupported),
		"INITIAL_CONTACT": notify(message.InitialContact),
		"NO_TFC":          notify(message.ESPTFCPaddingNotSupported),
		"NON_FIRST":       notify(message.NonFirstFragmentsAlso),
		"MULTIPLE_AUTH":   notify(message.MultipleAuthSupported),
		"ANOTHER_AUTH":    nil,
	}
	if !p.serverID.IsZero() {
		parts["IDr"] = []message.Payload{idPayload(p.serverID, true)}
	}
	if p.certReqs > 0 {
		// CAs of the whole world, and in the middle of them that of our gateway.
		cas := random(20 * p.certReqs)
		hash := pki.KeyHash(p.w.root.Cert)
		copy(cas[20*(p.certReqs/2):], hash[:])
		parts["CERTREQ"] = []message.Payload{&message.CertReq{Encoding: message.CertX509Signature, Data: cas}}
	}
	if len(p.cp) > 0 {
		cp := &message.Config{Kind: message.ConfigRequest}
		for _, t := range p.cp {
			cp.Attributes = append(cp.Attributes, message.Attribute{Type: t})
		}
		parts["CP"] = []message.Payload{cp}
	}
	if p.user != "" {
		parts["EAP_ONLY"] = notify(message.EAPOnlyAuthentication)
	}
	return parts
}

// firstESP are the proposals of the child in IKE_AUTH, which has no key exchange of its own.
func (p *peer) firstESP(spi []byte) []message.Proposal {
	return withoutKE(offer(suite.ProtocolESP, spi, p.esp...))
}

// octets is what AUTH of one side covers (RFC 7296 §2.15).
func (p *peer) octets(own bool, id *message.ID) []byte {
	s := p.sa
	if own == s.initiator {
		return ike.SignedOctets(s.prf, s.realI, s.nr, s.keys.Pi, id.Body(), s.extra)
	}
	return ike.SignedOctets(s.prf, s.realR, s.ni, s.keys.Pr, id.Body(), s.extra)
}

// prove is AUTH by certificate or pre-shared key, with CERT where there is one.
func (p *peer) prove(id *message.ID) (cert, auth []message.Payload) {
	p.w.Helper()
	octets := p.octets(true, id)
	if p.cred == nil {
		return nil, []message.Payload{&message.Auth{Method: message.AuthPSK, Data: ike.PSKAuth(p.sa.prf, suite.Secret(p.psk), octets)}}
	}
	for _, x := range append([]*x509.Certificate{p.cred.Cert}, p.cred.Chain...) {
		cert = append(cert, &message.Cert{Encoding: message.CertX509Signature, Data: x.Raw})
	}
	out := &message.Auth{Method: message.AuthRSA}
	hash, digest := crypto.SHA1, sha1.Sum(octets)
	sum := digest[:]
	if p.rfc7427 {
		out.Method, out.Data = message.AuthSignature, slices.Clone(sha256WithRSA)
		long := sha256.Sum256(octets)
		hash, sum = crypto.SHA256, long[:]
	}
	signature, err := p.cred.Key.Sign(nil, sum, hash)
	if err != nil {
		p.w.Fatal(err)
	}
	out.Data = append(out.Data, signature...)
	return cert, []message.Payload{out}
}

// verify checks who the gateway is: as an emulated device does it, with the root alone in its
// store.
func (p *peer) verify(ps []message.Payload) {
	p.w.Helper()
	id := message.FindID(ps, true)
	auth, ok := message.Find[*message.Auth](ps)
	if n := message.FindError(ps); n != nil || id == nil || !ok {
		p.fails("the gateway does not prove itself: %v", n)
	}
	if !p.serverID.IsZero() && (pki.IDType(id.Kind) != p.serverID.Type || string(id.Data) != p.serverID.Data) {
		p.fails("the gateway says that it is %q", id.Data)
	}
	octets := p.octets(false, id)
	if p.psk != "" {
		if auth.Method != message.AuthPSK || !bytes.Equal(auth.Data, ike.PSKAuth(p.sa.prf, suite.Secret(p.psk), octets)) {
			p.fails("AUTH of the gateway is wrong")
		}
		return
	}
	p.server = p.chain(ps)
	key, ok := p.server.PublicKey.(*rsa.PublicKey)
	if !ok {
		p.fails("the gateway's certificate is not RSA")
	}
	var err error
	if p.rfc7427 {
		signature, ok := bytes.CutPrefix(auth.Data, sha256WithRSA)
		sum := sha256.Sum256(octets)
		if err = rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature); !ok || auth.Method != message.AuthSignature {
			p.fails("AUTH by %v is none that was announced", auth.Method)
		}
	} else {
		sum := sha1.Sum(octets)
		if err = rsa.VerifyPKCS1v15(key, crypto.SHA1, sum[:], auth.Data); auth.Method != message.AuthRSA {
			p.fails("AUTH by %v", auth.Method)
		}
	}
	if err != nil {
		p.fails("AUTH of the gateway: %v", err)
	}
}

// chain verifies the certificates that the gateway sent.
func (p *peer) chain(ps []message.Payload) *x509.Certificate {
	p.w.Helper()
	var leaf *x509.Certificate
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(p.w.root.Cert)
	for _, x := range ps {
		if c, ok := x.(*message.Cert); ok {
			cert, err := x509.ParseCertificate(c.Data)
			if err != nil || c.Encoding != message.CertX509Signature {
				p.fails("CERT with encoding %v: %v", c.Encoding, err)
			}
			if leaf == nil {
				leaf = cert
			} else {
				between.AddCert(cert)
			}
		}
	}
	if leaf == nil {
		p.fails("the gateway sends no certificate")
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		DNSName: gatewayName, Roots: roots, Intermediates: between, CurrentTime: time.Now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}); err != nil {
		p.fails("the certificate of the gateway: %v", err)
	}
	return leaf
}

// login makes IKE_AUTH. What it returns is the refusal, of the login or of the child alone,
// or nil.
func (p *peer) login() *message.Notify {
	p.w.Helper()
	spi := random(4)
	id := idPayload(p.id, false)
	parts := p.authParts(spi)
	proves := p.cred != nil || p.psk != ""
	if proves {
		parts["CERT"], parts["AUTH"] = p.prove(id)
	}
	if proves && p.user != "" { // RFC 4739: the device, and then its user
		parts["ANOTHER_AUTH"] = notify(message.AnotherAuthFollows)
	}
	ps := p.ask(p.sa, message.IKEAuth, p.lay(p.auth, parts)...)
	if n := message.FindError(ps); n != nil && message.FindID(ps, true) == nil {
		p.forget(p.sa)
		return n
	}
	p.verify(ps)
	if proves && p.user != "" {
		if _, ok := message.Find[*message.SA](ps); ok {
			p.fails("the gateway opens the child before the second proof")
		}
		ps = p.ask(p.sa, message.IKEAuth, id)
	}
	if p.user != "" {
		var n *message.Notify
		if ps, n = p.eap(id, ps); n != nil {
			p.forget(p.sa)
			return n
		}
	}
	return p.takeLease(spi, ps)
}

// eap logs in by MSCHAPv2, and by nothing else: asked for another method, it says so.
func (p *peer) eap(id *message.ID, ps []message.Payload) ([]message.Payload, *message.Notify) {
	p.w.Helper()
	typed := suite.Secret(password)
	if p.mistypes {
		typed = suite.Secret("sesame open")
	}
	own := eap.NewPeer(eap.PeerConfig{Username: p.user, Password: typed, Methods: []eap.Type{eap.TypeMSCHAPv2}})
	defer own.Stop()
	for {
		if n := message.FindError(ps); n != nil {
			return nil, n
		}
		x, ok := message.Find[*message.EAP](ps)
		if !ok {
			p.fails("IKE_AUTH without EAP")
		}
		step := own.Handle(x.Data)
		for step.Work != nil {
			step.Work()
			step = own.Resume()
		}
		if step.Done {
			if step.Err != nil && !p.mistypes {
				p.fails("EAP: %v", step.Err)
			}
			if step.Err != nil { // it shows that, where no other error stands beside EAP-Failure
				if len(ps) != 1 {
					p.fails("EAP-Failure comes with %v", ps)
				}
				p.live(10 * time.Second)
				return nil, &message.Notify{Notify: message.AuthenticationFailed}
			}
			break
		}
		ps = p.ask(p.sa, message.IKEAuth, &message.EAP{Data: step.Send})
	}
	mine := ike.PSKAuth(p.sa.prf, own.MSK(), p.octets(true, id))
	ps = p.ask(p.sa, message.IKEAuth, &message.Auth{Method: message.AuthPSK, Data: mine})
	if n := message.FindError(ps); n != nil && len(ps) == 1 {
		return nil, n
	}
	theirs, ok := message.Find[*message.Auth](ps)
	if !ok || !bytes.Equal(theirs.Data, ike.PSKAuth(p.sa.prf, own.MSK(), p.octets(false, p.gatewayID()))) {
		p.fails("the gateway does not prove that it knows the key of EAP")
	}
	return ps, nil
}

// gatewayID is the IDr payload of the gateway.
func (p *peer) gatewayID() *message.ID {
	return idPayload(pki.Identity{Type: pki.IDFQDN, Data: gatewayName}, true)
}

// takeLease takes the address and the child of the last answer.
func (p *peer) takeLease(spi []byte, ps []message.Payload) *message.Notify {
	p.w.Helper()
	p.lease, p.dns, p.domain = nil, nil, nil
	if cp, ok := message.Find[*message.Config](ps); ok {
		for _, a := range cp.Attributes {
			if !slices.Contains(p.cp, a.Type) {
				p.fails("the gateway tells %v, which it was not asked for", a.Type)
			}
			switch a.Type {
			case message.InternalIP4Address, message.InternalIP6Address:
				x, err := a.Prefix()
				if err != nil {
					p.w.Fatal(err)
				}
				p.lease = append(p.lease, x)
			case message.InternalIP4DNS, message.InternalIP6DNS:
				x, err := a.Addr()
				if err != nil {
					p.w.Fatal(err)
				}
				p.dns = append(p.dns, x)
			case message.InternalDNSDomain:
				p.domain = append(p.domain, string(a.Value))
			}
		}
	}
	if n := message.FindError(ps); n != nil {
		return n
	}
	if len(p.cp) > 0 && len(p.lease) == 0 {
		p.fails("there is no address")
	}
	p.adopt(p.opened(p.firstESP(spi), ps, p.sa.ni, p.sa.nr, nil, nil))
	return nil
}

// connect is the whole of it, which must go well.
func (p *peer) connect() {
	p.w.Helper()
	if n := p.initiate(); n != nil {
		p.fails("IKE_SA_INIT is refused: %v", n.Notify)
	}
	if n := p.login(); n != nil {
		p.fails("IKE_AUTH is refused: %v", n.Notify)
	}
}

// authAnswer answers IKE_AUTH of our gateway: both have the key.
func (p *peer) authAnswer(s *sa, ps []message.Payload) []message.Payload {
	p.w.Helper()
	idi := message.FindID(ps, false)
	auth, ok := message.Find[*message.Auth](ps)
	if idi == nil || !ok {
		p.fails("IKE_AUTH without IDi or AUTH")
	}
	if string(idi.Data) != string(gatewayAddr.AsSlice()) || auth.Method != message.AuthPSK || !bytes.Equal(auth.Data, ike.PSKAuth(s.prf, suite.Secret(p.psk), p.octets(false, idi))) {
		return notify(message.AuthenticationFailed)
	}
	id := idPayload(p.id, true)
	_, proof := p.prove(id)
	answer := append([]message.Payload{id}, proof...)
	return append(answer, p.openChild(ps, s.ni, s.nr, nil)...)
}

// address is its IPv4 address in the tunnel, or that of a host behind it.
func (p *peer) address() netip.Addr {
	p.w.Helper()
	if p.inside.IsValid() {
		return p.inside
	}
	if len(p.lease) == 0 {
		p.fails("there is no address")
	}
	return p.lease[0].Addr()
}
