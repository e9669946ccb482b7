package golden_test

import (
	"bytes"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike"
	"martlet/ike/message"
	"martlet/test/golden"
)

// psk is the pre-shared key of the recorded conversations, in base64.
const psk = "R29sZGVuUFNLLTAxMjM0NTY3ODktYWJjZGVm"

// ppk is the post-quantum pre-shared key of the conversation that has one, ppkID its name.
const (
	ppk   = "UFBLLXNlY3JldC0wMTIzNDU2Nzg5LWFiY2RlZi0wMTI="
	ppkID = "\x02ppk1@golden"
)

// conversation is what we know of a recorded conversation so far.
type conversation struct {
	t   *testing.T
	log *valueLog
	psk []byte

	initRequests map[message.SPI]*initMessage // by SPIi
	sas          map[saKey]*ikeSA
	children     map[uint32]*child // by SPI
	endpoints    map[netip.AddrPort]bool
	natHashes    map[string]bool // as they were sent

	auths, opened, espPackets int
}

type saKey struct{ spii, spir message.SPI }

// initMessage is an IKE_SA_INIT request or response.
type initMessage struct {
	raw   []byte
	nonce []byte
}

type ikeSA struct {
	key    saKey
	suite  suite.Suite
	prf    suite.PRF
	keys   ike.IKEKeys
	ni, nr []byte
	// The two messages of IKE_SA_INIT; nil in an SA that replaced another.
	request, response *initMessage
	ciphers           map[bool]suite.Cipher // by whether the original initiator sends
	reassembly        map[bool]*message.Reassembly
	// By the same: what the side sent in IKE_AUTH.
	id   map[bool]*message.ID
	cert map[bool]*x509.Certificate
	// The SA payload of IKE_AUTH's first request: with EAP the answer comes later.
	childOffer *message.SA
	requests   map[requestKey][]message.Payload
	eap        bool
	// Of IKE_INTERMEDIATE: the request without encryption, IntAuth_i and IntAuth_r so
	// far, and all of it.
	plain              []byte
	intAuthI, intAuthR []byte
	intAuth            ike.IntAuth
	earlier            []ike.IKEKeys // before it
	ppk                bool          // used
	// By who began it: CREATE_CHILD_SA whose additional key exchanges are still to come.
	unfinished map[bool]*exchange
}

// exchange is the payloads of a CREATE_CHILD_SA.
type exchange struct{ request, response []message.Payload }

type requestKey struct {
	initiator bool
	id        uint32
}

// child is one direction of a child SA.
type child struct {
	suite    suite.Suite
	keys     ike.ChildKeys
	cipher   suite.Cipher
	sequence uint32 // of the last packet
}

func newConversation(t *testing.T, transcript *golden.Transcript) *conversation {
	key, err := base64.StdEncoding.DecodeString(psk)
	if err != nil {
		t.Fatal(err)
	}
	return &conversation{
		t: t, log: newValueLog(t, transcript), psk: key,
		initRequests: map[message.SPI]*initMessage{},
		sas:          map[saKey]*ikeSA{},
		children:     map[uint32]*child{},
		endpoints:    map[netip.AddrPort]bool{},
		natHashes:    map[string]bool{},
	}
}

