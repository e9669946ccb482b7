package level1

import (
	"crypto/x509"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike"
	"martlet/ike/eap"
	"martlet/ike/message"
	"martlet/test/simnet"
)

const (
	connection = "site"
	childFirst = "net"
	childExtra = "extra" // opened on request only
	psk        = "correct horse battery staple"
)

// scenario is what a seed stands for, but for the chances of the network.
type scenario struct {
	cert        bool
	credential  int    // index into authority.credentials
	mistrust    string // the node that must not get an SA up: it cannot verify the other
	wrongPSK    bool   // neither may
	login       string // "eap" or "eap behind a certificate" of the client; empty: neither
	sixth       bool   // IPv6 outside
	nat         *simnet.NATConfig
	ikeClient   string
	ikeGateway  string
	esp         string
	cookies     bool
	fragment    int
	lease       bool
	bothStart   bool
	forge       float64       // share of datagrams that come once more, damaged or late
	espGateway  string        // other groups for children than the client's; empty: the same
	rekey       time.Duration // lifetime of IKE SAs; 0: longer than the run
	rekeyChild  time.Duration
	liveness    time.Duration
	tickets     time.Duration // how long an SA that was lost can be resumed; 0: not at all
	noMOBIKE    [2]bool       // on the client, on the gateway
	commands    []command
	terminateBy int
	parallel    int  // SAs of the extra child with the same selectors
	mtu         int  // of the client's line, which says nothing of what is larger; 0: any
	split       bool // the extra child of the client is two of the gateway's
}

type command struct {
	at   time.Duration
	what string
	node int
}

// chaos is how long the network is bad and commands come.
const chaos = 60 * time.Second

func newScenario(r *rand.Rand) scenario {
	oneIn := func(n int) bool { return r.IntN(n) == 0 }
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	sc := scenario{
		cert:        oneIn(5),
		credential:  min(2, r.IntN(12)), // RSA and ECDSA now and then: they take long
		sixth:       oneIn(3),
		cookies:     oneIn(4),
		lease:       oneIn(3),
		liveness:    time.Duration(10+r.IntN(20)) * time.Second,
		terminateBy: r.IntN(3),
		esp:         pick("aes128gcm16", "aes256gcm16-noesn", "chacha20poly1305", "aes256-sha256", "aes128ctr-sha384"),
	}
	switch {
	case oneIn(4): // perfect forward secrecy, with the wrong guess here or there
		sc.esp, sc.espGateway = "aes128gcm16-ecp256-x25519", pick("aes128gcm16-x25519", "aes128gcm16-x25519-ecp256", "aes128gcm16")
	case oneIn(4):
		sc.esp += "-x25519"
	}
	if oneIn(3) {
		sc.rekey = time.Duration(10+r.IntN(30)) * time.Second
	}
	if oneIn(3) {
		sc.rekeyChild = time.Duration(5+r.IntN(15)) * time.Second
	}
	switch {
	case oneIn(400):
		sc.ikeClient = "aes256-sha512-modp3072" // takes long: asked as Work
	case oneIn(4):
		sc.ikeClient = "aes128gcm16-prfsha256-x25519-ecp256" // with the wrong guess
		sc.ikeGateway = "aes128gcm16-prfsha256-ecp256"
	default:
		sc.ikeClient = pick("aes128gcm16-prfsha256-x25519", "chacha20poly1305-prfsha384-x25519", "aes256-sha256-x25519", "aes128ctr-sha256-ecp256")
	}
	if sc.ikeGateway == "" {
		sc.ikeGateway = sc.ikeClient
	}
	if oneIn(3) && !sc.sixth {
		kind := func() simnet.Behaviour { return simnet.Behaviour(r.IntN(3)) }
		sc.nat = &simnet.NATConfig{Mapping: kind(), Filtering: kind(), Timeout: time.Duration(30+r.IntN(90)) * time.Second}
	}
	if oneIn(3) {
		sc.fragment = 400 + r.IntN(400)
	}
	if oneIn(4) {
		sc.forge = 0.2
	}
	if oneIn(6) && sc.nat == nil {
		sc.bothStart = true
	}
	if oneIn(20) {
		if sc.cert {
			sc.mistrust = pick("client", "gateway")
		} else {
			sc.wrongPSK = true
		}
	}
	sc.noMOBIKE = [2]bool{oneIn(4), oneIn(4)}
	for range r.IntN(10) {
		c := command{
			at:   time.Duration(r.Int64N(int64(chaos))),
			node: r.IntN(2),
			what: pick("acquire", "acquire", "acquire", "close child", "close child", "unknown SPI", "terminate", "initiate", "crash", "blackout", "rebind", "move", "move",
				"rekey", "rekey", "rekey child", "rekey child", "rekey child", "aged", "both rekey", "both rekey child",
				"reauth", "reauth", "reload", "replace", "probe", "probe"),
		}
		sc.commands = append(sc.commands, c)
	}
	if oneIn(3) {
		sc.tickets = time.Hour
	}
	if sc.bad() {
		sc.commands = nil // a crash would forget the reason
	}
	slices.SortFunc(sc.commands, func(a, b command) int { return int(a.at - b.at) })
	if sc.cert && !sc.bothStart && sc.mistrust != "gateway" {
		sc.login = pick("", "eap", "eap behind a certificate")
	}
	if oneIn(2) {
		sc.mtu = 1280 + r.IntN(221)
	}
	switch r.IntN(6) {
	case 0:
		sc.parallel = 2 + r.IntN(3)
	case 1:
		sc.split = true
	}
	return sc
}

