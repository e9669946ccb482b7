package profile

import (
	"bytes"
	"crypto/x509"
	"slices"
	"strings"

	"martlet/crypto/pki"
)

const (
	appleVPN    = "com.apple.vpn.managed"
	applePKCS12 = "com.apple.security.pkcs12"
)

// appleCAs are the payloads that hold one certificate.
var appleCAs = []string{"com.apple.security.root", "com.apple.security.pkcs1", "com.apple.security.pem"}

func appleFormat() format {
	return format{"Apple configuration profile (.mobileconfig)", func(data []byte) bool {
		return isSigned(data) || bytes.HasPrefix(data, []byte("bplist")) || isPlist(data)
	}, readApple}
}

// apple is a profile: its certificates by UUID, and its VPNs.
type apple struct {
	*draft
	cas  []*x509.Certificate
	p12s map[string]*bag
	vpns []*bag
}

func readApple(d *draft, data []byte) error {
	d.Signed = "It is not signed: nothing tells where it comes from"
	if isSigned(data) {
		var err error
		if data, err = d.unwrap(data); err != nil {
			return err
		}
	}
	root, err := readPlist(data)
	if err != nil {
		return err
	}
	top := newBag("", root)
	if top.has("EncryptedPayloadContent") {
		return &Error{"the profile is encrypted", "it is made for one device, whose key alone opens it", "ask whoever made it for one that is not"}
	}
	a := &apple{draft: d, p12s: map[string]*bag{}}
	for _, payload := range top.bags("PayloadContent") {
		a.payload(payload)
	}
	top.skip("PayloadDisplayName", "PayloadIdentifier", "PayloadUUID", "PayloadType", "PayloadVersion", "PayloadOrganization", "PayloadDescription", "PayloadScope")
	top.without(d, map[string]string{
		"PayloadRemovalDisallowed": "not carried over: whoever may write the configuration may remove it",
		"ConsentText":              "not carried over: read it in the profile before you use the connection",
		"PayloadExpirationDate":    "not carried over: the connection does not end with the profile",
		"RemovalDate":              "not carried over: the connection does not end by itself",
		"DurationUntilRemoval":     "not carried over: the connection does not end by itself",
	})
	top.rest(d)
	for _, v := range a.vpns {
		a.vpn(v)
	}
	return nil
}

// payload sorts one payload of the profile.
func (a *apple) payload(p *bag) {
	kind := p.text("PayloadType")
	switch {
	case kind == appleVPN:
		a.vpns = append(a.vpns, p)
	case kind == applePKCS12, strings.HasPrefix(kind, "com.apple.security.acme"), strings.HasPrefix(kind, "com.apple.security.scep"):
		a.p12s[strings.ToUpper(p.text("PayloadUUID"))] = p
	case slices.Contains(appleCAs, kind):
		certs, err := pki.ParseCertificates(p.octets("PayloadContent"))
		if err != nil {
			a.note(p.at("PayloadContent"), "the certificate is not carried over: %s", bare(err))
			return
		}
		a.cas = append(a.cas, certs...)
	default:
		a.note(p.place, "the payload %s is not carried over: it is no IKEv2 connection of this host, and no certificate", quoted(kind))
	}
}