// ike takes the next IKE message of the capture.
func (c *conversation) ike(p golden.Packet, raw []byte) {
	m, err := message.Parse(raw)
	if err != nil {
		c.t.Fatal(err)
	}
	if again := m.Append(nil); !bytes.Equal(again, raw) {
		c.t.Errorf("%v %d is appended otherwise:\n%x\n%x", m.Exchange, m.MessageID, raw, again)
	}
	c.endpoints[p.Src], c.endpoints[p.Dst] = true, true
	if m.Exchange == message.IKESAInit {
		c.init(m, raw)
		return
	}
	sa := c.sas[saKey{m.SPIi, m.SPIr}]
	if sa == nil {
		c.t.Fatalf("%v %d of an SA whose beginning was not recorded", m.Exchange, m.MessageID)
	}
	dir := m.FromInitiator()
	_, e, text, err := message.Open(bytes.Clone(raw), sa.ciphers[dir])
	if err != nil {
		c.t.Fatalf("%v %d: %v", m.Exchange, m.MessageID, err)
	}
	c.opened++
	first := e.First
	if e.Fragment != 0 {
		var done bool
		if first, text, done = sa.reassembly[dir].Add(m.MessageID, e, text); !done {
			return
		}
	}
	ps, err := message.ParsePayloads(first, text)
	if err != nil {
		c.t.Fatalf("%v %d: %v", m.Exchange, m.MessageID, err)
	}
	if again := message.AppendPayloads(nil, ps); !bytes.Equal(again, text) {
		c.t.Errorf("inside of %v %d is appended otherwise:\n%x\n%x", m.Exchange, m.MessageID, text, again)
	}
	c.noteNAT(ps)
	request := ps
	if m.IsResponse() {
		request = sa.requests[requestKey{!dir, m.MessageID}]
	} else {
		sa.requests[requestKey{dir, m.MessageID}] = ps
	}
	switch m.Exchange {
	case message.IKEIntermediate:
		c.intermediate(sa, m.IsResponse(), message.Plain(m.Header, first, text))
	case message.IKEAuth:
		c.ikeAuth(sa, dir, ps)
	case message.CreateChildSA:
		if m.IsResponse() {
			sa.unfinished[!dir] = &exchange{request, ps}
			c.followUp(sa, !dir, ps)
		}
	case message.IKEFollowupKE:
		if m.IsResponse() {
			c.followUp(sa, !dir, ps)
		}
	}
}

// init takes a message of IKE_SA_INIT.
func (c *conversation) init(m *message.Message, raw []byte) {
	c.noteNAT(m.Payloads)
	this := &initMessage{raw: raw}
	if n, ok := message.Find[*message.Nonce](m.Payloads); ok {
		this.nonce = n.Data
	}
	if !m.IsResponse() {
		c.initRequests[m.SPIi] = this
		return
	}
	offer, ok := message.Find[*message.SA](m.Payloads)
	if !ok {
		return
	}
	request := c.initRequests[m.SPIi]
	s := c.suite(offer)
	prf := c.prf(s)
	ni, nr := request.nonce, this.nonce
	shared := c.log.before(labelKESecret, labelNonces, join(ni, nr))
	seed := ike.SKEYSEED(prf, ni, nr, shared)
	sa := c.newSA(s, prf, seed, shared, nil, ni, nr, saKey{m.SPIi, m.SPIr})
	sa.request, sa.response = request, this
}

// intermediate takes a message of IKE_INTERMEDIATE, and with the response the secret of
// its key exchange: the one that gives a seed that was logged.
func (c *conversation) intermediate(sa *ikeSA, response bool, plain []byte) {
	authed, skP := &sa.intAuthI, sa.keys.Pi
	if response {
		authed, skP = &sa.intAuthR, sa.keys.Pr
	}
	c.log.verify(labelIntAuthed, *authed)
	c.log.verify(labelIntAuthAP, plain)
	c.log.verify(labelSKp, skP)
	*authed = sa.prf.Sum(skP, *authed, plain)
	c.log.verify(labelIntAuth, *authed)
	if !response {
		sa.plain = plain
		return
	}
	sa.intAuth.Add(sa.prf, sa.keys.Pi, sa.keys.Pr, sa.plain, plain)
	for _, e := range c.log.entries {
		if e.label != labelKESecret {
			continue
		}
		seed := ike.RekeyedSKEYSEED(sa.prf, sa.keys.D, sa.ni, sa.nr, e.value)
		if c.log.has(labelSKEYSEED, seed) {
			sa.earlier = append(sa.earlier, sa.keys)
			sa.keys = c.deriveIKE(sa.suite, seed, e.value, nil, sa.ni, sa.nr, sa.key)
			sa.ciphers = c.ciphers(sa.suite, sa.keys)
			return
		}
	}
	c.t.Fatal("no secret of IKE_INTERMEDIATE gives a seed that was logged")
}

