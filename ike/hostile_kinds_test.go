package ike

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/ike/eap"
)

// hostileKind is a way of authentication and what goes with it, of which one of the two
// sides is played by somebody hostile.
type hostileKind struct {
	name  string
	share int // of 100 sessions, about
	make  func(t testing.TB) (client, gateway *Connection)
	// ignorant takes from a side (of that name) what it needs to prove itself: nil where that
	// side needs nothing.
	ignorant map[string]func(own *Connection)
	// proofs is how many AUTH payloads each side has to show.
	proofs map[string]int
}

func wrongPSK(c *Connection)      { c.Local.PSK = []byte("another") }
func wrongPassword(c *Connection) { c.Local.EAP.Password = []byte("a guess") }

// strangers is a credential of a CA that nobody knows.
var strangers = sync.OnceValue(func() *pki.Credential {
	ca, err := pki.NewAuthority("Test CA", epoch.Add(-time.Hour), 10*365*24*time.Hour, pki.ECDSAP256)
	if err != nil {
		panic(err)
	}
	c, err := ca.Issue(pki.Request{DNSNames: []string{"gw.example.org"}, Emails: []string{"carol@example.org"}, Now: epoch.Add(-time.Hour), Key: pki.ECDSAP256})
	if err != nil {
		panic(err)
	}
	return c
})

// unknownCert gives a side a certificate of a CA that nobody trusts.
func unknownCert(c *Connection) { c.Local.Credentials = []*pki.Credential{strangers()} }

