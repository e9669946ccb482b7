package martlet

import (
	"crypto/tls"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"martlet/config"
	"martlet/crypto/pki"
	"martlet/esp"
	"martlet/ike"
	"martlet/ike/eap"
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
		Anchored:         c.TrustAnchorsFor,
		RequestIPv4:      slices.Contains(c.Request, "ipv4"),
		RequestIPv6:      slices.Contains(c.Request, "ipv6"),
		Lease:            len(c.Pool) > 0 || c.Peer.Auth == "eap-radius" || c.Peer2.Auth == "eap-radius",
		Liveness:         never(c.Liveness),
		Keepalive:        never(c.Keepalive),
		Rekey:            time.Duration(c.Rekey),
		Reauth:           time.Duration(c.Reauth),
		Lifetime:         time.Duration(c.Lifetime),
		FragmentSize:     c.FragmentSize,
		Streams:          streamsOf(c.TCP),
		NoMOBIKE:         c.NoMOBIKE,
		PPKRequired:      c.PPKRequired,
		StrictSignatures: c.Strict,
		EAPOnly:          c.EAPOnly,
		IgnoreRedirects:  c.IgnoreRedirects,
		Childless:        childlessOf(c.Childless),
		Tickets:          max(0, time.Duration(c.Tickets)),
		RedirectLate:     c.RedirectIn == "auth",
	}
	if c.Redirect != "" {
		conn.Redirect, _ = message.ParseGatewayID(c.Redirect)
	}
	for _, name := range slices.Sorted(maps.Keys(c.PPKs)) {
		conn.PPKs = append(conn.PPKs, ike.PPK{ID: name, Key: c.PPKs[name].Secret.Value})
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
			Rekey:         time.Duration(child.Rekey),
			Lifetime:      time.Duration(child.Lifetime),
			RekeyBytes:    child.RekeyBytes,
			RekeyPackets:  child.RekeyPackets,
			Window:        child.ReplayWindow,
			TFC:           child.TFC,
			CopyDSCP:      child.CopyDSCP,
			KeepMSS:       child.KeepMSS,
			Parallel:      child.Parallel,
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

func streamsOf(word string) ike.Streams {
	switch word {
	case config.TCPAuto:
		return ike.StreamsFallback
	case config.TCPAlways:
		return ike.StreamsAlways
	}
	return ike.StreamsNever
}

func childlessOf(word string) ike.Childless {
	switch word {
	case "prefer":
		return ike.ChildlessPrefer
	case "force":
		return ike.ChildlessForce
	case "never":
		return ike.ChildlessNever
	}
	return ike.ChildlessAllow
}

func methodOf(name string) ike.AuthMethod {
	switch {
	case name == "cert":
		return ike.AuthCert
	case strings.HasPrefix(name, "eap"):
		return ike.AuthEAP
	}
	return ike.AuthPSK
}

// pskOf is the secret of a connection, on whichever side it stands. With EAP it is a password.
func pskOf(c *config.Connection) config.Secret {
	if methodOf(c.Local.Auth) == ike.AuthPSK {
		return c.Local.Secret
	}
	return c.Peer.Secret
}

func localOf(c *config.Connection) ike.Local {
	l := localRound(c, &c.Local)
	l.PSK = pskOf(c).Value
	if c.Local2.IsSet() {
		second := localRound(c, &c.Local2)
		second.PSK = c.Local2.Secret.Value
		l.Next = &second
	}
	return l
}

// localRound is our proof in one round, without a pre-shared key.
func localRound(c *config.Connection, a *config.Auth) ike.Local {
	l := ike.Local{
		Method:      methodOf(a.Auth),
		ID:          a.Identity,
		Credentials: a.Credentials,
		// Phones verify nothing but PKCS#1 v1.5 (Android), other peers take PSS.
		PKCS1: len(c.Remote) == 0 && len(c.Pool) > 0,
	}
	if l.Method == ike.AuthEAP {
		l.EAP = ike.EAPPeer{
			Identity: a.EAPID, User: a.User, Password: a.Secret.Value,
			Methods: eapTypes(a.Methods), Inner: eapTypes(a.Inner),
			Verifier: a.EAPVerifier, ServerName: a.EAPServerName,
		}
		l.EAP.MinTLS, l.EAP.MaxTLS = tlsVersions(a.TLS)
		if l.EAP.Identity == "" && a.User == "" && slices.Equal(a.Methods, []string{"tls"}) && len(a.Credentials) > 0 {
			// A AAA server wants a name before it sees the certificate (RFC 3579 §2.1).
			l.EAP.Identity = nameOf(pki.IdentityOf(a.Credentials[0].Cert))
		}
	}
	return l
}

// nameOf is an identity as the name of a user.
func nameOf(id pki.Identity) string {
	if id.Type == pki.IDFQDN || id.Type == pki.IDRFC822Addr {
		return id.Data
	}
	return id.String()
}

func remoteOf(c *config.Connection) ike.Remote {
	r := remoteRound(c, &c.Peer)
	r.PSK = pskOf(c).Value
	if c.Peer2.IsSet() {
		second := remoteRound(c, &c.Peer2)
		second.PSK = c.Peer2.Secret.Value
		r.Next = &second
	}
	return r
}

// remoteRound is what the peer has to prove in one round, without a pre-shared key.
func remoteRound(c *config.Connection, a *config.Auth) ike.Remote {
	r := ike.Remote{
		Method:     methodOf(a.Auth),
		ID:         a.Identity,
		Verifier:   a.Verifier,
		Purpose:    pki.ClientAuth,
		Revocation: a.Policy,
	}
	if r.Method == ike.AuthEAP {
		r.EAP = ike.EAPServer{
			Methods: eapTypes(a.Methods), Inner: eapTypes(a.Inner), Relay: a.Auth == "eap-radius",
			StripDomain: a.StripDomain, Credentials: c.Local.Credentials, Verifier: a.Verifier,
		}
		r.EAP.MinTLS, r.EAP.MaxTLS = tlsVersions(a.TLS)
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

// eapTypes are the EAP methods of words that package config has checked.
func eapTypes(words []string) []eap.Type {
	var out []eap.Type
	for _, w := range words {
		if t, err := eap.ParseType(w); err == nil {
			out = append(out, t)
		}
	}
	return out
}

// tlsVersions are the bounds in crypto/tls's numbers; 0 is no bound.
func tlsVersions(word string) (lowest, highest uint16) {
	switch word {
	case "1.2":
		return tls.VersionTLS12, tls.VersionTLS12
	case "1.3":
		return tls.VersionTLS13, tls.VersionTLS13
	}
	return 0, 0
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

// halfOpenOf is what peers may cost that have not proven who they are. In a configuration
// that was built by hand all of it is zero, and stands for the defaults.
func halfOpenOf(c *config.Config) ike.HalfOpen {
	n := &c.Node
	if n.Cookies == 0 && n.CookiesSource == 0 && n.Puzzles == 0 && n.PuzzlesSource == 0 {
		return ike.HalfOpen{Total: n.HalfOpen, PrefixVerified: n.HalfOpenSource}
	}
	from := func(count int) int {
		if count == 0 {
			return -1
		}
		return count
	}
	return ike.HalfOpen{
		Total: n.HalfOpen, PrefixVerified: n.HalfOpenSource,
		CookieTotal: from(n.Cookies), CookiePrefix: from(n.CookiesSource),
		PuzzleTotal: from(n.Puzzles), PuzzlePrefix: from(n.PuzzlesSource),
	}
}

// anchorsOf are the trust anchors that peers of a connection are told.
func anchorsOf(c *config.Connection) []ike.TrustAnchor {
	var out []ike.TrustAnchor
	for _, a := range c.Anchors {
		out = append(out, ike.TrustAnchor{Domain: a.Domain, DS: message.DS{KeyTag: a.KeyTag, Algorithm: a.Algorithm, DigestType: a.DigestType, Digest: a.Digest}})
	}
	return out
}
