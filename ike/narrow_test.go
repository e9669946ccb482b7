package ike

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"martlet/ike/message"
)

func ports(s message.Selector, proto uint8, from, to uint16) message.Selector {
	s.Protocol, s.StartPort, s.EndPort = proto, from, to
	return s
}

func TestNarrow(t *testing.T) {
	tcp := func(prefix string, from, to uint16) message.Selector {
		return ports(selectors(prefix)[0], 6, from, to)
	}
	for _, c := range []struct {
		name                  string
		offered, policy, want []message.Selector
	}{
		{"same", selectors("10.0.0.0/8"), selectors("10.0.0.0/8"), selectors("10.0.0.0/8")},
		{"offer wider", selectors("0.0.0.0/0"), selectors("10.0.0.0/8"), selectors("10.0.0.0/8")},
		{"offer narrower", selectors("10.1.0.0/16"), selectors("10.0.0.0/8"), selectors("10.1.0.0/16")},
		{"nothing", selectors("10.0.0.0/8"), selectors("192.168.0.0/16"), nil},
		{"other family", selectors("10.0.0.0/8"), selectors("::/0"), nil},
		{"both families", selectors("0.0.0.0/0", "::/0"), selectors("2001:db8::/32", "10.0.0.0/8"), selectors("10.0.0.0/8", "2001:db8::/32")},
		{"one family of two", selectors("0.0.0.0/0", "::/0"), selectors("10.0.0.0/8"), selectors("10.0.0.0/8")},
		{"several of one", selectors("10.0.0.0/8"), selectors("10.1.0.0/16", "10.2.0.0/16"), selectors("10.1.0.0/16", "10.2.0.0/16")},
		{"first is one packet", append(selectors("10.1.2.3/32"), selectors("10.1.0.0/16")...), selectors("10.0.0.0/8"), selectors("10.1.0.0/16")},
		{"no doubles", selectors("10.0.0.0/8", "10.0.0.0/8"), selectors("10.1.0.0/16"), selectors("10.1.0.0/16")},
		{"ports", []message.Selector{tcp("10.0.0.0/8", 0, 65535)}, []message.Selector{tcp("10.1.0.0/16", 443, 443)}, []message.Selector{tcp("10.1.0.0/16", 443, 443)}},
		{"ports apart", []message.Selector{tcp("10.0.0.0/8", 1, 100)}, []message.Selector{tcp("10.0.0.0/8", 443, 443)}, nil},
		{"protocols apart", []message.Selector{tcp("10.0.0.0/8", 0, 65535)}, []message.Selector{ports(selectors("10.0.0.0/8")[0], 17, 0, 65535)}, nil},
		{"empty offer", nil, selectors("0.0.0.0/0"), nil},
		{"empty policy", selectors("0.0.0.0/0"), nil, nil},
	} {
		if got := narrow(c.offered, c.policy); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if got := narrow(c.offered, c.policy); len(got) > 0 && (!within(got, c.offered) || !within(got, c.policy)) {
			t.Errorf("%s: %v is not within both", c.name, got)
		}
	}
	var many []message.Selector
	for i := range 300 {
		many = append(many, hostSelector(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})))
	}
	if got := narrow(many, selectors("0.0.0.0/0")); len(got) != maxSelectors {
		t.Errorf("%d selectors, more than a payload holds", len(got))
	}
	if within(nil, many) {
		t.Error("nothing is taken for narrowed")
	}
}

// TestNarrowedChildren: what both sides install.
func TestNarrowedChildren(t *testing.T) {
	for _, c := range []struct {
		name          string
		offer, policy [2][]message.Selector // initiator's side, responder's side
		want          [2][]message.Selector
	}{
		{
			"everything to a net",
			[2][]message.Selector{selectors("10.1.0.0/16"), selectors("0.0.0.0/0", "::/0")},
			[2][]message.Selector{selectors("0.0.0.0/0"), selectors("10.2.0.0/16", "10.3.0.0/16")},
			[2][]message.Selector{selectors("10.1.0.0/16"), selectors("10.2.0.0/16", "10.3.0.0/16")},
		},
		{
			"both families",
			[2][]message.Selector{selectors("10.1.0.0/16", "2001:db8:1::/48"), selectors("10.2.0.0/16", "2001:db8:2::/48")},
			[2][]message.Selector{selectors("0.0.0.0/0", "::/0"), selectors("0.0.0.0/0", "::/0")},
			[2][]message.Selector{selectors("10.1.0.0/16", "2001:db8:1::/48"), selectors("10.2.0.0/16", "2001:db8:2::/48")},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, gateway := pskPair(t)
			client.Children[0].Local, client.Children[0].Remote = c.offer[0], c.offer[1]
			gateway.Children[0].Remote, gateway.Children[0].Local = c.policy[0], c.policy[1]
			_, a, _ := up(t, client, gateway)
			if x := a.onlyChild(); !slices.Equal(x.Local, c.want[0]) || !slices.Equal(x.Remote, c.want[1]) {
				t.Errorf("%v and %v", x.Local, x.Remote)
			}
		})
	}
}