// newSA derives the keys of an IKE SA.
func (c *conversation) newSA(s suite.Suite, prf suite.PRF, seed suite.Secret, shared, more, ni, nr []byte, key saKey) *ikeSA {
	keys := c.deriveIKE(s, seed, shared, more, ni, nr, key)
	sa := &ikeSA{
		key: key, suite: s, prf: prf, keys: keys, ni: ni, nr: nr,
		ciphers:    c.ciphers(s, keys),
		reassembly: map[bool]*message.Reassembly{true: {}, false: {}},
		id:         map[bool]*message.ID{},
		cert:       map[bool]*x509.Certificate{},
		requests:   map[requestKey][]message.Payload{},
		unfinished: map[bool]*exchange{},
	}
	c.sas[key] = sa
	return sa
}

// ciphers are those of both directions, by whether the original initiator sends.
func (c *conversation) ciphers(s suite.Suite, keys ike.IKEKeys) map[bool]suite.Cipher {
	return map[bool]suite.Cipher{true: c.cipher(s, keys.Ei, keys.Ai), false: c.cipher(s, keys.Er, keys.Ar)}
}

// deriveIKE derives the keys of an IKE SA and compares them with the log.
func (c *conversation) deriveIKE(s suite.Suite, seed suite.Secret, shared, more, ni, nr []byte, key saKey) ike.IKEKeys {
	keys, err := ike.DeriveIKE(s, seed, ni, nr, key.spii, key.spir)
	if err != nil {
		c.t.Fatal(err)
	}
	c.log.verify(labelKESecret, shared)
	c.log.verify(labelAddKE, more)
	c.log.verify(labelNonces, join(ni, nr))
	c.log.verify(labelSKEYSEED, seed)
	c.log.verify("Sk_d secret", keys.D)
	c.log.verify("Sk_ei secret", keys.Ei)
	c.log.verify("Sk_er secret", keys.Er)
	c.log.verify("Sk_pi secret", keys.Pi)
	c.log.verify("Sk_pr secret", keys.Pr)
	if len(keys.Ai) > 0 {
		c.log.verify("Sk_ai secret", keys.Ai)
		c.log.verify("Sk_ar secret", keys.Ar)
	}
	return keys
}

// ikeAuth takes what one side sent in IKE_AUTH.
func (c *conversation) ikeAuth(sa *ikeSA, dir bool, ps []message.Payload) {
	if id := message.FindID(ps, !dir); id != nil {
		sa.id[dir] = id
	}
	if cert, ok := message.Find[*message.Cert](ps); ok {
		x, err := x509.ParseCertificate(cert.Data)
		if err != nil {
			c.t.Fatal(err)
		}
		sa.cert[dir] = x
	}
	if _, ok := message.Find[*message.EAP](ps); ok {
		sa.eap = true
	}
	if n := message.FindNotify(ps, message.PPKIdentity); n != nil {
		c.mixPPK(sa, dir, string(n.Data))
	}
	if auth, ok := message.Find[*message.Auth](ps); ok {
		c.auth(sa, dir, auth)
	}
	if offer, ok := message.Find[*message.SA](ps); ok {
		if dir {
			sa.childOffer = offer
		} else {
			c.newChild(sa, sa.childOffer, offer, nil, nil, sa.ni, sa.nr)
		}
	}
}