// bad tells whether no SA can come of it.
func (sc scenario) bad() bool { return sc.wrongPSK || sc.mistrust != "" }

// authority is the CA of all seeds, and one that nobody knows.
type authority struct {
	roots, others []*x509.Certificate
	client        []*pki.Credential // RSA, ECDSA, Ed25519
	gateway       []*pki.Credential
}

var issue = sync.OnceValues(func() (*authority, error) {
	known, err := pki.NewAuthority("known", epoch, 0, pki.ECDSAP256)
	if err != nil {
		return nil, err
	}
	other, err := pki.NewAuthority("other", epoch, 0, pki.ECDSAP256)
	if err != nil {
		return nil, err
	}
	a := &authority{roots: []*x509.Certificate{known.Cert}, others: []*x509.Certificate{other.Cert}}
	for _, kind := range []pki.KeyKind{pki.RSA2048, pki.ECDSAP256, pki.Ed25519} {
		for _, side := range []struct {
			name string
			to   *[]*pki.Credential
		}{{clientID, &a.client}, {gatewayID, &a.gateway}} {
			c, err := known.Issue(pki.Request{DNSNames: []string{side.name}, Now: epoch, Key: kind})
			if err != nil {
				return nil, err
			}
			*side.to = append(*side.to, c)
		}
	}
	return a, nil
})

