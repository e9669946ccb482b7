package ike

import (
	"net/netip"
	"slices"
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
