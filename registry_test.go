package martlet

import (
	"crypto"
	"crypto/ed25519"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"martlet/config"
	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike"
	"martlet/ike/aaa"
	"martlet/ike/message"
)

// testRegistry is a registry of gatewayText with more text behind it, and the SAs that it
// ends.
func testRegistry(t *testing.T, more string) (*registry, *[]ike.Terminate) {
	t.Helper()
	cfg, err := config.Parse("test.toml", []byte(gatewayText+more), t.TempDir(), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	ended := &[]ike.Terminate{}
	r := newRegistry(cfg, zap.NewNop())
	r.terminate = func(x ike.Terminate) { *ended = append(*ended, x) }
	r.usage = func(id ike.ChildID) aaa.Usage { return aaa.Usage{InPackets: uint64(id), InOctets: 10 * uint64(id)} }
	return r, ended
}

func fqdn(name string) pki.Identity { return pki.Identity{Type: pki.IDFQDN, Data: name} }

// admitOf is a question of a peer that wants both families.
func admitOf(sa ike.SAID, user, device, from string) ike.Admit {
	return ike.Admit{
		SA: sa, Connection: "clients", Identity: fqdn(user), Claimed: fqdn(device), WantIPv4: true, WantIPv6: true,
		Path: ike.Path{Local: netip.MustParseAddrPort("127.0.0.1:4500"), Remote: netip.MustParseAddrPort(from)},
	}
}

func gone(list []ike.Terminate) []ike.SAID {
	out := []ike.SAID{}
	for _, x := range list {
		out = append(out, x.SA)
	}
	return out
}

// TestRow45InitialContact: INITIAL_CONTACT ends SAs of the same authenticated identity and
// device, and nobody else's (security.md row 45).
func TestRow45InitialContact(t *testing.T) {
	for _, test := range []struct {
		policy string
		want   []ike.SAID
	}{
		{"contact", []ike.SAID{1}},
		{"replace", []ike.SAID{1, 2}},
		{"keep", []ike.SAID{1, 2}},
		{"never", []ike.SAID{}},
	} {
		t.Run(test.policy, func(t *testing.T) {
			r, _ := testRegistry(t, "")
			r.conf().Connections["clients"].Unique = "never"
			for i, who := range [][2]string{{"alice", "phone"}, {"alice", "laptop"}, {"bob", "phone"}} {
				r.admit(admitOf(ike.SAID(i+1), who[0], who[1], "192.0.2.1:4500"))
			}
			r.conf().Connections["clients"].Unique = test.policy
			q := admitOf(9, "alice", "phone", "192.0.2.2:4500")
			q.InitialContact = true
			got, evict := r.admit(q)
			if !slices.Equal(gone(evict), test.want) || got.Refuse != "" || len(got.Lease.Addresses) != 2 {
				t.Errorf("ends %v, want %v; %+v", gone(evict), test.want, got)
			}
		})
	}
}

func TestUnique(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ended := testRegistry(t, "")
		conn := r.conf().Connections["clients"]
		conn.Unique = "keep"
		first, _ := r.admit(admitOf(1, "alice", "phone", "192.0.2.1:4500"))
		if got, _ := r.admit(admitOf(2, "alice", "laptop", "192.0.2.2:4500")); got.Refuse == "" {
			t.Error("a second device came in")
		}
		q := admitOf(3, "alice", "phone", "192.0.2.1:61000")
		q.Wanted = []netip.Addr{first.Lease.Addresses[0].Addr(), first.Lease.Addresses[1].Addr()}
		if got, evict := r.admit(q); got.Refuse != "" || len(evict) > 0 || !slices.Equal(got.Lease.Addresses, first.Lease.Addresses) {
			t.Errorf("a peer that authenticates again got %+v, and %v end", got, evict)
		}
		r.leave(ike.Down{SA: 1})
		if r.pools["v4"].InUse() != 1 {
			t.Error("the address went with the old SA")
		}

		conn.Unique = "replace"
		if _, evict := r.admit(admitOf(4, "alice", "laptop", "192.0.2.2:4500")); !slices.Equal(gone(evict), []ike.SAID{3}) {
			t.Errorf("ends %v", evict)
		}
		r.leave(ike.Down{SA: 3})
		if _, evict := r.admit(admitOf(5, "alice", "laptop", "192.0.2.2:4501")); len(evict) > 0 {
			t.Error("the old SA goes before the peer has the new one")
		}
		time.Sleep(again + time.Second)
		synctest.Wait()
		if !slices.Equal(gone(*ended), []ike.SAID{4}) {
			t.Errorf("ended %v", *ended)
		}
	})
}

