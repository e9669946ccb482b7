package ike

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"martlet/ike/message"
)

// crashPair is a client and a gateway that give each other tokens.
func crashPair(t testing.TB) (w *world, a, b *host) {
	client, gateway := pskPair(t)
	w = newWorld(t)
	a = w.add("client", "192.0.2.1", &Config{Connections: []*Connection{client}, CrashSecret: bytes.Repeat([]byte{1}, 32)})
	b = w.add("gateway", "198.51.100.1", &Config{Connections: []*Connection{gateway}, CrashSecret: bytes.Repeat([]byte{2}, 32)})
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 1)
	return w, a, b
}

// crash gives a host a new engine: the old one's SAs are lost.
func (h *host) crash() {
	h.e = New(h.e.cfg)
	clear(h.installed)
	h.reports, h.sent = nil, nil
}

// TestCrashDetection: whoever crashed, the other learns it by its next request, and by ESP
// at once; also where messages are lost or come twice.
func TestCrashDetection(t *testing.T) {
	for _, who := range []string{"gateway", "client"} {
		for _, by := range []string{"liveness", "ESP"} {
			for name, copies := range map[string][]int{"quiet": {1}, "loss": {1, 0, 0, 1, 0, 1, 1}, "repeated": {2}} {
				t.Run(fmt.Sprint(who, " ", by, " ", name), func(t *testing.T) {
					w, a, b := crashPair(t)
					dead, left := b, a
					if who == "client" {
						dead, left = a, b
					}
					n := 0
					w.fate = func(*host, Send) int { n++; return copies[n%len(copies)] }
					spi := left.onlyChild().SPIOut
					dead.crash()
					began := w.now
					if by == "ESP" {
						for range 6 {
							dead.handle(UnknownSPI{Path: dead.path(left, true), SPI: spi})
							w.run(time.Second)
						}
					} else {
						w.run(45 * time.Second)
					}
					if c := left.downCode(); c != CodePeerRestarted {
						t.Errorf("code %q after %v", c, w.now.Sub(began))
					}
					empty(t, left)
					for _, s := range dead.sent {
						if h, err := message.ParseHeader(s.Data); err != nil || h.Exchange != message.Informational {
							t.Errorf("%v", describe(s))
						}
					}
				})
			}
		}
	}
}

// TestCrashToken: the form on the wire (RFC 6290 §4.1), and that each SA has its own.
func TestCrashToken(t *testing.T) {
	w, a, b := crashPair(t)
	token := engineOf(a).peerToken
	want := append([]byte{0, 0, 0, 24, 1, 0, 0x40, 0x23}, token...)
	if got := message.AppendPayloads(nil, b.e.crashToken(engineOf(b).spir, false)); !bytes.Equal(got, want) || len(token) != 16 {
		t.Errorf("%x, want %x", got, want)
	}
	if bytes.Equal(engineOf(b).peerToken, token) {
		t.Error("both sides have one token")
	}
	// The answer of a peer that lost the SA.
	b.crash()
	a.poke((*ikeSA).check)
	w.run(15 * time.Millisecond)
	request, answer := a.sent[len(a.sent)-1].Data, b.sent[0].Data
	if len(answer) > len(request) {
		t.Errorf("%d octets for %d", len(answer), len(request))
	}
	m, err := message.Parse(answer)
	if err != nil {
		t.Fatal(err)
	}
	r, _ := message.ParseHeader(request)
	if m.SPIi != r.SPIi || m.SPIr != r.SPIr || m.MessageID != r.MessageID || m.Flags != message.FlagResponse || m.Notify(message.InvalidIKESPI) == nil ||
		!bytes.Equal(m.Notify(message.QuickCrashDetection).Data, token) {
		t.Errorf("answer %+v", m)
	}
}

