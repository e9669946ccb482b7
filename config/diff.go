package config

import (
	"reflect"
	"slices"
)

// SameSAs tells whether what was negotiated for c is as good for next: they differ at most in
// what an SA does not show (how it is kept up, how old it may be, routes) and in what proves
// identities, which counts when they are proven the next time (secrets, certificates, lists
// of revoked ones).
func (c *Connection) SameSAs(next *Connection) bool {
	return reflect.DeepEqual(c.negotiated(), next.negotiated())
}

// negotiated is a copy of c with what SameSAs looks at.
func (c *Connection) negotiated() *Connection {
	out := &Connection{
		Remote: c.Remote, From: c.From, Port: c.Port, LocalPort: c.LocalPort, IKE: c.IKE,
		Local: c.Local.who(), Peer: c.Peer.who(), Local2: c.Local2.who(), Peer2: c.Peer2.who(), EAPOnly: c.EAPOnly,
		Request: c.Request, Pool: c.Pool, Groups: c.Groups, DNS: c.DNS, Domains: c.Domains,
		Anchors: c.Anchors, TrustAnchorsFor: c.TrustAnchorsFor,
		NoMOBIKE: c.NoMOBIKE, Strict: c.Strict, PPKRequired: c.PPKRequired,
		Children: map[string]*Child{},
	}
	for name, x := range c.Children {
		out.Children[name] = &Child{
			ESP: x.ESP, LocalTS: x.LocalTS, RemoteTS: x.RemoteTS, LocalIsDyn: x.LocalIsDyn, RemoteIsDyn: x.RemoteIsDyn,
			Groups: x.Groups, TFC: x.TFC, ReplayWindow: x.ReplayWindow, Parallel: x.Parallel,
		}
	}
	return out
}

// who is a copy of a without what proves it.
func (a *Auth) who() Auth {
	return Auth{
		Auth: a.Auth, Identity: a.Identity, User: a.User, EAPID: a.EAPID, Inner: a.Inner, Methods: a.Methods,
		EAPServerName: a.EAPServerName, TLS: a.TLS, StripDomain: a.StripDomain,
	}
}

// NeedsRestart lists the keys in which next differs from c and which a running program cannot
// change: its device, ports, files, RADIUS servers, and ways into the tunnel.
func (c *Config) NeedsRestart(next *Config) []string {
	var out []string
	have, want := reflect.ValueOf(c.Node), reflect.ValueOf(next.Node)
	for i := range have.NumField() {
		key := have.Type().Field(i).Tag.Get("toml")
		if !slices.Contains([]string{"log_level", "revocation_hosts"}, key) && !reflect.DeepEqual(have.Field(i).Interface(), want.Field(i).Interface()) {
			out = append(out, join("node", key))
		}
	}
	for key, differs := range map[string]bool{
		"radius":        !reflect.DeepEqual(c.RADIUS, next.RADIUS),
		"proxy":         !reflect.DeepEqual(c.Proxies, next.Proxies),
		"forward":       !reflect.DeepEqual(c.Forwards, next.Forwards),
		"dns":           !reflect.DeepEqual(c.DNS, next.DNS),
		"userspace.map": !reflect.DeepEqual(c.Userspace.Mapped, next.Userspace.Mapped),
	} {
		if differs {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}