const groupsText = `
[user.bob]
password = "bob's password"
[pool.admins]
addresses = ["10.78.0.0/24"]
groups = ["admins"]
[connection.grouped]
from = ["127.0.0.0/8"]
groups = ["admins", "staff"]
pool = ["admins", "v4"]
local = { auth = "psk", id = "gateway.test", secret = "` + testPSK + `" }
peer = { auth = "eap-mschapv2" }
child.lan.local = ["10.1.0.0/16"]
child.racks.local = ["10.2.0.0/16"]
child.racks.groups = ["admins"]
`

// loggedIn is a registry that has let an SA log in at RADIUS.
func loggedIn(r *registry, sa ike.SAID, g *aaa.Grant) {
	r.logins[sa] = &login{session: r.newSession(), grant: g, cancel: func() {}}
}

func TestGroups(t *testing.T) {
	r, _ := testRegistry(t, groupsText)
	admit := func(sa ike.SAID, groups ...string) ike.Admission {
		loggedIn(r, sa, &aaa.Grant{User: "alice", Groups: groups})
		q := admitOf(sa, "alice", "phone", "192.0.2.1:4500")
		q.Connection, q.WantIPv6 = "grouped", false
		got, _ := r.admit(q)
		return got
	}
	if got := admit(1); got.Refuse == "" || got.Notify == message.InternalAddressFailure {
		t.Errorf("somebody in no group: %+v", got)
	}
	if got := admit(2, "guests"); got.Refuse == "" {
		t.Errorf("guests: %+v", got)
	}
	if got := admit(3, "guests", "staff"); got.Refuse != "" || !slices.Equal(got.Barred, []string{"racks"}) ||
		!netip.MustParsePrefix("10.77.0.0/24").Contains(got.Lease.Addresses[0].Addr()) {
		t.Errorf("staff: %+v", got)
	}
	if got := admit(4, "admins"); got.Refuse != "" || got.Barred != nil ||
		!netip.MustParsePrefix("10.78.0.0/24").Contains(got.Lease.Addresses[0].Addr()) {
		t.Errorf("admins: %+v", got)
	}
	loggedIn(r, 5, &aaa.Grant{User: "alice", Groups: []string{"staff"}, Pools: []string{"none", "admins"}})
	q := admitOf(5, "alice", "phone", "192.0.2.1:4500")
	q.Connection, q.WantIPv6 = "grouped", false
	if got, _ := r.admit(q); !netip.MustParsePrefix("10.78.0.0/24").Contains(got.Lease.Addresses[0].Addr()) {
		t.Errorf("Framed-Pool: %+v", got)
	}
	if len(r.logins) != 0 {
		t.Errorf("%d logins are left", len(r.logins))
	}
}

const usersText = `
[user.alice]
password = "alice's password"
groups = ["admins"]
address = ["10.77.0.2", "fd99::2"]
[user."carol.test"]
groups = ["staff"]
[connection.login]
from = ["127.0.0.0/8"]
pool = ["v4", "v6"]
local = { auth = "psk", id = "gateway.test", secret = "` + testPSK + `" }
peer = { auth = "eap-mschapv2" }
child.lan.local = ["10.1.0.0/16"]
`

