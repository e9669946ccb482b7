package ike

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"martlet/ike/message"
)

// TestBarredChildren: a peer gets no child that the runner bars it from, with the IKE SA or
// later.
func TestBarredChildren(t *testing.T) {
	client, gateway := pskPair(t)
	more := *gateway.Children[0]
	more.Name, more.Local = "a", selectors("10.3.0.0/16")
	client.Children[0].Remote = selectors("10.2.0.0/16", "10.3.0.0/16")
	gateway.Children = append(gateway.Children, &more)
	w, a, b := pair(t, client, gateway)
	b.admit = func(q Admit) Admission {
		if q.Claimed != identity(t, "carol@example.org") {
			t.Errorf("admit %+v", q)
		}
		return Admission{Barred: []string{"net"}}
	}
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 1)
	if c := a.onlyChild(); !slices.Equal(c.Remote, selectors("10.3.0.0/16")) {
		t.Errorf("selectors %v", c.Remote)
	}
}

func TestNamedAddresses(t *testing.T) {
	p := &message.Config{Kind: message.ConfigRequest, Attributes: []message.Attribute{
		{Type: message.InternalIP4Address},
		{Type: message.InternalIP4Address, Value: []byte{0, 0, 0, 0}},
		{Type: message.InternalIP4Address, Value: []byte{10, 9, 0, 7}},
		{Type: message.InternalIP4Address, Value: []byte{10, 9}},
		{Type: message.InternalIP4DNS, Value: []byte{10, 9, 0, 1}},
		message.NewPrefixAttribute(message.InternalIP6Address, netip.MustParsePrefix("fd00::7/64")),
	}}
	if got, want := named(p), []netip.Addr{netip.MustParseAddr("10.9.0.7"), netip.MustParseAddr("fd00::7")}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for range 20 {
		p.Attributes = append(p.Attributes, p.Attributes[2])
	}
	if n := len(named(p)); n > maxLeaseAddresses || named(nil) != nil {
		t.Errorf("%d addresses", n)
	}
}
