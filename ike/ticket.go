package ike

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// A ticket is what a gateway needs to go on with a peer that lost its SA, sealed by a key
// of the gateway's own and kept by the peer (RFC 5723 §6): no state is kept for it.
type ticket struct {
	id            TicketID
	until         time.Time
	connection    string
	suite         suite.Suite
	d             suite.Secret // SK_d
	local, remote pki.Identity // as the gateway sees it
	claimed       pki.Identity // IDi of the peer, which EAP may have shown to be somebody else
	eapIdentity   string
	binding       [32]byte // of Admission
}

// TicketID tells tickets apart; the zero value is none.
type TicketID [16]byte

// TicketKey is what tickets are sealed with on the day Epoch (of 24 hours, since 1970 in UTC).
// The key of the day after is made of it and not the other way round: whoever finds a key
// cannot open the tickets of the days before.
type TicketKey struct {
	Epoch uint32
	Key   suite.Secret // 32 octets; empty: no tickets are given out and none are taken
}

const (
	ticketEpoch    = 24 * time.Hour
	maxTicketLife  = ticketEpoch // so that the key of the day before opens all that are good
	maxTicketDays  = 40000       // that a key is advanced by
	maxTicketLen   = 4 << 10
	ticketVersion  = 2
	ticketNonceLen = 12
)

// EpochOf is the day of a TicketKey at a time.
func EpochOf(t time.Time) uint32 { return uint32(max(0, t.Unix()) / int64(ticketEpoch/time.Second)) }

// Advance is the key of a later day. It fails for an earlier one, and for one that is
// further away than clocks go wrong.
func (k TicketKey) Advance(epoch uint32) (TicketKey, bool) {
	if len(k.Key) == 0 || epoch < k.Epoch || epoch-k.Epoch > maxTicketDays {
		return TicketKey{}, false
	}
	for k.Epoch < epoch {
		h := hmac.New(sha256.New, k.Key)
		h.Write([]byte("the next day"))
		k = TicketKey{Epoch: k.Epoch + 1, Key: h.Sum(nil)}
	}
	return k, true
}

// sealer is the cipher of a day.
func (k TicketKey) sealer() (cipher.AEAD, error) {
	h := hmac.New(sha256.New, k.Key)
	h.Write([]byte("tickets"))
	block, err := aes.NewCipher(h.Sum(nil))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// ticketKey is the key of a day, if it is today or the day before; older keys are
// forgotten.
func (e *Engine) ticketKey(epoch uint32) (TicketKey, bool) {
	today := EpochOf(e.now)
	if today > e.ticketKeys.Epoch+1 {
		if k, ok := e.ticketKeys.Advance(today - 1); ok {
			e.ticketKeys = k
		}
	}
	if epoch > today {
		return TicketKey{}, false
	}
	return e.ticketKeys.Advance(epoch)
}

func appendIdentity(b *cryptobyte.Builder, id pki.Identity) {
	b.AddUint8(uint8(id.Type))
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(id.Data)) })
}

func readIdentity(s *cryptobyte.String) (id pki.Identity, ok bool) {
	var kind uint8
	var data cryptobyte.String
	ok = s.ReadUint8(&kind) && s.ReadUint16LengthPrefixed(&data)
	return pki.Identity{Type: pki.IDType(kind), Data: string(data)}, ok
}

// marshal writes a ticket before it is sealed.
func (t *ticket) marshal() ([]byte, error) {
	b := cryptobyte.NewBuilder(nil)
	b.AddUint8(ticketVersion)
	b.AddBytes(t.id[:])
	b.AddUint64(uint64(t.until.Unix()))
	b.AddBytes(t.binding[:])
	for _, part := range [][]byte{
		[]byte(t.connection), t.d, []byte(t.eapIdentity),
		message.AppendPayloads(nil, []message.Payload{wireProposals([]suite.Proposal{t.suite.Proposal()}, nil)}),
	} {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(part) })
	}
	appendIdentity(b, t.local)
	appendIdentity(b, t.remote)
	appendIdentity(b, t.claimed)
	return b.Bytes()
}

// parseTicket reads what marshal wrote.
func parseTicket(plain []byte) (*ticket, bool) {
	s := cryptobyte.String(plain)
	var version uint8
	var id, binding []byte
	var until uint64
	var connection, d, eapIdentity, proposal cryptobyte.String
	if !s.ReadUint8(&version) || version != ticketVersion || !s.ReadBytes(&id, len(TicketID{})) || !s.ReadUint64(&until) ||
		!s.ReadBytes(&binding, len(ticket{}.binding)) || !s.ReadUint16LengthPrefixed(&connection) || !s.ReadUint16LengthPrefixed(&d) ||
		!s.ReadUint16LengthPrefixed(&eapIdentity) || !s.ReadUint16LengthPrefixed(&proposal) {
		return nil, false
	}
	t := &ticket{
		id: TicketID(id), until: time.Unix(int64(until), 0), connection: string(connection),
		d: suite.Secret(append([]byte{}, d...)), eapIdentity: string(eapIdentity), binding: [32]byte(binding),
	}
	var ok1, ok2, ok3 bool
	t.local, ok1 = readIdentity(&s)
	t.remote, ok2 = readIdentity(&s)
	t.claimed, ok3 = readIdentity(&s)
	ps, err := message.ParsePayloads(message.TypeSA, proposal)
	if !ok1 || !ok2 || !ok3 || err != nil || !s.Empty() || len(t.d) == 0 {
		return nil, false
	}
	sa, ok := message.Find[*message.SA](ps)
	if !ok || len(ps) != 1 || len(sa.Proposals) != 1 || sa.Proposals[0].Unknown {
		return nil, false
	}
	t.suite, err = sa.Proposals[0].Suite()
	return t, err == nil
}

// seal makes the ticket that the peer keeps; nil where there is no key.
func (e *Engine) sealTicket(t *ticket) []byte {
	k, ok := e.ticketKey(EpochOf(e.now))
	if !ok {
		return nil
	}
	aead, err := k.sealer()
	plain, failed := t.marshal()
	if err != nil || failed != nil {
		return nil
	}
	head := binary.BigEndian.AppendUint32(nil, k.Epoch)
	nonce := make([]byte, ticketNonceLen)
	rand.Read(nonce)
	out := append(append([]byte{}, head...), nonce...)
	if out = aead.Seal(out, nonce, plain, head); len(out) > maxTicketLen {
		return nil
	}
	return out
}

// openTicket is a ticket of ours that is still good.
func (e *Engine) openTicket(sealed []byte) (*ticket, bool) {
	s := cryptobyte.String(sealed)
	var head, nonce []byte
	if len(sealed) > maxTicketLen || !s.ReadBytes(&head, 4) || !s.ReadBytes(&nonce, ticketNonceLen) {
		return nil, false
	}
	k, ok := e.ticketKey(binary.BigEndian.Uint32(head))
	if !ok {
		return nil, false
	}
	aead, err := k.sealer()
	if err != nil {
		return nil, false
	}
	plain, err := aead.Open(nil, nonce, s, head)
	if err != nil {
		return nil, false
	}
	t, ok := parseTicket(plain)
	return t, ok && e.now.Before(t.until)
}