// TestUsers: a user's groups and address are for who proved to be the user, and for nobody
// who only says so.
func TestUsers(t *testing.T) {
	r, _ := testRegistry(t, usersText)
	q := admitOf(1, "alice", "phone", "192.0.2.1:4500")
	if got, _ := r.admit(q); r.in[1].groups != nil || slices.Contains(got.Lease.Addresses, netip.MustParsePrefix("10.77.0.2/32")) {
		t.Errorf("a pre-shared key made somebody alice: %+v", got)
	}
	q.SA, q.Connection, q.EAPIdentity = 2, "login", "alice"
	want := []netip.Prefix{netip.MustParsePrefix("10.77.0.2/32"), netip.MustParsePrefix("fd99::2/128")}
	if got, _ := r.admit(q); !slices.Equal(r.in[2].groups, []string{"admins"}) || !slices.Equal(got.Lease.Addresses, want) {
		t.Errorf("alice got %+v and is in %v", got, r.in[2].groups)
	}
	loggedIn(r, 3, &aaa.Grant{User: "alice"})
	q.SA = 3
	if got, _ := r.admit(q); r.in[3].groups != nil || slices.Contains(got.Lease.Addresses, want[0]) {
		t.Errorf("RADIUS's alice is not ours: %+v", got)
	}
	r.conf().Connections["login"].Peer.Auth = "cert"
	q = admitOf(4, "carol.test", "carol.test", "192.0.2.4:4500")
	q.Connection = "login"
	if r.admit(q); !slices.Equal(r.in[4].groups, []string{"staff"}) {
		t.Errorf("carol is in %v", r.in[4].groups)
	}
}

// TestBareKeyIsNoUser: whoever has a bare key may call himself anything, and is the user that
// is configured beside the key or nobody.
func TestBareKeyIsNoUser(t *testing.T) {
	r, _ := testRegistry(t, usersText)
	conn := r.conf().Connections["login"]
	conn.Peer.Auth, conn.Peer.Verifier.Keys = "cert", []crypto.PublicKey{ed25519.PublicKey{}}
	for i, test := range []struct {
		configured string
		in         bool
	}{{"", false}, {"*.test", false}, {"carol.test", true}} {
		conn.Peer.Identity = pki.Identity{}
		if test.configured != "" {
			conn.Peer.Identity = pki.Identity{Type: pki.IDFQDN, Data: test.configured}
		}
		q := admitOf(ike.SAID(i+1), "carol.test", "carol.test", "192.0.2.4:4500")
		q.Connection = "login"
		r.admit(q)
		if got := r.in[q.SA].groups; (got != nil) != test.in {
			t.Errorf("configured %q: carol is in %v", test.configured, got)
		}
	}
}

// TestNoTicketWhereRevoked: a ticket would let in whose certificate was revoked since.
func TestNoTicketWhereRevoked(t *testing.T) {
	r, _ := testRegistry(t, usersText)
	conn := r.conf().Connections["login"]
	for i, policy := range []pki.Revocation{pki.RevocationOff, pki.RevocationRelaxed, pki.RevocationStrict} {
		conn.Peer.Policy = policy
		q := admitOf(ike.SAID(i+1), "alice", "phone", "192.0.2.1:4500")
		q.Connection = "login"
		if got, _ := r.admit(q); got.Refuse != "" || got.NoTicket != (policy != pki.RevocationOff) {
			t.Errorf("%v: %+v", policy, got)
		}
	}
}

// TestAdmitGone: nobody comes in by a connection that a reload took away meanwhile.
func TestAdmitGone(t *testing.T) {
	r, _ := testRegistry(t, usersText)
	q := admitOf(1, "alice", "phone", "192.0.2.1:4500")
	q.Connection = "gone"
	if got, _ := r.admit(q); got.Refuse == "" || len(r.in) != 0 {
		t.Errorf("admitted %+v", got)
	}
}

