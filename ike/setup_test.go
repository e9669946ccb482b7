package ike

import (
	"crypto/x509"
	"net/netip"
	"sync"
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/ike/message"
)

// testPKI is one CA with credentials of each kind of key, made once.
type testPKI struct {
	ca      *pki.Authority
	gateway map[pki.KeyKind]*pki.Credential
	client  map[pki.KeyKind]*pki.Credential
}

func newTestPKI() *testPKI {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	ca, err := pki.NewAuthority("Test CA", epoch.Add(-time.Hour), 10*365*24*time.Hour, pki.ECDSAP256)
	must(err)
	p := &testPKI{ca: ca, gateway: map[pki.KeyKind]*pki.Credential{}, client: map[pki.KeyKind]*pki.Credential{}}
	for _, kind := range []pki.KeyKind{pki.RSA2048, pki.ECDSAP256, pki.ECDSAP384, pki.Ed25519} {
		p.gateway[kind], err = ca.Issue(pki.Request{DNSNames: []string{"gw.example.org"}, Purpose: pki.ServerAuth, Now: epoch.Add(-time.Hour), Key: kind})
		must(err)
		p.client[kind], err = ca.Issue(pki.Request{Emails: []string{"carol@example.org"}, Purpose: pki.ClientAuth, Now: epoch.Add(-time.Hour), Key: kind})
		must(err)
	}
	return p
}

var keys = sync.OnceValue(newTestPKI)

func identity(t testing.TB, s string) pki.Identity {
	t.Helper()
	id, err := pki.ParseIdentity(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

const testPSK = "a pre-shared key of more than 128 bits of entropy, let us say"

// pskPair is two configurations that fit: a client and a gateway by pre-shared key.
func pskPair(t testing.TB) (client, gateway *Connection) {
	client = &Connection{
		Name:      "home",
		Proposals: ikeProposals(t, "aes256gcm16-prfsha256-x25519"),
		Local:     Local{Method: AuthPSK, ID: identity(t, "carol@example.org"), PSK: []byte(testPSK)},
		Remote:    Remote{Method: AuthPSK, ID: identity(t, "gw.example.org"), PSK: []byte(testPSK)},
		Children: []*ChildConfig{{
			Name: "net", Proposals: espProposals(t, "aes256gcm16"),
			Local: selectors("10.1.0.0/16"), Remote: selectors("10.2.0.0/16"),
		}},
	}
	gateway = &Connection{
		Name: "rw", Respond: true,
		Proposals: ikeProposals(t, "aes256gcm16-prfsha256-x25519"),
		Local:     Local{Method: AuthPSK, ID: identity(t, "gw.example.org"), PSK: []byte(testPSK)},
		Remote:    Remote{Method: AuthPSK, ID: identity(t, "carol@example.org"), PSK: []byte(testPSK)},
		Children: []*ChildConfig{{
			Name: "net", Proposals: espProposals(t, "aes256gcm16"),
			Local: selectors("10.2.0.0/16"), Remote: selectors("10.1.0.0/16"),
		}},
	}
	return client, gateway
}

// certPair is the same with certificates of the given kinds.
func certPair(t testing.TB, clientKind, gatewayKind pki.KeyKind) (client, gateway *Connection) {
	client, gateway = pskPair(t)
	p := keys()
	trust := pki.Verifier{Roots: []*x509.Certificate{p.ca.Cert}}
	client.Local = Local{Method: AuthCert, Credentials: []*pki.Credential{p.client[clientKind]}}
	client.Remote = Remote{Method: AuthCert, ID: identity(t, "gw.example.org"), Verifier: trust, Purpose: pki.ServerAuth}
	gateway.Local = Local{Method: AuthCert, Credentials: []*pki.Credential{p.gateway[gatewayKind]}}
	gateway.Remote = Remote{Method: AuthCert, ID: identity(t, "*@example.org"), Verifier: trust, Purpose: pki.ClientAuth}
	return client, gateway
}

// virtualPair makes the client ask for an address and the gateway give one.
func virtualPair(client, gateway *Connection) {
	client.RequestIPv4, client.RequestIPv6 = true, true
	gateway.Lease = true
	client.Children[0].Local, client.Children[0].LocalDynamic = nil, true
	gateway.Children[0].Remote, gateway.Children[0].RemoteDynamic = nil, true
	client.Children[0].Remote = selectors("0.0.0.0/0", "::/0")
	gateway.Children[0].Local = selectors("10.2.0.0/16", "2001:db8:2::/48")
}

var testLease = Lease{
	Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.7/32"), netip.MustParsePrefix("2001:db8:9::7/64")},
	DNS:       []netip.Addr{netip.MustParseAddr("10.2.0.53"), netip.MustParseAddr("2001:db8:2::53")},
	Subnets:   []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16"), netip.MustParsePrefix("2001:db8:2::/48")},
	Domains:   []string{"corp.example.org"},
}

// pair is a world with a client and a gateway.
func pair(t testing.TB, client, gateway *Connection) (w *world, a, b *host) {
	w = newWorld(t)
	a = w.add("client", "192.0.2.1", &Config{Connections: []*Connection{client}})
	b = w.add("gateway", "198.51.100.1", &Config{Connections: []*Connection{gateway}, Shard: 2, ShardBits: 3})
	return w, a, b
}

// up is a pair with an SA.
func up(t testing.TB, client, gateway *Connection) (w *world, a, b *host) {
	t.Helper()
	w, a, b = pair(t, client, gateway)
	a.initiate(client.Name, b)
	w.run(time.Second)
	agree(t, a, b, 1)
	return w, a, b
}

// engineOf is the SA of a host that has one.
func engineOf(h *host) *ikeSA {
	h.w.t.Helper()
	if h.e.first == nil || h.e.first != h.e.last {
		h.w.t.Fatalf("%s has not exactly one SA", h.name)
	}
	return h.e.first
}

// payloadTypes lists a plain message's payloads.
func payloadTypes(t testing.TB, raw []byte) (out []message.PayloadType) {
	t.Helper()
	m, err := message.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Payloads {
		out = append(out, p.Type())
	}
	return out
}