// TestSecondChildConfigFits: the responder takes the configured child that meets the
// request, not just the first.
func TestSecondChildConfigFits(t *testing.T) {
	client, gateway := pskPair(t)
	gateway.Children = append([]*ChildConfig{{Name: "other", Proposals: espProposals(t, "aes256gcm16"), Local: selectors("172.16.0.0/12"), Remote: selectors("10.1.0.0/16")}}, gateway.Children...)
	_, _, b := up(t, client, gateway)
	if name := b.onlyChild().Name; name != "net" {
		t.Errorf("child %s", name)
	}
}

func TestChildRefused(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(client, gateway *Connection)
		want  Code
	}{
		"selectors": {func(client, _ *Connection) { client.Children[0].Remote = selectors("172.16.0.0/12") }, CodeSelectors},
		"algorithms": {func(client, _ *Connection) {
			client.Children[0].Proposals = espProposals(t, "aes128-sha1")
		}, CodeNoChildProposal},
		"no children there": {func(_, gateway *Connection) { gateway.Children = nil }, CodeSelectors},
	} {
		t.Run(name, func(t *testing.T) {
			client, gateway := pskPair(t)
			c.spoil(client, gateway)
			w, a, b := pair(t, client, gateway)
			a.initiate("home", b)
			w.run(500 * time.Millisecond)
			if got := a.downCode(); got != c.want {
				t.Errorf("client's code %s, want %s", got, c.want)
			}
			failed := found[ChildFailed](b)
			if len(failed) != 1 || failed[0].Err.Code != c.want {
				t.Errorf("gateway reports %+v", failed)
			}
			// RFC 7296 §1.2: the IKE SA stood all the same, until the client deleted it.
			if len(found[Established](a)) != 1 || len(found[Established](b)) != 1 || b.downCode() != "" {
				t.Error("the IKE SA was not established")
			}
			w.run(time.Hour)
			empty(t, a, b)
		})
	}
}

// TestFurtherChildRefused: the SA and its first child stay.
func TestFurtherChildRefused(t *testing.T) {
	client, gateway := pskPair(t)
	client.Children = append(client.Children, &ChildConfig{Name: "dmz", Proposals: espProposals(t, "aes256gcm16"), Local: selectors("10.1.0.0/16"), Remote: selectors("172.16.0.0/12")})
	w, a, b := pair(t, client, gateway)
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 1)
	if f := found[ChildFailed](a); len(f) != 1 || f[0].Name != "dmz" || f[0].Err.Code != CodeSelectors {
		t.Errorf("reports %+v", f)
	}
	if n := len(a.e.inbound); n != 1 {
		t.Errorf("%d SPIs reserved, want 1", n)
	}
}

// TestWidenedAnswer: a responder that answers with more than was offered gets no child.
func TestWidenedAnswer(t *testing.T) {
	client, gateway := pskPair(t)
	client.Children = append(client.Children, &ChildConfig{Name: "dmz", OnRequest: true, Proposals: espProposals(t, "aes256gcm16"), Local: selectors("10.1.0.0/16"), Remote: selectors("10.2.0.0/16")})
	for name, spoil := range map[string]func(*childAnswer){
		"selectors": func(a *childAnswer) { a.local = selectors("0.0.0.0/0") },
		"suite":     func(a *childAnswer) { a.suite.Encr.KeyLen = 128 },
		"no SPI":    func(a *childAnswer) { a.suite.Encr.ID = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			w, a, b := up(t, client, gateway)
			sb := engineOf(b)
			w.fate = func(*host, Send) int { return 0 }
			a.handle(Acquire{Connection: "home", Child: "dmz"})
			sa := engineOf(a)
			answer := &childAnswer{suite: a.onlyChild().Suite, spiIn: 0x1234, local: selectors("10.2.0.0/16"), remote: selectors("10.1.0.0/16")}
			spoil(answer)
			a.deliver(b, craft(t, sb, message.CreateChildSA, sa.pending.id, message.FlagResponse,
				answer.payloads(1, &message.Nonce{Data: make([]byte, 32)})...))
			if len(found[ChildFailed](a)) != 1 || len(a.installed) != 1 {
				t.Error("a widened answer was installed")
			}
			if sa.pending == nil {
				t.Error("the child was not deleted at the peer")
			}
		})
	}
}