// TestCrashTokenOfALivingSA: nobody gets the token of an SA that stands, whatever roles and
// flags he claims, and no other token does anything.
func TestCrashTokenOfALivingSA(t *testing.T) {
	w, a, b := crashPair(t)
	sa := engineOf(a)
	tokens := [][]byte{sa.peerToken, engineOf(b).peerToken}
	a.sent, b.sent = nil, nil
	sealed := craft(t, sa, message.Informational, 99, 0, &message.VendorID{Data: make([]byte, 200)})
	for flags := range 256 {
		for _, spis := range [][2]message.SPI{{sa.spii, sa.spir}, {sa.spir, sa.spii}, {0, sa.spir}, {sa.spir, 0}, {sa.spii, sa.spii}, {sa.spir, sa.spir}, {0, sa.spii}, {sa.spii, 0}} {
			for _, kind := range []message.ExchangeType{message.IKEAuth, message.Informational} {
				x := slices.Clone(sealed)
				h := message.Message{Header: message.Header{SPIi: spis[0], SPIr: spis[1], Exchange: kind, Flags: message.Flags(flags), MessageID: 1}}
				copy(x, h.Append(nil)[:16])
				x[18], x[19] = byte(kind), byte(flags)
				a.deliver(b, x)
				b.deliver(a, x)
			}
		}
	}
	for _, s := range append(slices.Clone(a.sent), b.sent...) {
		for _, token := range tokens {
			if bytes.Contains(s.Data, token) {
				t.Fatalf("a token of a living SA was given away: %s", describe(s))
			}
		}
	}
	for _, data := range [][]byte{nil, tokens[0][:15], append(slices.Clone(tokens[0]), 0), make([]byte, 16), tokens[1]} {
		m := message.Message{
			Header:   message.Header{SPIi: sa.spii, SPIr: sa.spir, Exchange: message.Informational, Flags: message.FlagResponse, MessageID: sa.nextID},
			Payloads: []message.Payload{notify(message.InvalidIKESPI), crashNotify(data)},
		}
		a.deliver(b, m.Append(nil))
	}
	w.run(time.Second)
	agree(t, a, b, 1)
	// So many guesses are too many to look at more.
	guess := message.Message{
		Header:   message.Header{SPIi: sa.spii, SPIr: sa.spir, Exchange: message.Informational, Flags: message.FlagResponse},
		Payloads: []message.Payload{notify(message.InvalidIKESPI), crashNotify(make([]byte, 16))},
	}
	for range crashesBurst {
		a.deliver(b, guess.Append(nil))
	}
	guess.Payloads[1] = crashNotify(tokens[0])
	a.deliver(b, guess.Append(nil))
	if len(a.established()) != 1 {
		t.Error("guesses are not limited")
	}
	w.run(10 * time.Second)
	a.deliver(b, guess.Append(nil))
	if len(a.established()) != 0 {
		t.Error("the token does nothing")
	}
}

// TestNoTokenWithoutSecret: an engine that cannot make a token again gives none, and says
// nothing to who has an SA of before.
func TestNoTokenWithoutSecret(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := up(t, client, gateway)
	if engineOf(a).peerToken != nil || engineOf(b).peerToken != nil {
		t.Error("a token of nothing")
	}
	b.crash()
	a.poke((*ikeSA).check)
	w.run(time.Second)
	if len(b.sent) != 0 || len(a.established()) != 1 {
		t.Error("somebody was told")
	}
}

// TestInvalidSPI: who is told that ESP of his is not known checks, but not often, and only
// for an SPI of his.
func TestInvalidSPI(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := up(t, client, gateway)
	tell := func(spi uint32) {
		m := message.Message{
			Header:   message.Header{Exchange: message.Informational, Flags: message.FlagInitiator},
			Payloads: []message.Payload{notifyData(message.InvalidSPI, []byte{byte(spi >> 24), byte(spi >> 16), byte(spi >> 8), byte(spi)})},
		}
		a.deliver(b, m.Append(nil))
		w.run(1100 * time.Millisecond)
	}
	before := len(a.sent)
	tell(a.onlyChild().SPIOut + 1)
	if len(a.sent) != before {
		t.Error("checked because of a foreign SPI")
	}
	for range 5 {
		tell(a.onlyChild().SPIOut)
	}
	if n := len(a.sent) - before; n != 1 {
		t.Errorf("%d checks", n)
	}
	agree(t, a, b, 1)
}

// TestCrashAfterRekey: the SA in place of another has tokens of its own.
func TestCrashAfterRekey(t *testing.T) {
	for _, who := range []string{"gateway", "client"} {
		w, a, b := crashPair(t)
		before := [][]byte{engineOf(a).peerToken, engineOf(b).peerToken}
		a.handle(Rekey{SA: engineOf(a).id()})
		w.run(time.Minute)
		sa, sb := engineOf(a), engineOf(b)
		if bytes.Equal(sa.peerToken, before[0]) || bytes.Equal(sb.peerToken, before[1]) {
			t.Fatal("the old tokens")
		}
		dead, left := b, a
		if who == "client" {
			dead, left = a, b
		}
		dead.crash()
		w.run(45 * time.Second)
		if c := left.downCode(); c != CodePeerRestarted {
			t.Errorf("%s: code %q", who, c)
		}
	}
}