// mixPPK makes the post-quantum pre-shared key that the initiator names part of the keys;
// the responder agrees by an empty notify (RFC 8784 §3).
func (c *conversation) mixPPK(sa *ikeSA, dir bool, id string) {
	if want := map[bool]string{true: ppkID, false: ""}[dir]; id != want {
		c.t.Errorf("PPK_IDENTITY %q, want %q", id, want)
	}
	if sa.ppk {
		return
	}
	key, err := base64.StdEncoding.DecodeString(ppk)
	if err != nil {
		c.t.Fatal(err)
	}
	sa.ppk = true
	sa.keys = ike.MixPPK(sa.prf, key, sa.keys)
	c.log.verify("PPK", key)
	c.log.verify("derive keys using PPK", key)
	c.log.verify("Sk_d secret", sa.keys.D)
	c.log.verify("Sk_pi secret", sa.keys.Pi)
	c.log.verify("Sk_pr secret", sa.keys.Pr)
}

// auth checks an AUTH payload, and what both sides logged of it.
func (c *conversation) auth(sa *ikeSA, dir bool, auth *message.Auth) {
	c.auths++
	real, nonce, skP := sa.request.raw, sa.nr, sa.keys.Pi
	if !dir {
		real, nonce, skP = sa.response.raw, sa.ni, sa.keys.Pr
	}
	id := sa.id[dir].Body()
	octets := ike.SignedOctets(sa.prf, real, nonce, skP, id, sa.intAuth)
	c.log.verify(labelIDx, id)
	c.log.verify(labelSKp, skP)
	c.log.verify(labelOctets, octets)
	if auth.Method != message.AuthPSK {
		if sa.cert[dir] == nil {
			c.t.Fatalf("%v without a certificate", auth.Method)
		}
		policy := pki.SignaturePolicy{AllowSHA1: auth.Method == message.AuthRSA}
		info, err := pki.VerifySignature(uint8(auth.Method), auth.Data, octets, sa.cert[dir].PublicKey, policy)
		if err != nil {
			c.t.Errorf("%v: %v", auth.Method, err)
		}
		c.t.Logf("%v, %v", auth.Method, info.Scheme)
		return
	}
	// Each side logged the secret that it used. With EAP it is the MSK; where the
	// conversation fails it is the responder who has another key.
	matches := 0
	for _, row := range c.log.after(labelOctets, octets, labelSecret, labelKeypad, labelAuth) {
		secret := row[0]
		secret.verified = sa.eap || bytes.Equal(secret.value, c.psk) || secret.side == "responder"
		c.log.verify(labelKeypad, sa.prf.Sum(secret.value, []byte("Key Pad for IKEv2")))
		want := ike.PSKAuth(sa.prf, secret.value, octets)
		c.log.verify(labelAuth, want)
		if ike.VerifyPSKAuth(sa.prf, secret.value, octets, auth.Data) {
			matches++
		}
	}
	if !sa.eap && !ike.VerifyPSKAuth(sa.prf, c.psk, octets, auth.Data) || matches == 0 {
		c.t.Errorf("AUTH is %x; the secrets that were logged do not give that", auth.Data)
	}
}

// followUp takes a response that ends CREATE_CHILD_SA, or announces an (RFC 9370
// §2.2.4) additional key exchange to come.
func (c *conversation) followUp(sa *ikeSA, began bool, response []message.Payload) {
	if message.FindNotify(response, message.AdditionalKeyExchange) != nil {
		return
	}
	x := sa.unfinished[began]
	delete(sa.unfinished, began)
	c.createChild(sa, x.request, x.response)
}