// TestResumedUser: who logged in by a password once and has no account any more cannot come back
// by a ticket.
func TestResumedUser(t *testing.T) {
	r, _ := testRegistry(t, usersText)
	conn := r.conf().Connections["login"]
	for i, test := range []struct {
		methods []string
		user    string
		in      bool
	}{
		{[]string{"mschapv2"}, "alice", true},
		{[]string{"mschapv2"}, "gone", false},
		{[]string{"mschapv2", "tls"}, "gone", false}, // it may have been the password
		{[]string{"tls"}, "gone", true},              // a certificate needs no account
		{nil, "gone", true},                          // RADIUS knows
	} {
		conn.Peer.Methods = test.methods
		q := admitOf(ike.SAID(i+1), test.user, "phone", "192.0.2.1:4500")
		q.Connection, q.EAPIdentity, q.Ticket = "login", test.user, ike.TicketID{byte(i + 1)}
		q.Binding = r.binding(conn, q)
		if got, _ := r.admit(q); (got.Refuse == "") != test.in {
			t.Errorf("%v, %s: refused %q", test.methods, test.user, got.Refuse)
		}
	}
}

// TestChangedUserVoidsTickets: a ticket is good as long as the account is as it was when it was
// given out, and the pre-shared key.
func TestChangedUserVoidsTickets(t *testing.T) {
	serial := 0
	for name, test := range map[string]struct {
		change func(c *config.Config)
		user   string
		in     bool
	}{
		"nothing":               {func(*config.Config) {}, "alice", true},
		"the password":          {func(c *config.Config) { c.Users["alice"].Password.Value = suite.Secret("another one") }, "alice", false},
		"a group less":          {func(c *config.Config) { c.Users["alice"].Groups = nil }, "alice", false},
		"another address":       {func(c *config.Config) { c.Users["alice"].Address = c.Users["alice"].Address[:1] }, "alice", false},
		"she is gone":           {func(c *config.Config) { delete(c.Users, "alice") }, "alice", false},
		"somebody else's":       {func(c *config.Config) { c.Users["carol.test"].Groups = nil }, "alice", true},
		"the gateway's own key": {func(c *config.Config) { c.Connections["login"].Local.Secret.Value = suite.Secret("another one") }, "alice", false},
		"one with no account":   {func(c *config.Config) { c.Connections["login"].DNS = nil }, "nobody", true},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := testRegistry(t, usersText)
			r.conf().Connections["login"].Peer.Methods = nil // accounts may be elsewhere
			serial++
			q := admitOf(ike.SAID(serial), test.user, "phone", "192.0.2.1:4500")
			q.Connection, q.EAPIdentity = "login", test.user
			first, _ := r.admit(q)
			if first.Refuse != "" || first.NoTicket || first.Binding == ([32]byte{}) {
				t.Fatalf("%+v", first)
			}
			r.leave(ike.Down{SA: q.SA})
			test.change(r.conf())
			q.SA, q.Ticket, q.Binding = 99, ike.TicketID{1}, first.Binding
			got, _ := r.admit(q)
			if (got.Refuse == "") != test.in {
				t.Errorf("refused %q", got.Refuse)
			}
			if !test.in && !strings.Contains(got.Refuse, "changed since") {
				t.Errorf("refused %q", got.Refuse)
			}
			q.SA, q.Ticket, q.Binding = 100, ike.TicketID{}, [32]byte{}
			if got, _ := r.admit(q); got.Refuse != "" {
				t.Errorf("without a ticket she is refused: %q", got.Refuse)
			}
		})
	}
}

