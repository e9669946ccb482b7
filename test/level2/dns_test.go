package level2

import (
	"net/netip"
	"slices"
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
