package martlet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"martlet/ike"
	"martlet/ike/aaa"
)

// login is a peer that authenticates at a RADIUS server.
type login struct {
	session      string
	conversation *aaa.Conversation
	ctx          context.Context // ends with the SA
	cancel       context.CancelFunc
	grant        *aaa.Grant // once it has succeeded
}

// openRADIUS makes the client of the servers that the file names, and opens the sockets for
// their orders.
func (n *Node) openRADIUS() error {
	r, c := n.peers, n.conf().RADIUS
	if len(c.Servers) == 0 || !n.Serve {
		return nil
	}
	var servers []aaa.Server
	for _, name := range slices.Sorted(maps.Keys(c.Servers)) {
		s := c.Servers[name]
		servers = append(servers, aaa.Server{Name: name, Addr: s.Address, Port: s.Port, Acct: s.AccountingPort, Secret: s.Secret.Value})
	}
	log := n.log.Named("radius")
	r.radius = aaa.NewRADIUS(aaa.RADIUSConfig{
		Servers: servers, NASIdentifier: c.NASIdentifier,
		Timeout: time.Duration(c.Timeout), Tries: c.Tries, DeadTime: time.Duration(c.DeadTime), Log: log,
	})
	if r.accounts() {
		r.radius.Account(aaa.Record{Kind: aaa.RecordOn, At: time.Now()})
	}
	if c.DAEPort == 0 {
		return nil
	}
	for _, addr := range n.conf().Node.Listen {
		network := "udp6"
		if addr.Is4() {
			network = "udp4"
		}
		conn, err := (&net.ListenConfig{}).ListenPacket(n.ctx, network, net.JoinHostPort(addr.String(), strconv.Itoa(int(c.DAEPort))))
		if err != nil {
			return &Error{
				Code: ike.CodeHost, What: fmt.Sprintf("orders of RADIUS servers cannot be taken on %v port %d", addr, c.DAEPort),
				Why: err.Error(), Hint: "set radius.dae_port to another one, or node.listen to addresses of this host",
			}
		}
		r.orders = append(r.orders, aaa.NewOrders(conn, aaa.OrdersConfig{
			Servers: servers, NASIdentifier: c.NASIdentifier, RequireTimestamp: c.DAETimestamp, Obey: r.obey, Log: log,
		}))
	}
	return nil
}

// closeWithin is how long the end of a Node waits for the servers to take the last records.
const closeWithin = 2 * time.Second

// close ends all sessions and tells the servers.
func (r *registry) close() {
	for _, o := range r.orders {
		o.Close()
	}
	r.mu.Lock()
	r.closed = true
	for _, g := range r.in {
		g.session.ending = aaa.CauseNASReboot
		r.depart(g)
	}
	for sa := range r.logins {
		r.forgetLogin(sa)
	}
	r.mu.Unlock()
	if r.radius == nil {
		return
	}
	if r.accounts() {
		r.radius.Account(aaa.Record{Kind: aaa.RecordOff, At: time.Now()})
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	r.radius.Close(ctx)
}

// relay passes an EAP packet of a peer on and returns what a server says.
func (r *registry) relay(l *login, packet []byte) ike.Relayed {
	if l == nil {
		return ike.Relayed{Err: errors.New("martlet: no RADIUS server is configured")}
	}
	got, err := l.conversation.Send(l.ctx, packet)
	if rejected, ok := errors.AsType[*aaa.RejectedError](err); ok {
		r.log.Info("RADIUS rejects a peer", zap.String("server", rejected.Server), zap.String("user", rejected.User), zap.String("reply", rejected.Text))
		return ike.Relayed{Packet: rejected.EAP, Reject: true}
	}
	if err != nil {
		return ike.Relayed{Err: err}
	}
	out := ike.Relayed{Packet: got.EAP, Accept: got.Grant != nil, MSK: got.MSK}
	if got.Grant != nil {
		out.Identity = got.Grant.User
		r.mu.Lock()
		l.grant = got.Grant
		r.mu.Unlock()
	}
	return out
}

// login finds or begins the login of a peer; nil without RADIUS.
func (r *registry) login(ctx context.Context, q ike.Relay) *login {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.radius == nil || r.closed {
		return nil
	}
	l := r.logins[q.SA]
	if l == nil {
		name := r.newSession()
		l = &login{session: name, conversation: r.radius.Authenticate(callerOf(name, q.Connection, q.Path))}
		l.ctx, l.cancel = context.WithCancel(ctx)
		r.logins[q.SA] = l
	}
	return l
}

// forgetLogin ends a login that has not become a guest; it wants mu.
func (r *registry) forgetLogin(sa ike.SAID) {
	if l := r.logins[sa]; l != nil {
		l.cancel()
		delete(r.logins, sa)
	}
}

// grant gives a guest what its login at a RADIUS server brought; it wants mu.
func (r *registry) grant(g *guest) {
	l := r.logins[g.sa]
	if l == nil {
		g.session.name = r.newSession()
		return
	}
	g.session.name = l.session
	if l.grant != nil {
		g.grant, g.groups, g.addresses = l.grant, l.grant.Groups, l.grant.Addresses
	}
	r.forgetLogin(g.sa)
}

// obey carries out an order of a RADIUS server and returns how many sessions it met.
func (r *registry) obey(o aaa.Order) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	met := 0
	for _, g := range r.in {
		if g.session.began.IsZero() || !g.meant(o.Match) {
			continue
		}
		met++
		if o.Disconnect {
			g.session.ending = aaa.CauseAdminReset
			r.endLocked(g, ike.Terminate{Reason: "a RADIUS server says so (Disconnect-Request)"})
		} else {
			r.limit(g, o.SessionTimeout)
		}
	}
	return met
}

// meant tells whether a guest is one of those that a server means.
func (g *guest) meant(m aaa.Match) bool {
	s := &g.session
	return (m.User == "" || m.User == userOf(g)) &&
		(m.Session == "" || m.Session == s.name) &&
		(m.Calling == "" || m.Calling == g.caller().Peer.WithZone("").String()) &&
		!slices.ContainsFunc(m.Addresses, func(a netip.Addr) bool { return !slices.Contains(s.addresses, a) })
}
