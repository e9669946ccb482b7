package aaa

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc6911"
)

// TestConversation goes through a whole one: what each request says, and what is taken from
// the answers.
func TestConversation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := append([]byte{2, 2, 3, 0, 13}, bytes.Repeat([]byte{7}, 0x300-5)...)
		f := &fake{t: t, answer: func(n int, b []byte) [][]byte {
			if n == 0 {
				p := answerTo(t, b, radius.CodeAccessChallenge)
				p.Add(rfc2865.State_Type, []byte("state"))
				p.Add(rfc2869.EAPMessage_Type, eapRequest[:4])
				p.Add(rfc2869.EAPMessage_Type, eapRequest[4:])
				return [][]byte{sealed(t, p)}
			}
			p := accept(t, b)
			p.Add(rfc2865.UserName_Type, []byte("alice@example.com"))
			p.Add(rfc2865.FramedIPAddress_Type, []byte{10, 9, 0, 7})
			p.Add(rfc2865.FramedIPAddress_Type, []byte{255, 255, 255, 254})
			p.Add(rfc6911.FramedIPv6Address_Type, netip.MustParseAddr("fd00::7").AsSlice())
			p.Add(rfc2865.Class_Type, []byte("admins"))
			p.Add(rfc2865.FilterID_Type, []byte("staff"))
			p.Add(rfc2869.FramedPool_Type, []byte("four"))
			p.Add(framedIPv6Pool, []byte("six"))
			addNumber(p, rfc2865.SessionTimeout_Type, 3600)
			addNumber(p, rfc2869.AcctInterimInterval_Type, 300)
			p.Add(rfc2865.VendorSpecific_Type, []byte{0, 0, 1, 55, msPrimaryDNS, 6, 10, 9, 0, 1})
			return [][]byte{sealed(t, p)}
		}}
		r := client(t, f)
		defer r.Close(t.Context())
		c := conversation(r)
		got, err := c.Send(t.Context(), identityPacket("alice"))
		if err != nil || got.Grant != nil || !bytes.Equal(got.EAP, eapRequest) {
			t.Fatalf("%+v, %v", got, err)
		}
		if got, err = c.Send(t.Context(), long); err != nil {
			t.Fatal(err)
		}
		want := &Grant{
			User:      "alice@example.com",
			Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.7"), netip.MustParseAddr("fd00::7")},
			DNS:       []netip.Addr{netip.MustParseAddr("10.9.0.1")},
			Groups:    []string{"admins", "staff"}, Class: [][]byte{[]byte("admins")}, Pools: []string{"four", "six"},
			SessionTimeout: time.Hour, InterimInterval: 5 * time.Minute,
		}
		if diff := cmp.Diff(want, got.Grant, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Error(diff)
		}
		if msk := append(bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)...); !bytes.Equal(got.MSK, msk) {
			t.Error("the MSK is another one")
		}
		if !bytes.Equal(got.EAP, eapSuccess) {
			t.Errorf("EAP is %x", got.EAP)
		}
		first, second := request(t, f.seen()[0]), request(t, f.seen()[1])
		for _, p := range []*radius.Packet{first, second} {
			for typ, text := range map[radius.Type]string{
				rfc2865.UserName_Type: "alice", rfc2865.NASIdentifier_Type: "gateway.test", rfc2866.AcctSessionID_Type: "s1",
				rfc2865.CallingStationID_Type: "198.51.100.7", rfc2865.CalledStationID_Type: "203.0.113.1",
				rfc2869.NASPortID_Type: "clients", rfc2865.NASIPAddress_Type: "\xcb\x00\x71\x01",
				rfc2865.NASPortType_Type: "\x00\x00\x00\x05", rfc2865.ServiceType_Type: "\x00\x00\x00\x02",
			} {
				if got := string(p.Get(typ)); got != text {
					t.Errorf("attribute %d is %q, want %q", typ, got, text)
				}
			}
		}
		if _, ok := first.Lookup(rfc2865.State_Type); ok || string(second.Get(rfc2865.State_Type)) != "state" {
			t.Error("State is not sent back, or was made up")
		}
		if n := len(all(second, rfc2869.EAPMessage_Type)); n != 4 || !bytes.Equal(joined(second, rfc2869.EAPMessage_Type), long) {
			t.Errorf("a packet of %d octets went in %d attributes", len(long), n)
		}
		if first.Authenticator == second.Authenticator {
			t.Error("two requests have the same authenticator")
		}
	})
}

func TestReject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t, answer: func(_ int, b []byte) [][]byte {
			p := answerTo(t, b, radius.CodeAccessReject)
			p.Add(rfc2869.EAPMessage_Type, eapFailure)
			p.Add(rfc2865.ReplyMessage_Type, []byte("locked"))
			return [][]byte{sealed(t, p)}
		}}
		r := client(t, f)
		defer r.Close(t.Context())
		_, err := conversation(r).Send(t.Context(), identityPacket("alice"))
		want := &RejectedError{Server: "a", User: "alice", Text: "locked", EAP: eapFailure}
		got, ok := errors.AsType[*RejectedError](err)
		if !ok || cmp.Diff(want, got) != "" {
			t.Fatalf("%v", err)
		}
	})
}