// TestFramedAddress: what RADIUS gives is given, in a pool and outside, and to one identity
// at a time.
func TestFramedAddress(t *testing.T) {
	r, _ := testRegistry(t, "")
	inside, outside := netip.MustParseAddr("10.77.0.50"), netip.MustParseAddr("fd99::7")
	grant := &aaa.Grant{User: "alice", Addresses: []netip.Addr{inside, outside}, DNS: []netip.Addr{inside}, SessionTimeout: time.Hour}
	loggedIn(r, 1, grant)
	got, _ := r.admit(admitOf(1, "alice", "phone", "192.0.2.1:4500"))
	want := []netip.Prefix{netip.MustParsePrefix("10.77.0.50/32"), netip.MustParsePrefix("fd99::7/128")}
	if !slices.Equal(got.Lease.Addresses, want) || !slices.Equal(got.Lease.DNS, grant.DNS) || got.Lifetime != time.Hour {
		t.Errorf("%+v", got)
	}
	loggedIn(r, 2, grant)
	if got, _ := r.admit(admitOf(2, "bob", "phone", "192.0.2.2:4500")); got.Notify != message.InternalAddressFailure {
		t.Errorf("two identities have one address: %+v", got)
	}
	loggedIn(r, 3, grant)
	if got, _ := r.admit(admitOf(3, "alice", "laptop", "192.0.2.2:4500")); !slices.Equal(got.Lease.Addresses, want) {
		t.Errorf("her other device: %+v", got)
	}
	for sa := range ike.SAID(4) {
		r.leave(ike.Down{SA: sa})
	}
	if r.pools["v4"].InUse()+r.fixed.InUse() != 0 {
		t.Error("addresses are left")
	}
}

// TestSession: what the children of a session carried is counted over rekeys, and the time
// that RADIUS gives ends it.
func TestSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ended := testRegistry(t, "")
		loggedIn(r, 1, &aaa.Grant{User: "alice", SessionTimeout: time.Minute})
		r.admit(admitOf(1, "alice", "phone", "192.0.2.1:4500"))
		r.established(ike.Status{SA: 1})
		g := r.in[1]
		for _, id := range []ike.ChildID{3, 4, 5} {
			r.childIn(&ike.Child{ChildInfo: ike.ChildInfo{ID: id, SA: 1}})
		}
		r.childOut(3)
		r.childOut(4)
		if rec := r.record(g, aaa.RecordInterim); rec.Usage != (aaa.Usage{InPackets: 12, InOctets: 120}) || rec.User != "alice" || len(rec.Addresses) != 2 {
			t.Errorf("%+v", rec)
		}
		if n := r.obey(aaa.Order{Match: aaa.Match{User: "bob"}, Disconnect: true}); n != 0 {
			t.Errorf("an order for bob met %d", n)
		}
		met := r.obey(aaa.Order{
			Match: aaa.Match{User: "alice", Session: g.session.name, Calling: "192.0.2.1", Addresses: []netip.Addr{g.session.addresses[0]}}, SessionTimeout: 2 * time.Minute,
		})
		if met != 1 {
			t.Errorf("an order for alice met %d", met)
		}
		time.Sleep(90 * time.Second)
		r.mu.Lock()
		if len(*ended) > 0 {
			t.Error("the new time does not count")
		}
		r.mu.Unlock()
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if !slices.Equal(gone(*ended), []ike.SAID{1}) || g.session.ending != aaa.CauseSessionTimeout {
			t.Errorf("ended %v, cause %d", *ended, g.session.ending)
		}
		r.leave(ike.Down{SA: 1})
		if len(r.in)+len(r.children) > 0 {
			t.Error("something is left")
		}
		r.admit(admitOf(2, "alice", "phone", "192.0.2.1:4500"))
		r.established(ike.Status{SA: 2})
		if n := r.obey(aaa.Order{Match: aaa.Match{Calling: "192.0.2.1"}, Disconnect: true}); n != 1 || !slices.Equal(gone(*ended), []ike.SAID{1, 2}) {
			t.Errorf("met %d, ended %v", n, *ended)
		}
		r.close()
	})
}
