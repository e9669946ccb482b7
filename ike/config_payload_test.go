package ike

import (
	"bytes"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"martlet/ike/message"
)

// What a gateway tells about its network depends on what it was asked (RFC 8598 §3.2).
func TestConfigReplyToWhatWasAsked(t *testing.T) {
	lease := Lease{
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.7/32")},
		DNS:       []netip.Addr{netip.MustParseAddr("10.1.0.53")},
		Subnets:   []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
		Domains:   []string{"corp.example"},
	}
	request := func(types ...message.AttributeType) *message.Config {
		c := &message.Config{Kind: message.ConfigRequest}
		for _, x := range types {
			c.Attributes = append(c.Attributes, message.Attribute{Type: x})
		}
		return c
	}
	alone := lease
	alone.DNS = nil
	for _, test := range []struct {
		what    string
		lease   Lease
		request *message.Config
		want    []message.AttributeType
	}{
		{
			"the strongSwan app", lease, request(message.InternalIP4Address, message.InternalIP6Address, message.InternalIP4DNS, message.InternalIP6DNS),
			[]message.AttributeType{message.InternalIP4Address, message.InternalIP4DNS},
		},
		{
			"iOS", lease, request(message.InternalIP4Address, message.InternalIP4Netmask, message.InternalIP4DHCP, message.InternalIP4DNS, message.InternalDNSDomain),
			[]message.AttributeType{message.InternalIP4Address, message.InternalIP4DNS, message.InternalDNSDomain},
		},
		{
			"Martlet", lease, configRequest(&Connection{RequestIPv4: true}, nil),
			[]message.AttributeType{message.InternalIP4Address, message.InternalIP4DNS, message.InternalIP4Subnet, message.InternalDNSDomain},
		},
		{"no resolver", alone, request(message.InternalIP4Address, message.InternalDNSDomain), []message.AttributeType{message.InternalIP4Address}},
	} {
		reply := configReply(test.lease, test.request)
		var got []message.AttributeType
		for _, a := range reply.Attributes {
			got = append(got, a.Type)
			// RFC 8598 §4.1: the name as people write it, nothing before or behind it.
			if a.Type == message.InternalDNSDomain && string(a.Value) != "corp.example" {
				t.Errorf("%s: domain %q", test.what, a.Value)
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: told %v, want %v", test.what, got, test.want)
		}
	}
}

// anchor is a trust anchor with a digest of its own.
func anchor(domain string, tag uint16) TrustAnchor {
	return TrustAnchor{domain, message.DS{KeyTag: tag, Algorithm: 13, DigestType: 2, Digest: bytes.Repeat([]byte{byte(tag)}, 32)}}
}

// RFC 8598 §3.1, §4.2: whoever wants trust anchors asks by an empty INTERNAL_DNSSEC_TA, and each
// comes right behind its domain, for those who asked.
func TestTrustAnchorsGoBehindTheirDomains(t *testing.T) {
	client := &Connection{RequestIPv4: true, Anchored: []string{"example"}}
	request := configRequest(client, nil)
	if last := request.Attributes[len(request.Attributes)-1]; last.Type != message.InternalDNSSECTA || len(last.Value) != 0 {
		t.Errorf("the request ends with %v %x", last.Type, last.Value)
	}
	lease := Lease{
		DNS: []netip.Addr{netip.MustParseAddr("10.1.0.53")}, Domains: []string{"corp.example", "lab.example"},
		Anchors: []TrustAnchor{anchor("lab.example", 1), anchor("corp.example", 2), anchor("LAB.example", 3)},
	}
	var got []string
	for _, a := range configReply(lease, request).Attributes {
		switch a.Type {
		case message.InternalDNSDomain:
			got = append(got, string(a.Value))
		case message.InternalDNSSECTA:
			got = append(got, fmt.Sprint(a.Value[1]))
		}
	}
	if want := "corp.example 2 lab.example 1 3"; strings.Join(got, " ") != want {
		t.Errorf("told %q, want %q", got, want)
	}
	for _, a := range configReply(lease, configRequest(&Connection{RequestIPv4: true}, nil)).Attributes {
		if a.Type == message.InternalDNSSECTA {
			t.Error("a trust anchor comes unasked")
		}
	}
}

// RFC 8598 §4.2, §6: a trust anchor counts only right behind the domain that it is about, or
// another one of that, and only where the file names that domain or one above.
func TestTrustAnchorsThatCount(t *testing.T) {
	domain := message.NewDomainAttribute
	ta := func(tag uint16) message.Attribute { return message.NewTrustAnchorAttribute(anchor("", tag).DS) }
	dns := message.NewAddrAttribute(message.InternalIP4DNS, netip.MustParseAddr("10.1.0.53"))
	cut := ta(9)
	cut.Value = cut.Value[:20]
	for _, test := range []struct {
		what     string
		anchored []string
		reply    []message.Attribute
		want     []TrustAnchor
	}{
		{"one", []string{"corp.example"}, []message.Attribute{domain("corp.example"), ta(1)}, []TrustAnchor{anchor("corp.example", 1)}},
		{"two of a domain", []string{"corp.example"}, []message.Attribute{domain("corp.example"), ta(1), ta(2)}, []TrustAnchor{anchor("corp.example", 1), anchor("corp.example", 2)}},
		{"below", []string{"Example."}, []message.Attribute{domain("corp.example"), ta(1)}, []TrustAnchor{anchor("corp.example", 1)}},
		{"each its own", []string{"example"}, []message.Attribute{domain("a.example"), domain("b.example"), ta(1)}, []TrustAnchor{anchor("b.example", 1)}},
		{"one that is cut off between", []string{"example"}, []message.Attribute{domain("a.example"), cut, ta(1)}, []TrustAnchor{anchor("a.example", 1)}},
		{"no domain before", []string{"example"}, []message.Attribute{ta(1), domain("a.example")}, nil},
		{"something between", []string{"example"}, []message.Attribute{domain("a.example"), dns, ta(1)}, nil},
		{"behind a domain that is none", []string{"example"}, []message.Attribute{domain("a.example"), domain("not a name"), ta(1)}, nil},
		{"not in the file", []string{"corp.example"}, []message.Attribute{domain("bank.example"), ta(1)}, nil},
		{"not below", []string{"corp.example"}, []message.Attribute{domain("evilcorp.example"), ta(1), domain("example"), ta(2)}, nil},
		{"nothing in the file", nil, []message.Attribute{domain("corp.example"), ta(1)}, nil},
	} {
		lease := readConfig(&Connection{RequestIPv4: true, Anchored: test.anchored}, &message.Config{Kind: message.ConfigReply, Attributes: test.reply})
		if !reflect.DeepEqual(lease.Anchors, test.want) {
			t.Errorf("%s: taken are %v, want %v", test.what, lease.Anchors, test.want)
		}
	}
	var flood []message.Attribute
	for i := range 500 {
		flood = append(flood, domain("a.example"), ta(uint16(i)))
	}
	if n := len(readConfig(&Connection{Anchored: []string{"example"}}, &message.Config{Attributes: flood}).Anchors); n != maxLeaseAnchors {
		t.Errorf("%d trust anchors are kept", n)
	}
}