// TestBadAnswers: what is not a server's answer to this request is as if nothing came, and
// the error says what came (CVE-2024-3596, RFC 3579 §4.3).
func TestBadAnswers(t *testing.T) {
	for _, test := range []struct {
		name, says string
		change     func(t *testing.T, b []byte, good *radius.Packet) []byte
	}{
		{"wrong secret", "secrets differ", func(t *testing.T, _ []byte, p *radius.Packet) []byte {
			p.Secret = []byte("another")
			return sealed(t, p)
		}},
		{"no Message-Authenticator", "no Message-Authenticator", func(t *testing.T, _ []byte, p *radius.Packet) []byte {
			p.Del(rfc2869.MessageAuthenticator_Type)
			return sealed(t, p)
		}},
		{"wrong Message-Authenticator", "does not fit", func(t *testing.T, b []byte, p *radius.Packet) []byte {
			nonce := p.Authenticator
			out := sealed(t, p)
			out[headerLen+2] ^= 1
			copy(out[4:], packetAuthenticator(out, nonce, []byte(fakeSecret)))
			return out
		}},
		{"two Message-Authenticators", "malformed", func(t *testing.T, _ []byte, p *radius.Packet) []byte {
			p.Add(rfc2869.MessageAuthenticator_Type, make([]byte, 16))
			return sealed(t, p)
		}},
		{"an answer to another request", "does not fit", func(t *testing.T, _ []byte, p *radius.Packet) []byte {
			p.Authenticator[3] ^= 1
			return sealed(t, p)
		}},
		{"another identifier", "nothing came", func(t *testing.T, _ []byte, p *radius.Packet) []byte {
			p.Identifier++
			return sealed(t, p)
		}},
		{"a code that answers nothing", "malformed", func(t *testing.T, _ []byte, p *radius.Packet) []byte {
			p.Code = radius.CodeAccountingResponse
			return sealed(t, p)
		}},
		{"cut off", "malformed", func(t *testing.T, _ []byte, p *radius.Packet) []byte {
			b := sealed(t, p)
			return b[:len(b)-1]
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{t: t, answer: func(_ int, b []byte) [][]byte {
					return [][]byte{test.change(t, b, accept(t, b))}
				}}
				r := client(t, f)
				defer r.Close(t.Context())
				began := time.Now()
				_, err := conversation(r).Send(t.Context(), identityPacket("alice"))
				if silent, ok := errors.AsType[*SilentError](err); !ok || !strings.Contains(silent.Error(), test.says) {
					t.Fatalf("%v", err)
				}
				if n := len(f.seen()); n != 3 || !bytes.Equal(f.seen()[0], f.seen()[2]) {
					t.Errorf("%d transmissions, or they differ", n)
				}
				if took := time.Since(began); took < 6*time.Second || took > 8*time.Second {
					t.Errorf("gave up after %v", took)
				}
				if strings.Contains(err.Error(), fakeSecret) {
					t.Error("the error has the secret")
				}
			})
		})
	}
}

// TestGoodAfterBad: a forged answer does not keep the true one out.
func TestGoodAfterBad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t, answer: func(_ int, b []byte) [][]byte {
			forged := sealed(t, answerTo(t, b, radius.CodeAccessReject))
			forged[30] ^= 1
			return [][]byte{{}, forged, sealed(t, accept(t, b)), sealed(t, accept(t, b))}
		}}
		r := client(t, f)
		defer r.Close(t.Context())
		if got, err := conversation(r).Send(t.Context(), identityPacket("alice")); err != nil || got.Grant == nil {
			t.Fatal(err)
		}
	})
}

// TestLoss: a lost request is repeated bit for bit, and an answer to the first still counts.
func TestLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t, answer: func(n int, b []byte) [][]byte {
			if n < 2 {
				return nil
			}
			return [][]byte{sealed(t, accept(t, b))}
		}}
		r := client(t, f)
		defer r.Close(t.Context())
		if _, err := conversation(r).Send(t.Context(), identityPacket("alice")); err != nil {
			t.Fatal(err)
		}
		if n := len(f.seen()); n != 3 || !bytes.Equal(f.seen()[0], f.seen()[2]) {
			t.Errorf("%d transmissions, or they differ", n)
		}
	})
}

