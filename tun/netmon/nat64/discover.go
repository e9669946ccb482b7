package nat64

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// Resolver finds addresses of names. A *net.Resolver is one. Whoever calls Discover chooses by
// which way the question goes.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// name has the IPv4 addresses known, and no IPv6 address but where a network makes them (RFC 7050
// §2.2).
const name = "ipv4only.arpa."

// known are the addresses of the name (RFC 7050 §8.2).
var known = [...][4]byte{{192, 0, 0, 170}, {192, 0, 0, 171}}

// What is taken of an answer, whatever it holds.
const (
	maxAnswers  = 32
	maxPrefixes = 8
)

// Discover asks the network's resolver for its translator's prefixes (RFC 7050 §3), in the order of
// the answer and at most 8. There are none, and no error, in a network that does not translate.
// They are worth as much trust as the resolver: a peer must prove by itself who it is.
func Discover(ctx context.Context, r Resolver) ([]Prefix, error) {
	answers, err := r.LookupNetIP(ctx, "ip6", name)
	if gone, ok := errors.AsType[*net.DNSError](err); ok && gone.IsNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("nat64: ask for the addresses of %s: %w; check that this host's DNS works", name, err)
	}
	return find(answers), nil
}

// find finds the prefixes in the addresses of the name. A prefix is certain that both known
// addresses stand behind. One may by chance, or on purpose, hold a known address itself: of an
// answer that no certain prefix explains only what has a single reading counts.
func find(answers []netip.Addr) []Prefix {
	answers = answers[:min(len(answers), maxAnswers)]
	var out []Prefix
	for _, a := range answers {
		var certain, possible []Prefix
		for _, r := range readings(a) {
			possible = append(possible, r.prefix)
			if slices.ContainsFunc(answers, r.confirms) {
				certain = append(certain, r.prefix)
			}
		}
		switch {
		case len(certain) == 1:
			possible = certain
		case len(possible) != 1 || occurrences(a) != 1:
			continue
		}
		if !slices.Contains(out, possible[0]) && len(out) < maxPrefixes {
			out = append(out, possible[0])
		}
	}
	return out
}

// reading is one that an answer may have: a prefix, and which known address stands behind it.
type reading struct {
	prefix Prefix
	known  int
}

// confirms tells whether an answer is the other known address behind the same prefix.
func (r reading) confirms(answer netip.Addr) bool {
	v4, ok := r.prefix.Extract(answer)
	return ok && v4.As4() == known[1-r.known]
}

// readings are all that an answer may have.
func readings(answer netip.Addr) []reading {
	if !answer.Is6() || answer.Zone() != "" {
		return nil
	}
	octets := answer.As16()
	var out []reading
	for _, bits := range lengths {
		which := slices.Index(known[:], at(octets, bits))
		if which < 0 || octets[uOctet] != 0 {
			continue
		}
		if p, err := NewPrefix(netip.PrefixFrom(answer, bits)); err == nil {
			out = append(out, reading{p, which})
		}
	}
	return out
}

// occurrences counts where known addresses stand in an answer: at any octet, or around the u octet
// (RFC 7050 §3).
func occurrences(answer netip.Addr) int {
	octets := answer.As16()
	n := 0
	for first := range len(octets) - 3 {
		if slices.Contains(known[:], [4]byte(octets[first:])) {
			n++
		}
		if around := embedded(8 * first); around[3]-around[0] > 3 && slices.Contains(known[:], at(octets, 8*first)) {
			n++
		}
	}
	return n
}
