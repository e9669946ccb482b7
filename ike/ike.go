// Package ike is the control plane: IKEv2 (RFC 7296) in both roles as a pure state
// machine. It has no socket, clock, goroutine or lock; events go in, actions come
// out, and the same events at the same times give the same actions. Client, gateway
// and site-to-site peer differ by configuration only.
//
// The owner of an Engine, one goroutine, turns it like this:
//
//	for {
//		select {
//		case ev := <-events: // a Datagram, an Initiate, an Answer …
//			actions = engine.Handle(time.Now(), ev)
//		case <-time.After(time.Until(engine.Next())):
//			actions = engine.Handle(time.Now(), ike.Tick{})
//		}
//		for _, a := range actions { … }
//	}
//
// Of the actions, Send is a datagram; Install, Switch, Retire, Move and Remove are for
// package esp; Report tells what happened; Ask is a question whose Answer may take
// long: a password, an address, a revocation list, a slow computation. The slice of
// actions is valid until the next call.
//
// An SA is a queue of tasks, each of which makes one request and takes its response,
// and a window that answers what is repeated by the same octets. Only when both AUTH
// payloads were verified it is established. What fails is an *Error with a Code: what
// happened, why we think so, and what to do.
package ike

import (
	"net/netip"
	"time"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// Path is a way to a peer. Encap says that the socket marks IKE messages (RFC 7296
// §3.1) and carries ESP; one to or from port 500 does not. Stream says that it is a TCP
// stream (RFC 9329), with Encap; another stream is another Path.
type Path struct {
	Local, Remote netip.AddrPort
	Encap, Stream bool
}

// SAID names an IKE SA within one engine; it is our own SPI, and is never used
// twice. ChildID names a child SA pair and is unique in the process.
type (
	SAID    message.SPI
	ChildID uint64
)

// Shard is the Config.Shard of the engine that has the child.
func (id ChildID) Shard() uint8 { return uint8(id >> 56) }

// Config is what an engine works by. It is read and never changed; what it points
// to must not be changed either.
type Config struct {
	Connections []*Connection
	// Shard, of ShardBits bits, is put into the low bits of every SPI that the
	// engine chooses, and tells the runner to which engine a message belongs. All other
	// bits are random.
	Shard     uint8
	ShardBits uint8

	// TicketKey is what tickets for session resumption are sealed with, the same for all
	// engines of a node.
	TicketKey TicketKey
	// CrashSecret, if not empty, is what tokens for quick crash detection are made of (RFC 6290
	// §5.1): 32 octets that are the same after a crash, and for all engines of a node.
	CrashSecret suite.Secret

	Retransmit Retransmit
	HalfOpen   HalfOpen
	// KeyLog, if not nil, is called with the secrets of each SA, for Wireshark.
	KeyLog func(KeyLogEntry)
}

// Retransmit is the schedule of a request: the first repetition after First, then each
// time Factor longer, never more than Max apart, each with up to ±10 % jitter; given
// up after Tries transmissions in all. Zero fields mean 500 ms, 1.5, 4 s and 10.
type Retransmit struct {
	First, Max time.Duration
	Factor     float64
	Tries      int
}

// HalfOpen bounds what unauthenticated peers cost the responder. Zero fields mean the
// defaults: 10000 in total, cookies from 100 in total or 3 from one source prefix (/32 or
// /64), puzzles (RFC 8019 §7.1) from 5000 in total or 500 from one prefix, 50 from a prefix that
// has returned no cookie and 1000 from one that has, 30 s to live, and 3 minutes where the
// peer logs in by EAP: people type passwords.
type HalfOpen struct {
	Total, CookieTotal, CookiePrefix, Prefix, PrefixVerified int
	PuzzleTotal, PuzzlePrefix                                int
	Lifetime, EAPLifetime                                    time.Duration
}

// Connection is one configured peer or group of peers.
type Connection struct {
	Name string
	// From is the addresses from which a peer may come when we respond; empty is
	// anywhere. Respond false means that we only initiate.
	From    []netip.Prefix
	Respond bool

	Proposals []suite.Proposal
	Local     Local
	Remote    Remote
	Children  []*ChildConfig

	// RequestIPv4, RequestIPv6 make the initiator ask for a virtual address, DNS
	// servers and subnets (RFC 7296 §3.15).
	RequestIPv4, RequestIPv6 bool
	// Anchored are the domains for which, and for those below them, the initiator takes DNSSEC
	// trust anchors of the gateway; it asks for them where there are any (RFC 8598 §6).
	Anchored []string
	// Lease makes the responder ask the runner for addresses (Admit) when the
	// peer requests them.
	Lease bool
	// Liveness is how long nothing authentic may be heard before a check; zero
	// means 30 s, negative never. Keepalive is the NAT keepalive's interval where we
	// are behind a NAT; zero means 20 s, negative never.
	Liveness, Keepalive time.Duration
	// FragmentSize is the largest IKE datagram in octets of UDP payload, zero means
	// 1232 on IPv6 and 1252 on IPv4 (packets of 1280); negative turns fragmentation off.
	FragmentSize int
	// Tickets is how long a ticket for session resumption is good that we give out or use, 24
	// hours at most; 0 is none (RFC 5723 §4.1).
	Tickets time.Duration
	// Childless is whether the IKE SA is opened without a child.
	Childless Childless
	// IgnoreRedirects makes the initiator stay where it is, whatever the gateway says
	// (RFC 5685 §3). Redirect is where the responder sends initiators that can be sent, in the
	// answer to IKE_SA_INIT or, with RedirectLate, in that to IKE_AUTH.
	IgnoreRedirects bool
	Redirect        message.GatewayID
	RedirectLate    bool
	// Streams is when the initiator opens TCP streams to the peer.
	Streams Streams
	// NoMOBIKE neither announces nor takes MOBIKE (RFC 4555 §3.1).
	NoMOBIKE bool
	// Rekey is the age at which we replace the IKE SA by another (RFC 7296 §2.8), minus
	// up to a tenth where we opened the connection, and plus up to a twentieth where the
	// peer did; zero means 4 h, negative never. Lifetime is the age at which it ends if
	// nobody did; zero means a tenth more than Rekey, negative never.
	Rekey, Lifetime time.Duration
	// Reauth is the age at which we authenticate again where we opened the SA, and by which
	// the peer must have done so where it did (RFC 4478 §3); zero or negative is never.
	Reauth time.Duration
	// PPKs are the post-quantum pre-shared keys that we know (RFC 8784 §3): as initiator we
	// name the first, as responder a peer may name any. With PPKRequired there is no SA
	// without one of them.
	PPKs        []PPK
	PPKRequired bool
	// StrictSignatures refuses SHA-1 in AUTH even from peers that announce no
	// hash algorithms.
	StrictSignatures bool
	// EAPOnly lets the gateway prove itself by EAP alone, by a method on TLS
	// (RFC 5998 §3): as the initiator we ask for it; as the responder we do so for those
	// that ask for it.
	EAPOnly bool
}

// AuthMethod is how a side proves its identity.
type AuthMethod uint8

const (
	AuthPSK AuthMethod = iota + 1
	AuthCert
	// AuthEAP logs in at a gateway (RFC 7296 §2.16). As the method of the gateway it
	// means that EAP has to prove the gateway too (RFC 5998 §3).
	AuthEAP
)

// Local is who we are on a connection.
type Local struct {
	Method AuthMethod
	ID     pki.Identity // zero: taken from the certificate, or our address for PSK
	PSK    suite.Secret
	// Credentials are tried in order for one whose kind the peer takes: a gateway may
	// have RSA and ECDSA.
	Credentials []*pki.Credential
	// PKCS1 signs with RSA PKCS#1 v1.5 instead of PSS in digital signatures (RFC 7427 §3).
	PKCS1 bool
	EAP   EAPPeer // for AuthEAP; with EAP-TLS the first of Credentials is the certificate
	// Next is how we prove ourselves a second time, in a round of its own
	// (RFC 4739 §2); nil for not.
	Next *Local
}

// Remote is what we demand of the peer.
type Remote struct {
	Method   AuthMethod
	ID       pki.Identity // a pattern; zero takes anybody who authenticates
	PSK      suite.Secret
	Verifier pki.Verifier // with Keys, of bare public keys
	Purpose  pki.Purpose
	// Revocation is what is asked about the peer's certificates, by Vouch.
	Revocation pki.Revocation
	EAP        EAPServer // for AuthEAP; ID is matched with the user's name then
	// Next is what we demand in a second round (RFC 4739 §2); nil for nothing. Of a
	// gateway there is one round only.
	Next *Remote
}

// ChildConfig is one configured child SA. Local and Remote are what we offer and
// accept, from our side. A dynamic side stands for the virtual address of that side
// (or, without one, for the outer address).
type ChildConfig struct {
	Name                        string
	Proposals                   []suite.Proposal
	Local, Remote               []message.Selector
	LocalDynamic, RemoteDynamic bool
	// Rekey and Lifetime are like those of Connection; zero means 1 h. RekeyBytes and
	// RekeyPackets are the traffic in one direction at which we replace the child, with
	// the same variation; zero means what the cipher bears, and 2^31 packets. It ends at
	// a tenth more.
	Rekey, Lifetime          time.Duration
	RekeyBytes, RekeyPackets uint64
	Window                   int
	TFC                      int  // octets to which what we send is padded (RFC 4303 §2.7), 0 none, -1 the tunnel's MTU
	CopyDSCP, KeepMSS        bool // for the data plane
	OnRequest                bool // not opened with the IKE SA but by Acquire
	// Parallel is how many SAs with the same selectors we open (RFC 9611 §3), and a peer may; zero
	// means one of ours, and 16 of peers that want them.
	Parallel int
}

// ChildInfo is a negotiated child SA pair without its keys.
type ChildInfo struct {
	ID               ChildID
	SA               SAID
	Connection, Name string
	SPIIn, SPIOut    uint32
	Suite            suite.Suite
	Local, Remote    []message.Selector
	Path             Path
	// Group is not 0 for SAs that share the traffic of the same selectors (RFC 9611 §3); Slot
	// is the place in it, which rekeying keeps.
	Group ChildID
	Slot  int
	// In a Status, when it is replaced and when it ends if nobody did, as things stand; zero is
	// never, and as yet unknown elsewhere.
	Rekey, Ends time.Time
}

// Child is all that the data plane needs of a child SA pair. The keys belong to
// whom it is handed.
type Child struct {
	ChildInfo
	In, Out ChildKeys
	Window  int
	TFC     int // as in ChildConfig; 0 where the peer does not take padding

	CopyDSCP, KeepMSS bool // as in ChildConfig
	// Soft and Hard are the traffic in either direction at which ChildAged is due.
	Soft, Hard Volume
}

// ChildKeys is the keys of one direction, in the order of RFC 7296 §2.17.
type ChildKeys struct{ Encr, Integ suite.Secret }

// Lease is what a configuration payload gives or gave (RFC 7296 §3.15): addresses of the
// initiator with prefix length, resolvers, the subnets behind the gateway, domains.
type Lease struct {
	Addresses []netip.Prefix
	DNS       []netip.Addr
	Subnets   []netip.Prefix
	Domains   []string
	Anchors   []TrustAnchor
}

// TrustAnchor is a DNSSEC trust anchor of one of a Lease's Domains (RFC 8598 §4.2), for a resolver
// that verifies what the gateway's resolvers say.
type TrustAnchor struct {
	Domain string
	DS     message.DS
}

// String is the DS record of the domain as zone files have it.
func (a TrustAnchor) String() string { return a.Domain + ". IN DS " + a.DS.String() }