// TestFailover: a silent server is left alone for a while, and a conversation stays with the
// server that began it.
func TestFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var silent atomic.Bool
		silent.Store(true)
		challenge := func(_ int, b []byte) [][]byte {
			p := answerTo(t, b, radius.CodeAccessChallenge)
			p.Add(rfc2869.EAPMessage_Type, eapRequest)
			return [][]byte{sealed(t, p)}
		}
		one := &fake{t: t, answer: func(n int, b []byte) [][]byte {
			if silent.Load() {
				return nil
			}
			return challenge(n, b)
		}}
		two := &fake{t: t, answer: challenge}
		r := client(t, one, two)
		defer r.Close(t.Context())
		send := func(c *Conversation, packet []byte) time.Duration {
			t.Helper()
			began := time.Now()
			if _, err := c.Send(t.Context(), packet); err != nil {
				t.Fatal(err)
			}
			return time.Since(began)
		}
		c := conversation(r)
		if took := send(c, identityPacket("alice")); took < 6*time.Second {
			t.Errorf("the second server was asked after %v", took)
		}
		if took := send(conversation(r), identityPacket("bob")); took > 0 {
			t.Errorf("the dead server cost the next one %v", took)
		}
		silent.Store(false)
		time.Sleep(31 * time.Second)
		before := len(one.seen())
		send(c, eapRequest)
		if len(one.seen()) != before {
			t.Error("the conversation moved to another server")
		}
		send(conversation(r), identityPacket("carol"))
		if len(one.seen()) != before+1 {
			t.Error("the first server is not asked again after its dead time")
		}
	})
}

// TestRowB4SilentRADIUS: requests that wait for a silent server do not grow without
// bound, and those behind them are told at once (security.md B4).
func TestRowB4SilentRADIUS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{t: t, answer: func(int, []byte) [][]byte { return nil }}
		r := client(t, f)
		defer r.Close(t.Context())
		done := make(chan error, 2*maxWaiting)
		for range maxWaiting + 10 {
			go func() {
				_, err := conversation(r).Send(t.Context(), identityPacket("alice"))
				done <- err
			}()
		}
		synctest.Wait()
		if n := len(done); n != 10 {
			t.Fatalf("%d were turned away, want 10", n)
		}
		for range maxWaiting + 10 {
			if err := <-done; err == nil {
				t.Fatal("somebody came in")
			}
		}
	})
}

// TestTooLongForRADIUS: a peer's packet that no RADIUS packet can hold ends its login and makes
// no server look dead.
func TestTooLongForRADIUS(t *testing.T) {
	f := &fake{t: t, answer: func(_ int, b []byte) [][]byte {
		p := answerTo(t, b, radius.CodeAccessChallenge)
		p.Add(rfc2869.EAPMessage_Type, eapRequest)
		return [][]byte{sealed(t, p)}
	}}
	r := client(t, f)
	defer r.Close(t.Context())
	c := conversation(r)
	if _, err := c.Send(t.Context(), identityPacket("alice")); err != nil {
		t.Fatal(err)
	}
	long := make([]byte, 4096)
	copy(long, []byte{2, 1, 16, 0, 13})
	_, err := c.Send(t.Context(), long)
	if silent := (*SilentError)(nil); err == nil || errors.As(err, &silent) {
		t.Errorf("%v, want an error that blames no server", err)
	}
	if !r.servers[0].auth.usable(time.Now()) || !r.servers[0].auth.dead.IsZero() {
		t.Error("the server counts as dead")
	}
}

func TestFirstPacketSaysWho(t *testing.T) {
	f := &fake{t: t, answer: func(int, []byte) [][]byte { return nil }}
	r := client(t, f)
	defer r.Close(t.Context())
	for _, b := range [][]byte{nil, {}, {2}, eapRequest, identityPacket(""), {2, 1, 0, 9, 1, 'a'}, identityPacket(strings.Repeat("a", 254)[:250])[:100]} {
		if _, err := conversation(r).Send(t.Context(), b); !errors.Is(err, errNoIdentity) {
			t.Errorf("%x: %v", b, err)
		}
	}
	if n := len(f.seen()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

// TestOverUDP has a server on a real socket, and one port where nothing listens.
func TestOverUDP(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Skip(err)
	}
	defer server.Close()
	go func() {
		buf := make([]byte, radius.MaxPacketLength)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(sealed(t, accept(t, buf[:n])), from)
		}
	}()
	gone, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	at := func(c net.PacketConn) Server {
		ap := c.LocalAddr().(*net.UDPAddr).AddrPort()
		return Server{Name: ap.String(), Addr: ap.Addr(), Port: ap.Port(), Acct: 9, Secret: []byte(fakeSecret)}
	}
	r := NewRADIUS(RADIUSConfig{Servers: []Server{at(gone), at(server)}, Timeout: time.Millisecond, Tries: 2})
	defer r.Close(t.Context())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got *Relayed
	for got == nil { // a slow machine may need more than a few milliseconds
		if ctx.Err() != nil {
			t.Fatal("a minute of tries")
		}
		got, _ = conversation(r).Send(ctx, identityPacket("alice"))
	}
	if got.Grant == nil {
		t.Fatal("no grant")
	}
}
