package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// TrustAnchor is the DS record of a domain (RFC 4034 §5).
type TrustAnchor struct {
	Domain                string
	KeyTag                uint16
	Algorithm, DigestType uint8
	Digest                []byte
}

// digestLens are the octets of digests by their type: SHA-256 and SHA-384. SHA-1 is no proof any
// more (RFC 8624 §3.3).
var digestLens = map[uint8]int{2: 32, 4: 48}

// parseTrustAnchor reads a domain, key tag, algorithm, digest type, and the digest in
// hexadecimal, which may have blanks in it.
func parseTrustAnchor(text string) (TrustAnchor, error) {
	words := strings.Fields(text)
	if len(words) < 5 {
		return TrustAnchor{}, errors.New("want a domain, key tag, algorithm, digest type and digest")
	}
	a := TrustAnchor{Domain: strings.TrimSuffix(words[0], ".")}
	if !isHostName(a.Domain) {
		return TrustAnchor{}, fmt.Errorf("%q is no domain", words[0])
	}
	tag, err1 := strconv.ParseUint(words[1], 10, 16)
	algorithm, err2 := strconv.ParseUint(words[2], 10, 8)
	digest, err3 := strconv.ParseUint(words[3], 10, 8)
	if err := errors.Join(err1, err2, err3); err != nil {
		return TrustAnchor{}, errors.New("key tag, algorithm and digest type are numbers, to 65535 and to 255")
	}
	a.KeyTag, a.Algorithm, a.DigestType = uint16(tag), uint8(algorithm), uint8(digest)
	want, known := digestLens[a.DigestType]
	if !known {
		return TrustAnchor{}, fmt.Errorf("digest type %d is none that a resolver relies on; 2 is SHA-256 and 4 SHA-384", digest)
	}
	var err error
	if a.Digest, err = hex.DecodeString(strings.Join(words[4:], "")); err != nil || len(a.Digest) != want {
		return TrustAnchor{}, fmt.Errorf("the digest of type %d has %d hexadecimal digits", digest, 2*want)
	}
	return a, nil
}

// trustAnchors checks both sides of RFC 8598 §4.2.
func (f *faults) trustAnchors(c *Connection, path string) {
	c.Anchors = nil
	anchors := join(path, "trust_anchors")
	for i, text := range c.TrustAnchors {
		a, err := parseTrustAnchor(text)
		switch {
		case err != nil && !f.has(index(anchors, i)):
			f.add(index(anchors, i), fmt.Sprintf("%q is no trust anchor: %v", text, err), `as in "corp.example 20326 8 2 E06D…": what dnssec-dsfromkey prints, without IN DS`)
		case err != nil:
		case !containsFold(c.Domains, a.Domain) && !f.has(join(path, "domains")):
			f.add(index(anchors, i), fmt.Sprintf("%s is none of domains, so that no peer would take its trust anchor", a.Domain), "add it to domains")
		default:
			c.Anchors = append(c.Anchors, a)
		}
	}
	allowed := join(path, "trust_anchors_for")
	for i, name := range c.TrustAnchorsFor {
		if !isHostName(name) && !f.has(index(allowed, i)) {
			f.add(index(allowed, i), fmt.Sprintf("%q is no domain", name), "name the domains of the network behind the gateway")
		}
	}
	if len(c.TrustAnchorsFor) > 0 && len(c.Request) == 0 && !f.has(join(path, "request")) {
		f.add(allowed, "trust anchors come with virtual addresses, and none are requested", `request = ["ipv4"]`)
	}
}

func containsFold(list []string, want string) bool {
	for _, x := range list {
		if strings.EqualFold(strings.TrimSuffix(x, "."), want) {
			return true
		}
	}
	return false
}