func TestDynamicSelectors(t *testing.T) {
	dynamic := &ChildConfig{LocalDynamic: true, RemoteDynamic: true}
	p := Path{Local: netip.MustParseAddrPort("[::ffff:192.0.2.1]:4500"), Remote: netip.MustParseAddrPort("198.51.100.1:4500")}
	lease := Lease{Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.7/24")}}
	for _, c := range []struct {
		name          string
		s             *ikeSA
		local, remote []message.Selector
	}{
		{"initiator, outer", &ikeSA{opener: true, conn: &Connection{}, mobility: mobility{path: p}}, selectors("192.0.2.1/32"), selectors("198.51.100.1/32")},
		{"initiator that asks", &ikeSA{opener: true, conn: &Connection{RequestIPv4: true}, mobility: mobility{path: p}}, selectors("0.0.0.0/0"), selectors("198.51.100.1/32")},
		{"initiator with a lease", &ikeSA{opener: true, conn: &Connection{RequestIPv4: true}, mobility: mobility{path: p}, lease: lease}, selectors("10.9.0.7/32"), selectors("198.51.100.1/32")},
		{"responder, outer", &ikeSA{conn: &Connection{}, mobility: mobility{path: p}}, selectors("192.0.2.1/32"), selectors("198.51.100.1/32")},
		{"responder with a lease", &ikeSA{conn: &Connection{}, mobility: mobility{path: p}, lease: lease}, selectors("192.0.2.1/32"), selectors("10.9.0.7/32")},
	} {
		if got := c.s.localSelectors(dynamic); !slices.Equal(got, c.local) {
			t.Errorf("%s: local %v", c.name, got)
		}
		if got := c.s.remoteSelectors(dynamic); !slices.Equal(got, c.remote) {
			t.Errorf("%s: remote %v", c.name, got)
		}
	}
}

// TestAdditionalSelectors: what one child leaves out and another would take is announced
// (RFC 7296 §2.9), and asked for.
func TestAdditionalSelectors(t *testing.T) {
	for name, c := range map[string]struct {
		asks []string
		want bool
	}{
		"both":    {[]string{"10.2.0.0/16", "10.3.0.0/16"}, true},
		"one":     {[]string{"10.2.0.0/16"}, false},
		"nowhere": {[]string{"10.2.0.0/16", "172.16.0.0/12"}, false},
		"all":     {[]string{"0.0.0.0/0"}, true},
	} {
		client, gateway := withDMZ(t)
		client.Children = client.Children[:1]
		client.Children[0].Remote = selectors(c.asks...)
		w, a, b := pair(t, client, gateway)
		a.initiate("home", b)
		w.run(time.Second)
		want := []string{"net [10.1.0.0/16] [10.2.0.0/16]"}
		if c.want {
			want = append(want, "net [10.1.0.0/16] [10.3.0.0/16]")
		}
		agree(t, a, b, len(want))
		if got := pairsOf(a); !slices.Equal(got, want) {
			t.Errorf("%s: got %v", name, got)
		}
		raw := sentOf(b, message.IKEAuth, true)[0]
		_, enc, text, err := message.Open(slices.Clone(raw), engineOf(a).open)
		if err != nil {
			t.Fatal(err)
		}
		ps, err := message.ParsePayloads(enc.First, text)
		if err != nil {
			t.Fatal(err)
		}
		if sent := message.FindNotify(ps, message.AdditionalTSPossible) != nil; sent != c.want {
			t.Errorf("%s: announced %v", name, sent)
		}
	}
}