const clientID, gatewayID = "client.test", "gateway.test"

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// config makes a node's configuration.
func (sc scenario) config(t testing.TB, gateway bool) *ike.Config {
	proposals := func(p suite.Protocol, s string) []suite.Proposal {
		out, err := suite.ParseProposals(p, []string{s}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	net := func(s string) []message.Selector {
		return []message.Selector{message.SelectorOf(netip.MustParsePrefix(s))}
	}
	esp := proposals(suite.ProtocolESP, sc.esp)
	if gateway && sc.espGateway != "" {
		esp = proposals(suite.ProtocolESP, sc.espGateway)
	}
	first := &ike.ChildConfig{Name: childFirst, Proposals: esp, Local: net("10.1.0.0/16"), Remote: net("10.2.0.0/16")}
	extra := &ike.ChildConfig{Name: childExtra, Proposals: esp, Local: net("fd01::/64"), Remote: net("fd02::/64"), OnRequest: true}
	extra.Parallel = sc.parallel
	c := &ike.Connection{
		Name: connection, Respond: gateway || sc.bothStart,
		Proposals:    proposals(suite.ProtocolIKE, sc.ikeClient),
		Local:        ike.Local{Method: ike.AuthPSK, ID: identity(clientID), PSK: suite.Secret(psk)},
		Remote:       ike.Remote{Method: ike.AuthPSK, ID: identity(gatewayID), PSK: suite.Secret(psk)},
		Children:     []*ike.ChildConfig{first, extra},
		Liveness:     sc.liveness,
		FragmentSize: sc.fragment,
		Rekey:        sc.rekey,
		NoMOBIKE:     sc.noMOBIKE[0],
		Tickets:      sc.tickets,
	}
	if sc.split {
		part := *extra
		part.Name, part.Remote = "part", net("fd04::/64")
		if gateway {
			c.Children = append(c.Children, &part)
		} else {
			extra.Remote = append(extra.Remote, part.Remote...)
		}
	}
	for _, child := range c.Children {
		child.Rekey = sc.rekeyChild
	}
	if sc.lease {
		first.Local, first.LocalDynamic = nil, true
		c.RequestIPv4 = true
	}
	if gateway {
		c.Proposals = proposals(suite.ProtocolIKE, sc.ikeGateway)
		c.Local.ID, c.Remote.ID = c.Remote.ID, c.Local.ID
		for _, ch := range c.Children {
			ch.Local, ch.Remote = ch.Remote, ch.Local
			ch.LocalDynamic, ch.RemoteDynamic = ch.RemoteDynamic, ch.LocalDynamic
		}
		c.RequestIPv4, c.Lease, c.NoMOBIKE = false, sc.lease, sc.noMOBIKE[1]
		if sc.wrongPSK {
			c.Local.PSK = suite.Secret("another one altogether")
			c.Remote.PSK = c.Local.PSK
		}
	}
	if sc.cert {
		a, err := issue()
		if err != nil {
			t.Fatal(err)
		}
		own, roots, name := a.client, a.roots, "client"
		if gateway {
			own, name = a.gateway, "gateway"
		}
		if sc.mistrust == name {
			roots = a.others
		}
		c.Local.Method, c.Local.PSK = ike.AuthCert, nil
		c.Local.Credentials = own[sc.credential : sc.credential+1]
		c.Remote.Method, c.Remote.PSK = ike.AuthCert, nil
		c.Remote.Verifier = pki.Verifier{Roots: roots}
		c.Remote.Revocation = pki.RevocationStrict // the world outside answers, but it takes its time
	}
	methods := []eap.Type{eap.TypeMSCHAPv2}
	user := ike.Local{Method: ike.AuthEAP, EAP: ike.EAPPeer{User: clientID, Password: suite.Secret(psk), Methods: methods}}
	door := ike.Remote{Method: ike.AuthEAP, ID: identity(clientID), EAP: ike.EAPServer{Methods: methods}}
	switch {
	case sc.login == "eap" && gateway:
		c.Remote = door
	case sc.login == "eap":
		c.Local = user
	case sc.login != "" && gateway:
		c.Remote.Next = &door
	case sc.login != "":
		c.Local.Next = &user
	}
	config := &ike.Config{Connections: []*ike.Connection{c}}
	if sc.tickets > 0 {
		config.TicketKey = ike.TicketKey{Epoch: ike.EpochOf(epoch), Key: suite.Secret(psk + psk)[:32]}
	}
	config.HalfOpen.EAPLifetime = 30 * time.Second // as without: nobody types here
	if sc.cookies {
		config.HalfOpen.CookieTotal = -1 // always
	}
	return config
}

func identity(name string) pki.Identity { return pki.Identity{Type: pki.IDFQDN, Data: name} }
