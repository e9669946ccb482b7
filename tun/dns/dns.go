// Package dns sets the resolvers of this host to those of a tunnel, and undoes it.
//
// A host has one of several owners of its resolvers, and each is asked in its own manner. Which
// one is a pure function of what is seen on the host (decide.go on Linux and BSD); it is made
// once, in New, and logged with its reasons. In all manners names are sent to the tunnel's servers
// and to no others, as far as the manner can: Set warns where it cannot.
//
//	manner          where                         only some names   in the end
//	resolved        Linux, over D-Bus             yes               forgets the link
//	NetworkManager  Linux, 1.26.0 to 1.26.5       yes               forgets the link
//	openresolv      Linux, FreeBSD                behind dnsmasq    removes our record
//	                                              or the like
//	resolvconf      Linux, Debian's               no                removes our record
//	file            Linux, BSD: /etc/resolv.conf  no                puts the former back
//	resolvd         OpenBSD, by route(8)          no                removes our proposal
//	scutil          macOS, and /etc/resolver      yes               removes keys and files
//	nrpt            Windows, in the registry      yes               removes rules and values
//
// Where a manner can only send all names, or none, those of Config.Domains make it all: names
// inside the tunnel are what it is for, and a resolver that does not know the names outside is
// rare. Set says so in a warning.
//
// What has to be undone after the process was killed is noted in the state folder before it is
// done. What outlives a reboot of the host, while the state folder may not, tells itself whose it
// is: our /etc/resolv.conf carries what was there before in comments, files in /etc/resolver and
// rules in the registry bear our name.
//
// Other links of systemd-resolved keep the names below domains of theirs, and theirs can complete
// short names before ours: it has no order between links. Set warns of them when all names should
// go into the tunnel.
//
// The tests run the owners of Linux for real, each on a host of its own in namespaces: the programs
// are Debian's packages, and what is told to them is shown by names that are asked for. These are
// systemd-resolved, openresolv alone and before dnsmasq, Debian's resolvconf, and NetworkManager that
// writes the file and that tells systemd-resolved. NetworkManager 1.26.0 to 1.26.5 is not to be
// had: its manner is run against Debian's later one, for a link that it manages. What macOS, Windows
// and the BSDs are told is compared with golden text only.
package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// The most that a Config may hold: its lists can come from a peer.
const (
	maxServers = 16
	maxDomains = 256
	maxSearch  = 1024 // octets of all names, with a space behind each
)

// Config is what the resolvers of this host shall be while a tunnel stands.
type Config struct {
	// Device is the name of the TUN interface, which exists.
	Device string
	// Servers are the tunnel's resolvers, the first preferred; at least one.
	Servers []netip.Addr
	// Domains split: only names in and below these go to Servers. None means all names.
	// A name is of letters, digits, hyphens and underscores: others as A-labels (RFC 5890).
	Domains []string
	// Search are the domains that complete a short name, in this order. Names below them go
	// to Servers too.
	Search []string
}

// Host owns the resolvers of this host for one tunnel. Its methods may be called by anybody.
type Host interface {
	// Set makes them what c says, in place of what an earlier Set said. After an error some
	// of it may be done: Set again, or Close.
	Set(c Config) error
	// Close makes them as they were, or as others have made them since. It may be called
	// again after an error, and without Set.
	Close() error
}

// Error tells what could not be done, why, and what a person can do about it.
type Error struct {
	What string
	Err  error
	Hint string // may be empty
}

func (e *Error) Error() string {
	s := fmt.Sprintf("dns: %s: %v", e.What, e.Err)
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// normal refuses what cannot be meant, and what would be something else in one of the files and
// commands it becomes part of. Names become lower case without a final dot.
func (c Config) normal() (Config, error) {
	if err := checkDevice(c.Device); err != nil {
		return c, err
	}
	if len(c.Servers) == 0 || len(c.Servers) > maxServers {
		return c, fmt.Errorf("dns: %d servers, want 1 to %d", len(c.Servers), maxServers)
	}
	servers := make([]netip.Addr, 0, len(c.Servers))
	for _, a := range c.Servers {
		a = a.Unmap()
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
			return c, fmt.Errorf("dns: server %s cannot be one behind a tunnel", a)
		}
		if !slices.Contains(servers, a) {
			servers = append(servers, a)
		}
	}
	c.Servers = servers
	var err error
	if len(c.Domains) > maxDomains {
		return c, fmt.Errorf("dns: %d domains, at most %d are set", len(c.Domains), maxDomains)
	}
	if c.Domains, err = normalNames(c.Domains); err != nil {
		return c, err
	}
	if c.Search, err = normalNames(c.Search); err != nil {
		return c, err
	}
	if n := len(strings.Join(c.Search, " ")); n > maxSearch {
		return c, fmt.Errorf("dns: the search domains are %d octets long, at most %d are set", n, maxSearch)
	}
	return c, nil
}

func checkDevice(name string) error {
	bad := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`/\"'`, r) }
	if name == "" || len(name) > 64 || name[0] == '-' || name[0] == '.' || strings.ContainsFunc(name, bad) {
		return fmt.Errorf("dns: device %q is not the name of an interface", name)
	}
	return nil
}

func normalNames(names []string) ([]string, error) {
	var out []string
	for _, n := range names {
		plain := strings.ToLower(strings.TrimSuffix(n, "."))
		if !isName(plain) {
			return nil, fmt.Errorf("dns: domain %q is not a name of letters, digits, hyphens and underscores; write others as A-labels (xn--)", n)
		}
		if !slices.Contains(out, plain) {
			out = append(out, plain)
		}
	}
	return out, nil
}

func isName(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// all tells whether every name goes to the servers.
func (c Config) all() bool { return len(c.Domains) == 0 }

// below are the names below which all go to the servers, when not all do. Those to search come
// first, in their order: openresolv's local resolvers search them all.
func (c Config) below() []string {
	out := slices.Clone(c.Search)
	for _, n := range c.Domains {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}