// createChild takes a CREATE_CHILD_SA exchange: a child SA, or the next IKE SA.
func (c *conversation) createChild(sa *ikeSA, request, response []message.Payload) {
	offer, _ := message.Find[*message.SA](request)
	answer, ok := message.Find[*message.SA](response)
	if !ok || offer == nil {
		return
	}
	ni, okI := message.Find[*message.Nonce](request)
	nr, okR := message.Find[*message.Nonce](response)
	if !okI || !okR {
		c.t.Fatal("CREATE_CHILD_SA without nonces")
	}
	_, hasKE := message.Find[*message.KE](response)
	if answer.Proposals[0].Protocol == suite.ProtocolIKE {
		shared := c.log.before(labelKESecret, labelNonces, join(ni.Data, nr.Data))
		more := c.log.before(labelAddKE, labelNonces, join(ni.Data, nr.Data))
		seed := ike.RekeyedSKEYSEED(sa.prf, sa.keys.D, ni.Data, nr.Data, shared, more)
		s := c.suite(answer)
		key := saKey{
			spii: message.SPI(binary.BigEndian.Uint64(offered(offer, answer).SPI)),
			spir: message.SPI(binary.BigEndian.Uint64(answer.Proposals[0].SPI)),
		}
		c.newSA(s, c.prf(s), seed, shared, more, ni.Data, nr.Data, key)
		return
	}
	var shared, more []byte
	if hasKE {
		shared, more = c.log.around(labelSeed, join(ni.Data, nr.Data))
		c.log.verify(labelKESecret, shared)
		c.log.verify(labelAddKE, more)
	}
	c.newChild(sa, offer, answer, shared, more, ni.Data, nr.Data)
}

// offered is the proposal that was answered.
func offered(offer, answer *message.SA) message.Proposal {
	for _, p := range offer.Proposals {
		if p.Num == answer.Proposals[0].Num {
			return p
		}
	}
	return message.Proposal{}
}

// newChild derives the keys of a pair of child SAs and compares them with the log.
func (c *conversation) newChild(sa *ikeSA, offer, answer *message.SA, shared, more, ni, nr []byte) {
	s := c.suite(answer)
	i, r, err := ike.DeriveChild(sa.prf, sa.keys.D, s, shared, ni, nr, more)
	if err != nil {
		c.t.Fatal(err)
	}
	c.log.verify(labelSeed, join(shared, ni, nr, more))
	c.log.verify("encryption initiator key", i.Encr)
	c.log.verify("encryption responder key", r.Encr)
	if len(i.Integ) > 0 {
		c.log.verify("integrity initiator key", i.Integ)
		c.log.verify("integrity responder key", r.Integ)
	}
	// Each side names the SPI by which it wants to receive.
	for spi, keys := range map[uint32]ike.ChildKeys{
		binary.BigEndian.Uint32(answer.Proposals[0].SPI):    i,
		binary.BigEndian.Uint32(offered(offer, answer).SPI): r,
	} {
		c.children[spi] = &child{suite: s, keys: keys, cipher: c.cipher(s, keys.Encr, keys.Integ)}
	}
}

// esp opens an ESP packet.
func (c *conversation) esp(raw []byte) {
	spi, sequence := binary.BigEndian.Uint32(raw), binary.BigEndian.Uint32(raw[4:])
	sa := c.children[spi]
	if sa == nil {
		c.t.Errorf("ESP packet with SPI %08x, which was not negotiated", spi)
		return
	}
	if sequence <= sa.sequence {
		c.t.Errorf("SPI %08x: sequence number %d after %d", spi, sequence, sa.sequence)
	}
	sa.sequence = sequence
	text, err := sa.cipher.Open(bytes.Clone(raw), 8, suite.ESN{On: sa.suite.ESN.ID == suite.ESNYes})
	if err != nil {
		c.t.Errorf("SPI %08x, packet %d: %v", spi, sequence, err)
		return
	}
	if reason := badInner(text, true); reason != "" {
		c.t.Errorf("SPI %08x, packet %d: %s: %x", spi, sequence, reason, text)
	}
	c.espPackets++
}

