package ike

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

func TestHandshakePSK(t *testing.T) {
	client, gateway := pskPair(t)
	_, a, b := up(t, client, gateway)
	if st := a.established()[0]; st.Remote != gateway.Local.ID || st.Local != client.Local.ID || st.Connection != "home" || !st.Initiator {
		t.Errorf("client's status: %+v", st)
	}
	if st := b.established()[0]; st.Remote != client.Local.ID || st.Local != gateway.Local.ID || st.Connection != "rw" || st.Initiator {
		t.Errorf("gateway's status: %+v", st)
	}
	for _, h := range []*host{a, b} {
		var stages []Stage
		for _, d := range found[StageDone](h) {
			stages = append(stages, d.Stage)
		}
		if !slices.Equal(stages, []Stage{StageInit, StageAuth, StageChild}) {
			t.Errorf("%s: stages %v", h.name, stages)
		}
		st := h.established()[0]
		if !st.Path.Encap || st.Path.Local.Port() != 4500 {
			t.Errorf("%s: path %v, want the encapsulating one", h.name, st.Path)
		}
		if !slices.Equal(st.Conditions, []string{"encap-forced"}) {
			t.Errorf("%s: conditions %v: two Martlets without NAT know that there is none", h.name, st.Conditions)
		}
	}
	if spi := uint64(b.established()[0].SA); spi&7 != 2 {
		t.Errorf("SPI %x has not the shard in its low bits", spi)
	}
	for _, c := range b.installed {
		if c.SPIIn&7 != 2 || c.SPIIn < 256 || c.ID>>56 != 2 {
			t.Errorf("SPI %x, child ID %x: want the shard inside", c.SPIIn, c.ID)
		}
	}
}

func TestHandshakeCertificates(t *testing.T) {
	kinds := []pki.KeyKind{pki.RSA2048, pki.ECDSAP256, pki.ECDSAP384, pki.Ed25519}
	for _, clientKind := range kinds {
		for _, gatewayKind := range kinds {
			t.Run(clientKind.String()+"/"+gatewayKind.String(), func(t *testing.T) {
				client, gateway := certPair(t, clientKind, gatewayKind)
				_, a, b := up(t, client, gateway)
				if id := a.established()[0].Remote; id != identity(t, "gw.example.org") {
					t.Errorf("the client sees %v", id)
				}
				if id := b.established()[0].Remote; id != identity(t, "carol@example.org") {
					t.Errorf("the gateway sees %v", id)
				}
				worked := slices.ContainsFunc(a.asked, func(q Question) bool { _, ok := q.(Work); return ok })
				if !worked {
					t.Error("the signature was not made by Work")
				}
			})
		}
	}
}

func TestHandshakeMixedMethods(t *testing.T) {
	// The client has a key, the gateway a certificate.
	client, gateway := certPair(t, pki.RSA2048, pki.ECDSAP256)
	psk := Local{Method: AuthPSK, ID: identity(t, "carol@example.org"), PSK: []byte(testPSK)}
	client.Local = psk
	gateway.Remote = Remote{Method: AuthPSK, ID: psk.ID, PSK: []byte(testPSK)}
	up(t, client, gateway)
}

func TestHandshakeSuites(t *testing.T) {
	for _, proposals := range [][2]string{
		{"aes128gcm16-prfsha384-ecp256", "aes128gcm16"},
		{"aes256gcm12-prfsha512-ecp384", "aes256gcm12"},
		{"aes256gcm8-prfsha256-ecp521", "aes256gcm8"},
		{"chacha20poly1305-prfsha256-x25519", "chacha20poly1305"},
		{"aes256-sha256-modp2048", "aes256-sha256"},
		{"aes192-sha384-modp3072", "aes192-sha384"},
		{"aes128ctr-sha512-modp4096", "aes128ctr-sha512"},
		{"aes128-sha1-modp1024", "aes128-sha1"},
		{"aes128-sha1-modp1536", "aes256gcm16-noesn"},
	} {
		t.Run(proposals[0], func(t *testing.T) {
			client, gateway := pskPair(t)
			for _, c := range []*Connection{client, gateway} {
				c.Proposals = ikeProposals(t, proposals[0])
				c.Children[0].Proposals = espProposals(t, proposals[1])
			}
			_, a, _ := up(t, client, gateway)
			if got := a.established()[0].Suite; !got.Narrows(client.Proposals[0]) {
				t.Errorf("suite %v", got)
			}
		})
	}
}

func TestVirtualAddresses(t *testing.T) {
	client, gateway := certPair(t, pki.ECDSAP256, pki.RSA2048)
	virtualPair(client, gateway)
	w, a, b := pair(t, client, gateway)
	b.admit = func(q Admit) Admission {
		if !q.WantIPv4 || !q.WantIPv6 || q.Connection != "rw" || q.Identity != identity(t, "carol@example.org") || !q.InitialContact {
			t.Errorf("admit %+v", q)
		}
		return Admission{Lease: testLease}
	}
	var configured Configure
	a.configure = func(q Configure) Configured {
		if len(a.installed) != 0 {
			t.Error("installed before the host was configured")
		}
		configured = q
		return Configured{}
	}
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 1)
	want := testLease
	want.Addresses = []netip.Prefix{netip.MustParsePrefix("10.9.0.7/32"), netip.MustParsePrefix("2001:db8:9::7/64")}
	if d := cmp.Diff(want, configured.Lease, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Error(d)
	}
	c := a.onlyChild()
	if !slices.Equal(c.Local, selectors("10.9.0.7/32", "2001:db8:9::7/128")) || !slices.Equal(c.Remote, selectors("10.2.0.0/16", "2001:db8:2::/48")) {
		t.Errorf("selectors %v %v", c.Local, c.Remote)
	}
}

