package personas

import (
	"slices"
	"strings"
	"testing"
	"time"

	"martlet"
	"martlet/config"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// What the routers of clouds have in common. The order of their payloads is not told: the
// plain one; nor are vendor IDs: none.
func cloud(d device) *device {
	d.nonce, d.init = 32, "SA KE No NATD FRAG"
	d.auth = "IDi IDr AUTH SA TSi TSr INITIAL_CONTACT"
	return &d
}

// googleCloud puts all networks into one child [S]. Its fixed table of algorithms is not told: the
// best that both have. An IKE SA lives 36,000 s and a child 10,800 s [K]; at which part of that
// it replaces them is not told: nine tenths.
func googleCloud() *device {
	return cloud(device{
		name: "gcp", ike: []string{"aes256gcm16-aes128gcm16-prfsha256-prfsha384-ecp256-modp3072-modp4096"},
		esp:    []string{"aes256gcm16-aes128gcm16-ecp256-modp3072-modp4096"},
		ikeAge: 9 * time.Hour, childAge: 162 * time.Minute,
		narrow: func(p *peer, own, other []message.Selector) (a, b []message.Selector, ok bool) {
			return own, other, slices.Equal(own, p.tsi) && slices.Equal(other, p.tsr)
		},
	})
}

// amazon picks the lowest of its own list, whatever the peer likes [S]; whether an AEAD counts as
// higher is not told: it does. It replaces SAs at a random time within its margin: 540 s before
// the end, and up to once more [S]. Liveness after 40 s [S]. Everything goes through one child [S].
func amazon() *device {
	groups := "modp1024-modp2048-modp3072-modp4096-modp8192-ecp256-ecp384-ecp521-modp2048s256"
	integs := "sha1-sha256-sha384-sha512"
	d := cloud(device{
		name:   "aws",
		ike:    []string{"aes128-aes256-" + integs + "-" + groups, "aes128gcm16-aes256gcm16-prfsha1-prfsha256-prfsha384-prfsha512-" + groups},
		esp:    []string{"aes128-aes256-" + integs + "-" + groups, "aes128gcm16-aes256gcm16-" + groups},
		ikeAge: 28800 * time.Second, childAge: 3600 * time.Second, margin: 540 * time.Second,
		ikeEdge: 28800 * time.Second, childEdge: 3600 * time.Second,
		liveness: 40 * time.Second,
	})
	return d
}

// azure has the stock policy of Virtual WAN: MODP-1024 only, ESP without PFS where it begins; it takes
// groups 1, 2, 14 and 24 where it is called [S]. The IKE SA ends after 28,800 s, and it is for
// the other side to replace it before [S]; a child lives 3,600 s [S] here, and is replaced after
// 55 minutes, which is not told. Route-based: any to any [S].
func azure() *device {
	ciphers := []string{"aes256gcm16", "aes256-sha1", "aes256-sha256", "aes128-sha1"}
	d := cloud(device{
		name: "azure", ike: []string{"aes256-sha1-modp1024", "aes256-sha256-modp1024", "aes128-sha1-modp1024", "aes128-sha256-modp1024"},
		esp:      ciphers,
		childAge: 55 * time.Minute, childEdge: time.Hour, ikeEdge: 8 * time.Hour,
		liveness: 45 * time.Second, // [K]
	})
	for _, x := range ciphers {
		d.picksESP = append(d.picksESP, x+"-modp1024-modp2048-modp2048s256")
	}
	return d
}

// everywhere makes a router ask for everything.
func everywhere(p *peer) *peer {
	p.tsi, p.tsr = selectors("0.0.0.0/0"), selectors("0.0.0.0/0")
	return p
}

func TestGoogleCloudHasOneChildForAll(t *testing.T) {
	t.Parallel()
	all := func(w *world) *peer {
		p := w.router(googleCloud(), w.site(`
[connection.branch.child.net]
local = ["10.1.0.0/16", "10.9.0.0/16"]
remote = ["10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"]
`))
		p.tsi, p.tsr = selectors("10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"), selectors("10.1.0.0/16", "10.9.0.0/16")
		return p
	}
	inBubble(t, func(w *world) { bothRoles(w, all(w)) })
	inBubble(t, func(w *world) {
		p := all(w)
		p.connect()
		p.live(13 * time.Hour)
		if c := p.kids[0]; !slices.Equal(c.own, p.tsi) || !slices.Equal(c.other, p.tsr) {
			t.Errorf("after rekeys the child is for %v and %v", c.own, c.other)
		}
		p.talks(secondHost, serverAddr)
	})
}

func TestAmazon(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		bothRoles(w, everywhere(w.router(amazon(), w.site(anyToAny, anyRoutes))))
	})
}