func hostileKinds() []hostileKind {
	one := map[string]int{"client": 1, "gateway": 1}
	psks := map[string]func(*Connection){"client": wrongPSK, "gateway": wrongPSK}
	certs := map[string]func(*Connection){"client": unknownCert, "gateway": unknownCert}
	login := map[string]func(*Connection){"client": wrongPassword, "gateway": unknownCert}
	byEAP := func(name string, share int, method eap.Type, inner ...eap.Type) hostileKind {
		k := hostileKind{name: name, share: share, ignorant: login, proofs: map[string]int{"client": 1, "gateway": 2}}
		if method == eap.TypeMD5 || method == eap.TypeGTC {
			// They make no key: who has SK_* and passes EAP can compute AUTH.
			k.proofs = map[string]int{"gateway": 1}
		}
		k.make = func(t testing.TB) (client, gateway *Connection) {
			client, gateway = eapPair(t, method)
			client.Local.EAP.Inner, gateway.Remote.EAP.Inner = inner, inner
			if method == eap.TypeTLS {
				client.Local.Credentials = []*pki.Credential{keys().client[pki.ECDSAP256]}
			}
			return client, gateway
		}
		return k
	}
	tls := byEAP("EAP-TLS", 1, eap.TypeTLS)
	tls.ignorant = map[string]func(*Connection){"client": unknownCert, "gateway": unknownCert}
	return []hostileKind{
		{"PSK", 24, pskPair, psks, one},
		{"PSK, virtual address, groups guessed wrong", 8, func(t testing.TB) (client, gateway *Connection) {
			client, gateway = pskPair(t)
			virtualPair(client, gateway)
			client.Proposals = ikeProposals(t, "aes128-sha256-ecp256-x25519", "aes256gcm16-prfsha256-x25519")
			return client, gateway
		}, psks, one},
		{"PSK, PFS, two children", 12, func(t testing.TB) (client, gateway *Connection) {
			client, gateway = withExtra(t)
			for i := range client.Children {
				client.Children[i].Proposals = espProposals(t, "aes256gcm16-x25519")
				gateway.Children[i].Proposals = espProposals(t, "aes256gcm16-x25519")
			}
			return client, gateway
		}, psks, one},
		{"PSK, without MOBIKE or a child", 6, func(t testing.TB) (client, gateway *Connection) {
			client, gateway = pskPair(t)
			client.NoMOBIKE, gateway.NoMOBIKE = true, true
			client.Childless, gateway.Childless = ChildlessPrefer, ChildlessPrefer
			return client, gateway
		}, psks, one},
		{"tickets", 12, func(t testing.TB) (client, gateway *Connection) {
			client, gateway = pskPair(t)
			client.Tickets, gateway.Tickets = time.Hour, time.Hour
			return client, gateway
		}, psks, one},
		{"PPK and three key exchanges", 8, func(t testing.TB) (client, gateway *Connection) {
			client, gateway = hybridChildren(t)
			client.PPKs, gateway.PPKs = ppks("k"), ppks("j", "k")
			client.PPKRequired, gateway.PPKRequired = true, true
			return client, gateway
		}, map[string]func(*Connection){
			"client":  func(c *Connection) { c.PPKs = []PPK{{ID: "k", Key: []byte("a guess")}} },
			"gateway": func(c *Connection) { c.PPKs = []PPK{{ID: "k", Key: []byte("a guess")}} },
		}, one},
		{"certificates in fragments", 8, func(t testing.TB) (client, gateway *Connection) {
			client, gateway = certPair(t, pki.ECDSAP256, pki.ECDSAP256)
			client.FragmentSize, gateway.FragmentSize = 500, 500
			client.Remote.Revocation, gateway.Remote.Revocation = pki.RevocationStrict, pki.RevocationStrict
			return client, gateway
		}, certs, nil}, // which are not put together again to look for AUTH
		byEAP("EAP-MSCHAPv2", 8, eap.TypeMSCHAPv2),
		byEAP("EAP-MD5", 3, eap.TypeMD5),
		byEAP("EAP-GTC", 3, eap.TypeGTC),
		byEAP("EAP-TTLS", 1, eap.TypeTTLS, eap.TypeMSCHAPv2),
		byEAP("EAP-PEAP", 1, eap.TypePEAP, eap.TypeMSCHAPv2),
		tls,
		{"EAP-TTLS alone", 1, func(t testing.TB) (client, gateway *Connection) {
			client, gateway = eapPair(t, eap.TypeTTLS)
			alone(client, gateway)
			return client, gateway
		}, map[string]func(*Connection){
			"client":  wrongPassword,
			"gateway": func(c *Connection) { c.Remote.EAP.Credentials = []*pki.Credential{strangers()} },
		}, one},
		{"two rounds: certificate, pre-shared key", 3, twoRounds, map[string]func(*Connection){
			"client":  func(c *Connection) { next := *c.Local.Next; next.PSK = []byte("another"); c.Local.Next = &next },
			"gateway": unknownCert,
		}, map[string]int{"client": 2, "gateway": 1}},
		{"two rounds: certificate, EAP", 3, func(t testing.TB) (client, gateway *Connection) {
			client, gateway = certPair(t, pki.ECDSAP256, pki.ECDSAP256)
			user, door := eapPair(t)
			client.Local.Next, gateway.Remote.Next = &user.Local, &door.Remote
			return client, gateway
		}, map[string]func(*Connection){
			"client": func(c *Connection) {
				next := *c.Local.Next
				next.EAP.Password = []byte("a guess")
				c.Local.Next = &next
			},
			"gateway": unknownCert,
		}, map[string]int{"client": 2, "gateway": 2}},
	}
}

// hostilePair is a world for one session of a kind.
func hostilePair(t testing.TB, client, gateway *Connection) (w *world, a, b *host) {
	w = newWorld(t)
	a = w.add("client", homeAddr, &Config{Connections: []*Connection{client}})
	b = w.add("gateway", gatewayAddr, &Config{
		Connections: []*Connection{gateway}, Shard: 2, ShardBits: 3, CrashSecret: bytes.Repeat([]byte{9}, 32),
		TicketKey: TicketKey{Epoch: EpochOf(w.now) - 3, Key: bytes.Repeat([]byte{7}, 32)},
	})
	b.accounts = map[string]string{"carol@example.org": testPassword, "dave@example.org": "another"}
	b.admit = func(Admit) Admission { return Admission{Lease: testLease, Lifetime: 20 * time.Minute} }
	return w, a, b
}
