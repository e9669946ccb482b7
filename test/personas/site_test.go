package personas

import (
	"net/netip"
	"strings"
	"time"

	"martlet/crypto/pki"
)

// branchAddr is the other site's router, branchHost a host behind it, secondHost one in its second
// network.
var (
	branchAddr = netip.MustParseAddr("203.0.113.10")
	branchHost = netip.MustParseAddr("10.2.0.1")
	secondHost = netip.MustParseAddr("10.3.0.1")
)

// siteFile is a tunnel to another site; what is not said is the default.
const siteFile = `
[node]
listen = ["0.0.0.0"]
[connection.branch]
remote = ["203.0.113.10"]
keep = "manual"
#connection
[connection.branch.local]
auth = "psk"
secret = "` + psk + `"
[connection.branch.peer]
auth = "psk"
#children
`

// Children: one network on each side, two networks there in a child each or in one, and everything.
const (
	oneChild = `
[connection.branch.child.net]
local = ["10.1.0.0/16"]
remote = ["10.2.0.0/16"]
`
	twoChildren = oneChild + `
[connection.branch.child.second]
local = ["10.1.0.0/16"]
remote = ["10.3.0.0/16"]
`
	twoInOne = `
[connection.branch.child.net]
local = ["10.1.0.0/16"]
remote = ["10.2.0.0/16", "10.3.0.0/16"]
`
	anyToAny = `
[connection.branch.child.net]
local = ["0.0.0.0/0"]
remote = ["0.0.0.0/0"]
`
	anyRoutes = `routes = ["10.2.0.0/16"]`
)

// site starts our end of a tunnel between sites.
func (w *world) site(children string, lines ...string) *gateway {
	w.Helper()
	return w.start(strings.NewReplacer("#connection", strings.Join(lines, "\n"), "#children", children).Replace(siteFile))
}

// router is the other end, in the open.
func (w *world) router(d *device, g *gateway) *peer {
	w.Helper()
	p := w.peer(d, g, branchAddr, nil)
	p.id, p.psk, p.inside = pki.Addr(branchAddr), psk, branchHost
	p.serverID = pki.Addr(gatewayAddr)
	p.tsi, p.tsr = selectors("10.2.0.0/16"), selectors("10.1.0.0/16")
	return p
}

// called is the router when our side begins, which must go well.
func (p *peer) called() {
	p.w.Helper()
	done := make(chan error, 1)
	go func() { done <- p.g.Connect(p.w.Context(), "branch") }()
	p.respond(time.Now().Add(10 * time.Second))
	for range 100 {
		p.live(50 * time.Millisecond)
		select {
		case err := <-done:
			if err != nil {
				p.fails("our side: %v", err)
			}
			p.live(time.Second) // further children
			return
		default:
		}
	}
	p.fails("our side does not come up")
}

// bothRoles plays a day of a router that begins, and of one that is called.
func bothRoles(w *world, p *peer) {
	w.Helper()
	p.connect()
	survivesADay(p)
	p.called()
	survivesADay(p)
	p.connect()
	p.browses()
	p.hangUp()
}