// What it picks is the weakest of what we offer; so that must be strong.
func TestAmazonPicksTheWeakest(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		p := everywhere(w.router(amazon(), w.site(anyToAny, anyRoutes)))
		p.called()
		p.g.Rekey(w.Context(), "branch", "net")
		p.live(time.Second)
		for _, x := range []suite.Suite{p.sa.suite, p.kids[len(p.kids)-1].suite} {
			if len(x.Proposal().Weak()) > 0 || x.Encr.ID != suite.EncrAESGCM16 || x.KE.ID != 0 && x.KE.ID < suite.KEMODP3072 {
				t.Errorf("AWS gets %v", x)
			}
		}
		if p.sa.suite.Encr.KeyLen != 128 || p.sa.suite.KE.ID != suite.KEMODP3072 {
			t.Errorf("the emulator picks %v, which is not the weakest", p.sa.suite)
		}
	})
}

func TestSimultaneousRekey_R20(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		p := everywhere(w.router(amazon(), w.site(anyToAny, anyRoutes)))
		p.connect()
		for range 10 {
			p.live(10 * time.Minute)
			done := make(chan error, 1)
			go func() { done <- p.g.Rekey(w.Context(), "branch", "net") }()
			p.rekeyChild(p.kids[0])
			p.live(10 * time.Second)
			if err := <-done; err != nil {
				t.Errorf("our own: %v", err)
			}
			if len(p.kids) != 1 || len(p.g.sa().Children) != 1 {
				t.Fatalf("%d children, %d at the gateway", len(p.kids), len(p.g.sa().Children))
			}
			p.browses()
		}
		if p.childRekeys < 5 {
			t.Errorf("only %d of ten were at the same time", p.childRekeys)
		}
	})
}

// Ours begins well before the edge, and no two days are alike.
func TestRekeyBeforeTheEdgeWithJitter_R20(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		d := azure()
		d.childAge = 0 // it leaves it to us
		p := everywhere(w.router(d, w.site(anyToAny, anyRoutes, `legacy = "old-cloud"`)))
		p.called()
		since := map[time.Duration]bool{}
		last := p.kids[0].since
		for range 200 {
			p.live(10 * time.Minute)
			if at := p.kids[len(p.kids)-1].since; at != last {
				since[at.Sub(last).Round(time.Second)] = true
				last = at
			}
		}
		if len(since) < 10 {
			t.Errorf("the ages of children are %v", since)
		}
		for age := range since {
			if age > time.Hour {
				t.Errorf("a child was replaced after %v", age)
			}
		}
	})
}

func TestAzureIsRefusedWithTheFix(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		g := w.site(anyToAny, anyRoutes)
		p := everywhere(w.router(azure(), g))
		if n := p.initiate(); n == nil || n.Notify != message.NoProposalChosen {
			t.Fatalf("answer %v", n)
		}
		if hint := g.hint("New-AzIpsecPolicy"); !strings.Contains(hint, "old-cloud") || strings.Contains(hint, "Windows") {
			t.Errorf("the gateway says %q", hint)
		}
	})
}

func TestAzureComesInByLegacy(t *testing.T) {
	t.Parallel()
	inBubble(t, func(w *world) {
		g := w.site(anyToAny, anyRoutes, `legacy = "old-cloud"`)
		if !slices.ContainsFunc(g.Config.Warnings, func(x config.Warning) bool { return strings.Contains(x.Text, "Azure") }) {
			t.Error("nobody is warned")
		}
		bothRoles(w, everywhere(w.router(azure(), g)))
		if n := g.count(martlet.EventRekeyed); n < 40 {
			t.Errorf("SAs were replaced %d times", n)
		}
	})
}
