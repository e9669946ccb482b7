package probe

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

func names(of []suite.Transform) string {
	var out []string
	for _, t := range of {
		out = append(out, t.String())
	}
	return strings.Join(out, " ")
}

// What a gateway takes is found, whatever its policy, in its own order of groups, and next to
// nothing is left there.
func TestSurvey(t *testing.T) {
	intermediate := []message.Payload{&message.Notify{Notify: message.IntermediateExchangeSupported}}
	for name, tt := range map[string]struct {
		accept                              []string
		says                                []message.Payload
		chosen                              string // of our default
		groups, ciphers, hashes, additional string
		weak                                []string
	}{
		"modern": {
			accept:  []string{"aes256gcm16-aes128gcm16-prfsha384-prfsha256-ecp384-x25519"},
			chosen:  "aes256gcm16-prfsha384-ecp384",
			groups:  "ecp384 x25519",
			ciphers: "aes256gcm16 aes128gcm16", hashes: "sha256 sha384",
		},
		"post-quantum": {
			accept:  []string{"aes256gcm16-prfsha256-x25519-ke1_mlkem1024", "aes256gcm16-prfsha256-x25519"},
			says:    intermediate,
			chosen:  "aes256gcm16-prfsha256-x25519-ke1_mlkem1024",
			groups:  "x25519",
			ciphers: "aes256gcm16", hashes: "sha256", additional: "mlkem1024",
		},
		"Windows as it is installed": {
			accept:  []string{"aes256-sha1-modp1024", "aes128-sha1-modp1024"},
			groups:  "modp1024",
			ciphers: "aes256 aes128", hashes: "sha1",
			weak: []string{"modp1024: ", "sha1: "},
		},
		"SHA-1 for integrity only": {
			accept:  []string{"aes128-sha1-prfsha256-modp2048"},
			groups:  "modp2048",
			ciphers: "aes128", hashes: "sha256 sha1",
			weak: []string{"sha1: "},
		},
		"nothing that we know": {accept: []string{"aes256ctr-sha256-x25519"}},
	} {
		g := &gateway{t: t, says: tt.says}
		for _, s := range tt.accept {
			g.accept = append(g.accept, proposal(t, s))
		}
		s := Take(ours.Offer, g.ask)
		chosen := ""
		if s.Own != nil {
			chosen = s.Own.String()
		}
		if chosen != tt.chosen {
			t.Errorf("%s: of our default it chose %q, want %q", name, chosen, tt.chosen)
		}
		for _, x := range []struct{ what, got, want string }{
			{"groups", names(s.Groups), tt.groups},
			{"ciphers", names(s.Ciphers), tt.ciphers},
			{"hashes", names(s.Hashes), tt.hashes},
			{"additional", names(s.Additional), tt.additional},
		} {
			if x.got != x.want {
				t.Errorf("%s: %s %q, want %q", name, x.what, x.got, x.want)
			}
		}
		weak := s.Weak()
		if len(weak) != len(tt.weak) {
			t.Errorf("%s: weak %q, want %q", name, weak, tt.weak)
		}
		for i, prefix := range tt.weak {
			if i < len(weak) && !strings.HasPrefix(weak[i], prefix) {
				t.Errorf("%s: weak %q, want %q", name, weak[i], prefix)
			}
		}
		if opens := 1; tt.groups != "" && (s.Described == nil || g.halfOpen != opens) || g.asked > 25 {
			t.Errorf("%s: %d questions left %d half-open SAs, described %v", name, g.asked, g.halfOpen, s.Described)
		}
		if len(s.Open) > 0 {
			t.Errorf("%s: left open: %q", name, s.Open)
		}
	}
}

// A gateway that takes everything is the one that is asked most.
func TestSurveyIsBounded(t *testing.T) {
	g := &gateway{
		t: t, accept: slices.Concat(offer(everything(), askedGroups[:len(askedGroups)-1])),
		says: []message.Payload{&message.Notify{Notify: message.IntermediateExchangeSupported}},
	}
	s := Take(ours.Offer, g.ask)
	if g.asked > 25 || g.halfOpen != 1 {
		t.Errorf("%d questions left %d half-open SAs", g.asked, g.halfOpen)
	}
	if got, want := names(s.Groups), "x25519 ecp256 ecp384 ecp521 modp2048 modp3072 modp4096 modp1536 modp1024"; got != want {
		t.Errorf("groups %s, want %s", got, want)
	}
}

// Who takes MODP-768 keeps an SA for each question: no more are put.
func TestDecoyTaken(t *testing.T) {
	g := &gateway{t: t, accept: offer(everything(), []uint16{Decoy, suite.KEX25519})}
	s := Take(ours.Offer, g.ask)
	if got := names(s.Groups); got != "modp768" || g.halfOpen != 2 {
		t.Errorf("groups %q, %d half-open SAs", got, g.halfOpen)
	}
	if len(s.Open) == 0 || len(s.Weak()) != 1 || !strings.HasPrefix(s.Weak()[0], "modp768: ") {
		t.Errorf("open %q, weak %q", s.Open, s.Weak())
	}
}

func TestSurveyMeets(t *testing.T) {
	modern := []suite.Proposal{proposal(t, "aes256gcm16-prfsha256-x25519")}
	t.Run("a cookie", func(t *testing.T) {
		g := &gateway{t: t, accept: modern, cookie: []byte("show me")}
		if s := Take(ours.Offer, g.ask); s.Own == nil || g.halfOpen != 1 {
			t.Errorf("%+v, %d half-open", s, g.halfOpen)
		}
	})
	t.Run("a redirect", func(t *testing.T) {
		to, _ := message.ParseGatewayID("gw2.example.com")
		g := &gateway{t: t, accept: modern, to: to}
		if s := Take(ours.Offer, g.ask); s.Gateway != to || s.Own == nil || names(s.Groups) != "x25519" {
			t.Errorf("%+v", s)
		}
	})
	t.Run("silence", func(t *testing.T) {
		g := &gateway{t: t, silent: func(Question) bool { return true }}
		if s := Take(ours.Offer, g.ask); g.asked != maxSilences || s.Described != nil || len(s.Groups) > 0 {
			t.Errorf("%d questions, %+v", g.asked, s)
		}
	})
	t.Run("silence in place of a refusal", func(t *testing.T) {
		g := &gateway{t: t, accept: modern}
		g.silent = func(q Question) bool {
			_, err := suite.Select(q.Offer, modern, false)
			return err != nil
		}
		s := Take(ours.Offer, g.ask)
		if names(s.Groups) != "x25519" || s.Own == nil || len(s.Open) == 0 {
			t.Errorf("%+v", s)
		}
	})
}

// The two hashes tell on which side a NAT is (RFC 7296 §2.23).
func TestNAT(t *testing.T) {
	elsewhere := netip.MustParseAddrPort("203.0.113.9:1024")
	for name, tt := range map[string]struct {
		seen, own netip.AddrPort
		want      NAT
	}{
		"none":  {want: NAT{Told: true}},
		"here":  {seen: elsewhere, want: NAT{Told: true, Here: true}},
		"there": {own: elsewhere, want: NAT{Told: true, There: true}},
		"both":  {elsewhere, elsewhere, NAT{Told: true, Here: true, There: true}},
	} {
		g := &gateway{t: t, accept: []suite.Proposal{proposal(t, "aes256gcm16-prfsha256-x25519")}, seen: tt.seen, own: tt.own}
		if s := Take(ours.Offer, g.ask); s.Described == nil || s.Described.NAT != tt.want {
			t.Errorf("%s: %+v", name, s.Described)
		}
	}
}
