package martlet

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"martlet/config"
	"martlet/crypto/pki"
	"martlet/esp"
	"martlet/ike"
	"martlet/ike/message"
)

// connectionsOf says in the engine's words what the configuration says, in the order of
// names.
func connectionsOf(c *config.Config, serve bool) []*ike.Connection {
	var out []*ike.Connection
	for _, name := range slices.Sorted(maps.Keys(c.Connections)) {
		out = append(out, connectionOf(c.Connections[name], serve))
	}
	return out
}

func connectionOf(c *config.Connection, serve bool) *ike.Connection {
	conn := &ike.Connection{
		Name:             c.Name,
		From:             c.From,
		Respond:          serve,
		Proposals:        c.IKE,
		Local:            localOf(c),
		Remote:           remoteOf(c),
		RequestIPv4:      slices.Contains(c.Request, "ipv4"),
		RequestIPv6:      slices.Contains(c.Request, "ipv6"),
		Lease:            len(c.Pool) > 0,
		Liveness:         never(c.Liveness),
		Keepalive:        never(c.Keepalive),
		FragmentSize:     c.FragmentSize,
		NoMOBIKE:         c.NoMOBIKE,
		StrictSignatures: c.Strict,
		IgnoreRedirects:  c.IgnoreRedirects,
		RedirectLate:     c.RedirectIn == "auth",
	}
	if c.Redirect != "" {
		conn.Redirect, _ = message.ParseGatewayID(c.Redirect)
	}
	if len(conn.From) == 0 && len(c.Remote) > 0 {
		conn.From = literals(c.Remote)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Children)) {
		child := c.Children[name]
		conn.Children = append(conn.Children, &ike.ChildConfig{
			Name:          child.Name,
			Proposals:     child.ESP,
			Local:         messageSelectors(child.LocalTS),
			Remote:        messageSelectors(child.RemoteTS),
			LocalDynamic:  child.LocalIsDyn,
			RemoteDynamic: child.RemoteIsDyn,
			Window:        child.ReplayWindow,
			OnRequest:     child.Keep == config.KeepOnDemand || child.Keep == config.KeepManual,
		})
	}
	return conn
}

// literals are the prefixes of the remotes that are addresses; none if any is a name,
// since its addresses may change.
func literals(remotes []string) []netip.Prefix {
	var out []netip.Prefix
	for _, r := range remotes {
		addr, err := netip.ParseAddr(r)
		if err != nil {
			return nil
		}
		out = append(out, netip.PrefixFrom(addr, addr.BitLen()))
	}
	return out
}

// never turns the configuration's 0 ("never") into the engine's.
func never(d config.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return time.Duration(d)
}

func methodOf(name string) ike.AuthMethod {
	if name == "cert" {
		return ike.AuthCert
	}
	return ike.AuthPSK
}

// pskOf is the secret of a connection, on whichever side it stands.
func pskOf(c *config.Connection) config.Secret {
	if len(c.Local.Secret.Value) > 0 {
		return c.Local.Secret
	}
	return c.Peer.Secret
}

func localOf(c *config.Connection) ike.Local {
	return ike.Local{
		Method:      methodOf(c.Local.Auth),
		ID:          c.Local.Identity,
		PSK:         pskOf(c).Value,
		Credentials: c.Local.Credentials,
		// Phones verify nothing but PKCS#1 v1.5 (Android), other peers take PSS.
		PKCS1: len(c.Remote) == 0 && len(c.Pool) > 0,
	}
}

func remoteOf(c *config.Connection) ike.Remote {
	r := ike.Remote{
		Method:     methodOf(c.Peer.Auth),
		ID:         c.Peer.Identity,
		PSK:        pskOf(c).Value,
		Verifier:   c.Peer.Verifier,
		Purpose:    pki.ClientAuth,
		Revocation: c.Peer.Policy,
	}
	if len(c.Remote) > 0 {
		r.Purpose = pki.ServerAuth
		// Whom we call by name must be that name, unless the file says otherwise.
		if r.ID.IsZero() && r.Method == ike.AuthCert && len(c.Remote) == 1 && len(r.Verifier.Keys) == 0 {
			r.ID, _ = pki.ParseIdentity(c.Remote[0])
		}
	}
	return r
}

func messageSelectors(in []config.Selector) []message.Selector {
	out := make([]message.Selector, len(in))
	for i, s := range in {
		out[i] = message.Selector(s)
	}
	return out
}

func espSelectors(in []message.Selector) []esp.Selector {
	out := make([]esp.Selector, len(in))
	for i, s := range in {
		out[i] = esp.Selector(s)
	}
	return out
}

func selectorsText(in []message.Selector) string {
	text := make([]string, len(in))
	for i, s := range in {
		text[i] = s.String()
	}
	return strings.Join(text, " ")
}

// prefixesOf is what selectors cover, ports and protocols left aside.
func prefixesOf(in []message.Selector) []netip.Prefix {
	var out []netip.Prefix
	seen := map[netip.Prefix]bool{}
	for _, s := range in {
		for _, p := range s.Prefixes() {
			if !seen[p] {
				seen[p] = true
				out = append(out, p)
			}
		}
	}
	return out
}