func TestOnlyOneFamilyLeased(t *testing.T) {
	client, gateway := pskPair(t)
	virtualPair(client, gateway)
	w, a, b := pair(t, client, gateway)
	b.admit = func(Admit) Admission { return Admission{Lease: Lease{Addresses: testLease.Addresses[:1]}} }
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 1)
	if c := a.onlyChild(); !slices.Equal(c.Local, selectors("10.9.0.7/32")) {
		t.Errorf("selectors %v", c.Local)
	}
}

func TestNoAddress(t *testing.T) {
	for name, gate := range map[string]func(*Connection) func(Admit) Admission{
		"pool exhausted": func(*Connection) func(Admit) Admission {
			return func(Admit) Admission {
				return Admission{Refuse: "pool exhausted", Notify: message.InternalAddressFailure}
			}
		},
		"no pool": func(c *Connection) func(Admit) Admission { c.Lease = false; return nil },
	} {
		t.Run(name, func(t *testing.T) {
			client, gateway := pskPair(t)
			virtualPair(client, gateway)
			w, a, b := pair(t, client, gateway)
			b.admit = gate(gateway)
			a.initiate("home", b)
			w.run(time.Minute)
			if c := a.downCode(); c != CodeAddress {
				t.Errorf("code %s", c)
			}
			if len(found[ChildFailed](b)) != 1 {
				t.Error("the gateway did not report that the child failed")
			}
			w.run(time.Hour)
			empty(t, a, b)
		})
	}
}

func TestFurtherChildren(t *testing.T) {
	client, gateway := pskPair(t)
	more := &ChildConfig{Name: "dmz", Proposals: espProposals(t, "aes256gcm16-ecp256"), Local: selectors("10.1.0.0/16"), Remote: selectors("10.3.0.0/16")}
	later := &ChildConfig{Name: "lab", OnRequest: true, Proposals: espProposals(t, "aes256gcm16"), Local: selectors("10.1.0.0/16"), Remote: selectors("10.4.0.0/16")}
	client.Children = append(client.Children, more, later)
	gateway.Children = append(gateway.Children,
		&ChildConfig{Name: "dmz", Proposals: espProposals(t, "aes256gcm16-ecp256"), Local: selectors("10.3.0.0/16"), Remote: selectors("10.1.0.0/16")},
		&ChildConfig{Name: "lab", OnRequest: true, Proposals: espProposals(t, "aes256gcm16"), Local: selectors("10.4.0.0/16"), Remote: selectors("10.1.0.0/16")})
	w, a, b := pair(t, client, gateway)
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 2)
	for range 2 { // the second one finds the child there
		b.handle(Acquire{Connection: "rw", Child: "lab"})
	}
	w.run(time.Second)
	agree(t, a, b, 3)
	withKE := 0
	for _, c := range a.installed {
		if c.Suite.KE.ID == suite.KEECP256 {
			withKE++
		}
	}
	if withKE != 1 {
		t.Errorf("%d children with perfect forward secrecy, want 1", withKE)
	}
	for id, c := range a.installed {
		if c.Name == "dmz" {
			a.handle(CloseChild{Child: id})
		}
	}
	w.run(time.Second)
	agree(t, a, b, 2)
	for id, c := range b.installed {
		if c.Name == "lab" {
			b.handle(CloseChild{Child: id})
		}
	}
	w.run(time.Second)
	agree(t, a, b, 1)
	a.handle(Terminate{})
	w.run(time.Minute)
	empty(t, a, b)
	if a.downCode() != "" || b.downCode() != "" {
		t.Error("closing in order was reported as an error")
	}
}

func TestChildGroupRetried(t *testing.T) {
	client, gateway := pskPair(t)
	client.Children = append(client.Children, &ChildConfig{
		Name: "dmz", Proposals: espProposals(t, "aes256gcm16-ecp256-ecp384"), Local: selectors("10.1.0.0/16"), Remote: selectors("10.3.0.0/16"),
	})
	gateway.Children = append(gateway.Children, &ChildConfig{
		Name: "dmz", Proposals: espProposals(t, "aes256gcm16-ecp384"), Local: selectors("10.3.0.0/16"), Remote: selectors("10.1.0.0/16"),
	})
	w, a, b := pair(t, client, gateway)
	a.initiate("home", b)
	w.run(time.Second)
	agree(t, a, b, 2)
}

// TestOptionalPFS: a responder takes a further child with and without key exchange,
// whatever it would have offered itself (interop.md R4).
func TestOptionalPFS(t *testing.T) {
	for _, c := range []struct{ ask, have string }{
		{"aes256gcm16", "aes256gcm16-ecp256"},
		{"aes256gcm16-x25519", "aes256gcm16"},
		{"aes256gcm16-modpnone-x25519", "aes256gcm16-ecp256"},
	} {
		t.Run(c.ask+" for "+c.have, func(t *testing.T) {
			client, gateway := pskPair(t)
			client.Children = append(client.Children, &ChildConfig{Name: "dmz", Proposals: espProposals(t, c.ask), Local: selectors("10.1.0.0/16"), Remote: selectors("10.3.0.0/16")})
			gateway.Children = append(gateway.Children, &ChildConfig{Name: "dmz", Proposals: espProposals(t, c.have), Local: selectors("10.3.0.0/16"), Remote: selectors("10.1.0.0/16")})
			w, a, b := pair(t, client, gateway)
			a.initiate("home", b)
			w.run(time.Second)
			agree(t, a, b, 2)
		})
	}
}
