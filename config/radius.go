package config

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
)

// radius checks the AAA servers.
func (f *faults) radius(c *Config) {
	r := &c.RADIUS
	fillZero(reflect.ValueOf(r).Elem())
	f.inRanges(reflect.ValueOf(r).Elem(), "radius")
	for _, wait := range []struct {
		key string
		d   Duration
	}{{"timeout", r.Timeout}, {"dead_time", r.DeadTime}} {
		if wait.d < 0 {
			f.add(join("radius", wait.key), "must be more than nothing", `"1s"`)
		}
	}
	if len(r.NASIdentifier) > 253 {
		f.add("radius.nas_identifier", "has more than 253 octets", "")
	}
	from := map[netip.Addr]string{}
	for _, name := range slices.Sorted(maps.Keys(r.Servers)) {
		path, s := join("radius.server", name), r.Servers[name]
		if s == nil {
			f.add(path, "the server is nil", "")
			continue
		}
		s.Name = name
		f.name(path, name)
		fillZero(reflect.ValueOf(s).Elem())
		if key := join(path, "address"); !f.has(key) {
			switch other, ok := from[s.Address]; {
			case !s.Address.IsValid():
				f.add(key, "is missing", `address = "10.0.0.5"`)
			case s.Address.IsUnspecified():
				f.add(key, fmt.Sprintf("%v is no server", s.Address), "")
			case ok && r.DAEPort != 0 && !slices.Equal(s.Secret.Value, r.Servers[other].Secret.Value):
				f.add(key, "is that of server "+other+", which has another secret", "orders that come from there cannot be told apart; leave dae_port out, or give them one secret")
			}
			from[s.Address] = name
		}
		switch key := join(path, "secret"); {
		case f.has(key):
		case len(s.Secret.Value) == 0:
			f.add(key, "is missing", `secret = "file:radius.secret"`)
		case len(s.Secret.Value) < 16:
			f.warn(key, fmt.Sprintf("the secret has %d octets and can be guessed by whoever sees a packet; RFC 2865 wants 16 or more", len(s.Secret.Value)))
		}
	}
	if len(r.Servers) > 0 || f.has("radius.server") {
		return
	}
	for _, needs := range []struct {
		key string
		set bool
	}{{"accounting", r.Accounting}, {"dae_port", r.DAEPort != 0}} {
		if needs.set {
			f.add(join("radius", needs.key), "needs a server", "[radius.server.NAME]")
		}
	}
}

// policy checks who may have what.
func (f *faults) policy(all *Config, c *Connection, path string) {
	key := join(path, "unique")
	if !slices.Contains([]string{"contact", "replace", "keep", "never"}, c.Unique) && !f.has(key) {
		f.add(key, fmt.Sprintf("unknown policy %q", c.Unique), `"contact", "replace", "keep" or "never"`)
	}
	f.groups(all, c.Groups, join(path, "groups"))
	if len(c.Groups) > 0 && !c.provesUser() && !f.has(path) {
		f.add(join(path, "groups"), "keeps everybody out: a pre-shared key does not prove who somebody is, so nobody is in a group", `peer.auth = "eap", "eap-radius" or "cert"`)
	}
	for name, child := range c.Children {
		if child != nil {
			f.groups(all, child.Groups, join(join(join(path, "child"), name), "groups"))
		}
	}
}

// provesUser tells whether the peer proves a name by which it can be a user.
func (c *Connection) provesUser() bool {
	if c.Peer2.IsSet() {
		return c.Peer2.Auth != authPSK
	}
	return c.Peer.Auth != authPSK
}

// groups checks a list of groups whose members may have something.
func (f *faults) groups(all *Config, list []string, path string) {
	f.distinct(path, len(list), func(i int) any { return list[i] })
	if len(all.RADIUS.Servers) > 0 {
		return // they may know more groups
	}
	for i, name := range list {
		known := false
		for _, u := range all.Users {
			known = known || u != nil && slices.Contains(u.Groups, name)
		}
		if !known && !f.has(index(path, i)) {
			f.warn(index(path, i), fmt.Sprintf("no user is in group %q", name))
		}
	}
}