// tables compares our keys with those of Wireshark's tables.
func (c *conversation) tables(dir string) {
	if len(c.sas) == 0 {
		return // a negotiation that failed has no tables
	}
	keys, err := golden.ReadIKEKeys(filepath.Join(dir, "ikev2_decryption_table"))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, k := range keys {
		sa := c.sas[saKey{message.SPI(k.SPIi), message.SPI(k.SPIr)}]
		if sa == nil || sa.suite.Encr != k.Encr || !slices.ContainsFunc(append(sa.earlier, sa.keys), func(own ike.IKEKeys) bool {
			return bytes.Equal(own.Ei, k.SKei) && bytes.Equal(own.Er, k.SKer) && bytes.Equal(own.Ai, k.SKai) && bytes.Equal(own.Ar, k.SKar)
		}) {
			c.t.Errorf("IKE SA %016x of the table: we have other keys", k.SPIi)
		}
	}
	want := len(c.sas)
	for _, sa := range c.sas {
		want += len(sa.earlier)
	}
	if len(keys) != want {
		c.t.Errorf("%d keys of IKE SAs, the table has %d", want, len(keys))
	}
	if len(c.children) == 0 {
		return
	}
	espKeys, err := golden.ReadESPKeys(filepath.Join(dir, "esp_sa"))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, k := range espKeys {
		sa := c.children[k.SPI]
		if sa == nil || !bytes.Equal(sa.keys.Encr, k.EncrKey) || !bytes.Equal(sa.keys.Integ, k.IntegKey) || sa.suite.Encr != k.Encr {
			c.t.Errorf("ESP SA %08x of the table: we have other keys", k.SPI)
		}
	}
	if len(espKeys) != len(c.children) {
		c.t.Errorf("%d ESP SAs, the table has %d", len(c.children), len(espKeys))
	}
}

// noteNAT keeps the hashes of the NAT detection notifies that were sent.
func (c *conversation) noteNAT(ps []message.Payload) {
	for _, p := range ps {
		if n, ok := p.(*message.Notify); ok && (n.Notify == message.NATDetectionSourceIP || n.Notify == message.NATDetectionDestinationIP) {
			c.natHashes[string(n.Data)] = true
		}
	}
}

// natDetection recomputes the hashes of NAT detection, SHA-1(SPIi | SPIr | address |
// port) (RFC 7296 §2.23). The daemons lied about their source address, as we do: a
// chunk either names an end of the conversation or was sent as a hash.
func (c *conversation) natDetection() {
	real := map[string]bool{}
	for spii := range c.initRequests {
		spirs := []message.SPI{0}
		for key := range c.sas {
			if key.spii == spii {
				spirs = append(spirs, key.spir)
			}
		}
		for _, spir := range spirs {
			for at := range c.endpoints {
				chunk := binary.BigEndian.AppendUint64(nil, uint64(spii))
				chunk = binary.BigEndian.AppendUint64(chunk, uint64(spir))
				chunk = append(chunk, at.Addr().AsSlice()...)
				real[string(binary.BigEndian.AppendUint16(chunk, at.Port()))] = true
			}
		}
	}
	realHashes := map[string]bool{}
	for chunk := range real {
		h := sha1.Sum([]byte(chunk))
		realHashes[string(h[:])] = true
	}
	for _, e := range c.log.entries {
		switch e.label {
		case labelNATChunk:
			h := sha1.Sum(e.value)
			if real[string(e.value)] || c.natHashes[string(h[:])] {
				e.verified = true
				c.log.verify(labelNATHash, h[:])
			}
		case labelNATOurSrc, labelNATOurDst:
			e.verified = realHashes[string(e.value)]
		case labelNATSrc, labelNATDst:
			e.verified = c.natHashes[string(e.value)]
		}
	}
}

// suite is the suite that an SA payload of a response names.
func (c *conversation) suite(sa *message.SA) suite.Suite {
	if len(sa.Proposals) != 1 {
		c.t.Fatalf("answer with %d proposals", len(sa.Proposals))
	}
	s, err := sa.Proposals[0].Suite()
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

func (c *conversation) prf(s suite.Suite) suite.PRF {
	prf, err := suite.NewPRF(s.PRF)
	if err != nil {
		c.t.Fatal(err)
	}
	return prf
}

func (c *conversation) cipher(s suite.Suite, encr, integ []byte) suite.Cipher {
	cipher, err := suite.NewCipher(s.Encr, s.Integ, encr, integ)
	if err != nil {
		c.t.Fatal(err)
	}
	return cipher
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
