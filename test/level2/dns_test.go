package level2

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestDomainsOfTheResolversReachTheClient(t *testing.T) {
	inBubble(t, 90, func(w *world) {
		g := gatewayConfig()
		g.Connections["clients"].Domains = []string{"corp.example", "lab.example"}
		w.gateway(g)
		client := w.client(clientConfig())
		client.connect()
		sa := client.sa()
		if !slices.Equal(sa.Domains, []string{"corp.example", "lab.example"}) || !slices.Equal(sa.DNS, []netip.Addr{serverAddr}) {
			w.Errorf("domains %v, resolvers %v", sa.Domains, sa.DNS)
		}
	})
}

func TestDomainsNeedResolvers(t *testing.T) {
	g := gatewayConfig()
	g.Connections["clients"].DNS, g.Connections["clients"].Domains = nil, []string{"corp.example", "not a name"}
	if err := g.Complete(); err == nil {
		t.Error("domains without resolvers, one of them no name, are fine")
	}
}

const rootDS = "20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"

// RFC 8598 §6: the client gets the trust anchors of those domains for which its own file says so.
func TestTrustAnchorsReachTheClient(t *testing.T) {
	inBubble(t, 91, func(w *world) {
		g, c := gatewayConfig(), clientConfig()
		g.Connections["clients"].Domains = []string{"corp.example", "bank.test"}
		g.Connections["clients"].TrustAnchors = []string{"corp.example. " + rootDS, "bank.test " + rootDS}
		c.Connections["office"].TrustAnchorsFor = []string{"example"}
		w.gateway(g)
		client := w.client(c)
		client.connect()
		if got := client.sa().Anchors; !slices.Equal(got, []string{"corp.example. IN DS " + rootDS}) {
			w.Errorf("trust anchors %v", got)
		}
	})
}

func TestTrustAnchorsAreChecked(t *testing.T) {
	for text, why := range map[string]string{
		"corp.example 20326 8 2":                  "want a domain",
		"corp_.example/ " + rootDS:                "no domain",
		"other.example " + rootDS:                 "none of domains",
		"corp.example 70000 8 2 " + rootDS[10:]:   "numbers",
		"corp.example 20326 8 1 " + rootDS[10:50]: "digest type 1",
		"corp.example " + rootDS[:60]:             "64 hexadecimal digits",
	} {
		g := gatewayConfig()
		g.Connections["clients"].Domains, g.Connections["clients"].TrustAnchors = []string{"corp.example"}, []string{text}
		if err := g.Complete(); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v, want %q", text, err, why)
		}
	}
	c := clientConfig()
	c.Connections["office"].TrustAnchorsFor = []string{".", "corp.example"}
	if err := c.Complete(); err == nil || strings.Contains(err.Error(), "corp.example") {
		t.Errorf("trust anchors for the root: %v", err)
	}
}
