package ike

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"martlet/ike/eap"
	"martlet/ike/message"
)

// mangler is a peer that has the keys of the SA and says in IKE_AUTH what it likes.
type mangler struct {
	r    *rand.Rand
	from *host
	to   *host
	seen [][]byte // EAP packets of either side
}

// change makes something else of payloads.
func (m *mangler) change(ps []message.Payload, s *ikeSA) []message.Payload {
	at := func() int { return m.r.IntN(max(1, len(ps))) }
	for range 1 + m.r.IntN(2) {
		p, isEAP := message.Find[*message.EAP](ps)
		switch m.r.IntN(9) {
		case 0:
			if len(ps) > 0 {
				i := at()
				ps = slices.Delete(ps, i, i+1)
			}
		case 1:
			if len(ps) > 0 {
				i := at()
				ps = slices.Insert(ps, i, ps[i])
			}
		case 2, 3:
			if isEAP {
				p.Data[m.r.IntN(len(p.Data))] ^= byte(1 << m.r.IntN(8))
			}
		case 4:
			if isEAP {
				p.Data = []byte{byte(m.r.IntN(6)), p.Data[1], 0, 4}
			}
		case 5:
			if isEAP && len(m.seen) > 0 { // an earlier one, with the number that is due
				id := p.Data[1]
				p.Data = slices.Clone(m.seen[m.r.IntN(len(m.seen))])
				p.Data[1] = id
			}
		case 6:
			if isEAP && len(p.Data) > 5 {
				n := 5 + m.r.IntN(len(p.Data)-5)
				p.Data = p.Data[:n]
				p.Data[2], p.Data[3] = byte(n>>8), byte(n)
			}
		case 7:
			id := idPayload(!s.initiator, s.local)
			key := s.keys.Pi
			if !s.initiator {
				key = s.keys.Pr
			}
			if len(s.realI) > 0 {
				ps = append(ps, &message.Auth{Method: message.AuthPSK, Data: PSKAuth(s.prf, key, s.signedOctets(s.initiator, id))})
			}
		case 8:
			n := []message.NotifyType{message.AnotherAuthFollows, message.EAPOnlyAuthentication, message.MultipleAuthSupported, message.InitialContact}
			ps = append(ps, notify(n[m.r.IntN(len(n))]))
		}
	}
	return ps
}

// fate mangles every other message of its host.
func (m *mangler) fate(h *host, sent Send) int {
	hdr, err := message.ParseHeader(sent.Data)
	if err != nil || hdr.Exchange != message.IKEAuth || m.from.e.first == nil || m.to.e.first == nil {
		return 1
	}
	reader := m.to
	if h == m.to {
		reader = m.from
	}
	_, e, text, err := message.Open(slices.Clone(sent.Data), reader.e.first.open)
	if err != nil || e == nil || e.Fragment != 0 {
		return 1
	}
	ps, err := message.ParsePayloads(e.First, text)
	if err != nil {
		return 1
	}
	if p, ok := message.Find[*message.EAP](ps); ok {
		m.seen = append(m.seen, slices.Clone(p.Data))
	}
	if h != m.from || m.r.IntN(2) == 0 {
		return 1
	}
	s := m.from.e.first
	grams := message.Seal(hdr, m.change(ps, s), s.seal, s.nextIV, 0)
	for _, g := range grams {
		m.from.w.post(m.from.w.delay, m.to, Datagram{Path: m.from.path(m.to, true).reversed(), Data: g})
	}
	return 0
}

func (p Path) reversed() Path { return Path{Local: p.Remote, Remote: p.Local, Encap: p.Encap} }

// TestHostileLogin: who does not know the password, on either side, never gets an SA up,
// whatever it says; nothing panics and nothing is left.
func TestHostileLogin(t *testing.T) {
	packets := 0
	for seed := range uint64(600) {
		r := rand.New(rand.NewPCG(seed, 4))
		method := []eap.Type{eap.TypeMSCHAPv2, eap.TypeMD5, eap.TypeTTLS, eap.TypePEAP}[r.IntN(4)]
		client, gateway := eapPair(t, method)
		client.FragmentSize, gateway.FragmentSize = -1, -1
		hostileGateway := r.IntN(2) == 0 && method == eap.TypeMSCHAPv2 // which proves the gateway as well
		if hostileGateway {
			gateway.Remote.EAP.Methods = []eap.Type{eap.TypeMSCHAPv2}
		} else {
			client.Local.EAP.Password = []byte("a guess")
		}
		w, a, b := eapHosts(t, client, gateway)
		m := &mangler{r: r, from: a, to: b}
		if hostileGateway {
			b.accounts["carol@example.org"] = "a guess"
			m.from, m.to = b, a
		}
		w.fate = m.fate
		a.initiate("home", b)
		w.run(30 * time.Second)
		if len(found[Established](m.to)) != 0 {
			t.Errorf("seed %d, %v: let in", seed, method)
		}
		packets += len(m.seen)
		if a.count(DropPanic)+b.count(DropPanic) != 0 {
			t.Errorf("seed %d: a panic", seed)
		}
		w.fate = nil
		a.handle(Terminate{})
		w.run(10 * time.Minute)
		empty(t, a, b)
	}
	if packets < 1000 {
		t.Errorf("only %d EAP packets: the test does not test much", packets)
	}
}
