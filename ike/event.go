package ike

import (
	"crypto/x509"
	"net/netip"
	"time"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/eap"
	"martlet/ike/message"
)

// Event is what happens to an engine. The set is closed.
type Event interface{ event() }

type (
	// Datagram is an IKE message that arrived, without non-ESP marker. The engine may
	// change Data in place and keeps no reference to it.
	Datagram struct {
		Path Path
		Data []byte
	}
	// Tick says that the time of Next has come.
	Tick struct{}
	// Initiate opens an IKE SA of a connection. IKE_SA_INIT goes to Path; if that is
	// no encapsulating path, everything from IKE_AUTH on goes to Encap (RFC 7296
	// §2.23).
	//
	// Child names the child that is wanted most, which is opened first, even if it is one
	// OnRequest; empty is the connection's first. Packet is what wants it.
	Initiate struct {
		Connection string
		Path       Path
		Encap      Path
		Child      string
		Packet     Packet
		// Replaces is an SA of the same connection that ends when this one has all its
		// children; 0 is none.
		Replaces SAID
	}
	// Reload puts other connections in force. SAs of those that are gone end; those that
	// changed are replaced, make before break, by whoever opened them (Moved: by an
	// Initiate with Replaces, which follows); all others stay and go by the new words.
	Reload struct {
		Connections    []*Connection
		Changed, Moved []string
	}
	// Terminate deletes IKE SAs at the peer and here: one, or those of a
	// connection, or (both zero) all. Reason goes to the report. Replaced says that
	// the peer has no use for the SA any more (RFC 7296 §2.4): its children go at once,
	// not when the peer has agreed, so that nothing is sent on them. Surplus says that both
	// ends have another SA with the same children: nothing more is sent on those of this one,
	// the peer hears of its end a second later, when what was sent before has arrived, and
	// what the peer sends until it hears of it is taken. Replaced and Surplus are of one SA.
	Terminate struct {
		SA         SAID
		Connection string
		Reason     string
		Replaced   bool
		Surplus    bool
	}
	// ProbeMTU finds out how large the outer packets may be that go to the peer of an SA on
	// its path now, headers of IP included, by messages that are padded: for networks that
	// drop what is too large and say nothing. High is tried first, and if that does not pass,
	// usual sizes between Low and High, of which Low is not tried. One search is under way at
	// a time, another ProbeMTU takes its place; it gives way to everything else that the SA has
	// to ask, and costs it nothing but time: what did not pass goes again in small fragments.
	//
	// PathMTU reports the end. None comes where the path changes or the SA ends before; after
	// a PathChanged it is for the caller to begin anew. An SA that has another one's place by
	// rekeying goes on with the search.
	ProbeMTU struct {
		SA        SAID
		Low, High int
	}
	// Check asks the peer of an SA that stands whether it has that SA too. Alive reports the
	// answer; the SA ends where none comes.
	Check struct{ SA SAID }
	// Prefer lets the children of an SA take what the host sends, before those of other SAs
	// with the same selectors.
	Prefer struct{ SA SAID }
	// CloseChild deletes one child SA at the peer and here.
	CloseChild struct{ Child ChildID }
	// Rekey replaces a child SA, or, where Child is 0, an IKE SA, by another one with
	// fresh keys, before its time (RFC 7296 §2.8).
	Rekey struct {
		SA    SAID
		Child ChildID
	}
	// Reauth wants another proof of who is at the other end: of one SA, of those of a
	// connection, or (both zero) of all. Those that we opened are replaced at once; who
	// opened the others is told to do so (RFC 4478 §3), and they end where that does not happen
	// Within.
	Reauth struct {
		SA         SAID
		Connection string
		Within     time.Duration
	}
	// ChildAged says that a child has carried more than Child.Soft, and must be
	// replaced, or more than Child.Hard, and must end.
	ChildAged struct {
		Child ChildID
		Hard  bool
	}
	// Acquire opens a further child of an established connection by
	// CREATE_CHILD_SA (RFC 7296 §1.3.1), or what is missing of one of which the peer
	// gave a part. Packet is what wants it; the peer is asked for selectors that hold it.
	// What came of it is told by ChildUp, ChildFailed, or ChildStands.
	Acquire struct {
		Connection, Child string
		Packet            Packet
	}
	// RedirectPeers sends the initiators of standing SAs to another gateway (RFC 5685
	// §7), those that can be sent: of one SA, of a connection, or (both zero) of all.
	RedirectPeers struct {
		SA         SAID
		Connection string
		To         message.GatewayID
	}
	// Remapped says that an authentic packet of a child, the newest so far, came from
	// another address than its path has.
	Remapped struct {
		Child ChildID
		Path  Path
	}
	// Moved says that the addresses or routes of this host are others than before, or
	// that it may have slept. Addresses are those on which peers can reach it.
	Moved struct {
		Addresses []netip.Addr
		Woken     bool
	}
	// StreamClosed says that a TCP stream that we had opened is gone.
	StreamClosed struct{ Path Path }
	// UnknownSPI says that ESP with no SA came from a path; it is a hint only.
	UnknownSPI struct {
		Path Path
		SPI  uint32
	}
	// Answer returns the answer to an Ask, by its ID. One that comes too late is
	// ignored.
	Answer struct {
		ID    AskID
		Value Reply
	}
)

func (Datagram) event()      {}
func (Tick) event()          {}
func (Initiate) event()      {}
func (Terminate) event()     {}
func (ProbeMTU) event()      {}
func (Check) event()         {}
func (Prefer) event()        {}
func (CloseChild) event()    {}
func (Reauth) event()        {}
func (Reload) event()        {}
func (Rekey) event()         {}
func (ChildAged) event()     {}
func (Acquire) event()       {}
func (Remapped) event()      {}
func (Moved) event()         {}
func (StreamClosed) event()  {}
func (UnknownSPI) event()    {}
func (RedirectPeers) event() {}
func (Answer) event()        {}

// Action is what an engine wants done, in this order. The set is closed.
type Action interface{ action() }

// AskID pairs an Ask with its Answer.
type AskID uint64

type (
	// Send sends an IKE message (without marker), or, where Keepalive is set, the
	// single octet of a NAT keepalive. Data stays the engine's and is not
	// changed later, so it may be kept.
	//
	// DontFragment wants the datagram to arrive whole or not at all, whatever is known of the
	// path: IPv4's DF, and on IPv6 no fragment header. If the system refuses to send it so, it
	// is lost like any other, and must not go another way.
	Send struct {
		Path         Path
		Data         []byte
		Keepalive    bool
		DontFragment bool
	}
	// Install puts a child SA into the data plane, in both directions. It cannot
	// fail: what could was asked before.
	Install struct{ Child *Child }
	// Switch makes a child SA take what the host sends, before the one in whose place
	// it was installed.
	Switch struct{ Child ChildID }
	// Retire ends the sending on a child SA. What the peer sent before it knew is
	// taken until the Remove, which comes some seconds later.
	Retire struct{ Child ChildID }
	// Remove takes a child SA out of the data plane.
	Remove struct{ Child ChildID }
	// Move changes the path of a child SA.
	Move struct {
		Child ChildID
		Path  Path
	}
	// Ask wants an Answer. The SA waits, others go on.
	Ask struct {
		ID       AskID
		Question Question
	}
	// Report tells what happened, for people, logs and status. It holds no key.
	Report struct{ What Happening }
)

func (Send) action()    {}
func (Install) action() {}
func (Switch) action()  {}
func (Retire) action()  {}
func (Remove) action()  {}
func (Move) action()    {}
func (Ask) action()     {}
func (Report) action()  {}

// Question is what an Ask is about; Reply is what an Answer holds. Both sets are closed.
type (
	Question interface{ question() }
	Reply    interface{ reply() }
)

type (
	// Work is a computation that takes long or belongs to somebody else: a
	// signature by any crypto.Signer, a MODP group of 3072 bits and more. Run is
	// pure and is called once, on any goroutine; its result is the Answer.
	Work struct{ Run func() Reply }
	// WorkDone is Work's reply.
	WorkDone struct {
		Value any
		Err   error
	}
	// Admit asks, on the responder, whether an authenticated peer may come in, and
	// for its lease. Identity is what it proved: its IDi, or with EAP the name of its
	// account, never its IDi, which says nothing then; EAPIdentity is that name as it
	// came, and empty without EAP. InitialContact asks for the removal of its other SAs
	// (RFC 7296 §2.4), which are those of the same Identity. The reply is an Admission; one that comes after the Down of the SA is
	// void, and its lease free again.
	//
	// Claimed is the IDi of its last round, by which devices of one account differ. Wanted
	// are the addresses that it names in its request (RFC 7296 §3.15.1).
	Admit struct {
		SA             SAID
		Connection     string
		Identity       pki.Identity
		EAPIdentity    string
		Claimed        pki.Identity
		Path           Path
		WantIPv4       bool
		WantIPv6       bool
		Wanted         []netip.Addr
		InitialContact bool
		// Ticket is that by which the peer resumes an SA that it lost (RFC 5723 §4.3). It must be let
		// in once by each. Binding is what the Admission said with which that ticket was given out.
		Ticket  TicketID
		Binding [32]byte
	}
	// Admission lets the peer in with a lease, or refuses it: Refuse says why, and
	// Notify is what the peer is told (INTERNAL_ADDRESS_FAILURE,
	// AUTHENTICATION_FAILED, NO_ADDITIONAL_SAS). Lifetime is what the peer is told
	// of the time after which it has to authenticate again (RFC 4478 §3), 0 for nothing.
	// Barred are the names of children that the peer may not open.
	Admission struct {
		Lease    Lease
		Lifetime time.Duration
		Barred   []string
		// NoTicket keeps the peer from resuming this SA. Binding goes into its ticket, unseen by the
		// peer, and comes back with it: a digest of that by which the peer was let in, say, for whom
		// the ticket is void when that is another by then.
		NoTicket bool
		Binding  [32]byte
		Refuse   string
		Notify   message.NotifyType
	}
	// Account asks, on the responder, for the account of a user of ours, whose name
	// may be anything. The reply is AccountReply, with nil if there is none.
	Account struct {
		SA               SAID
		Connection, Name string
	}
	// AccountReply is Account's reply.
	AccountReply struct{ Account *eap.Account }
	// Credential asks, on the initiator, a person for what the configuration does
	// not have: the user name where User is empty, and the password. It is asked
	// only when the gateway has proven who it is, but for EAP-only
	// authentication. The reply is CredentialReply.
	Credential struct {
		SA         SAID
		Connection string
		Gateway    pki.Identity
		User       string
	}
	// CredentialReply is what the person said, or why there is nothing. The password
	// is the engine's from then on.
	CredentialReply struct {
		User     string
		Password suite.Secret
		Err      error
	}
	// Relay asks, on the responder, to pass an EAP packet of the peer on to a AAA
	// server (RFC 3579 §2). The first of an SA is the EAP-Response/Identity. The
	// reply is Relayed. What the server imposes besides (address, session time) is
	// the runner's to keep until it answers Admit of the same SA.
	Relay struct {
		SA         SAID
		Connection string
		Path       Path
		Identity   string // that the peer gave in EAP-Response/Identity
		Packet     []byte
	}
	// Relayed is the server's answer: an EAP packet for the peer, and with Accept or
	// Reject its verdict (then Packet may be empty: EAP-Success or EAP-Failure is
	// made up). MSK is from MS-MPPE-Recv-Key and -Send-Key, nil without. Identity is
	// the user's name if the server changed it. Err says why there is no answer.
	Relayed struct {
		Packet         []byte
		Accept, Reject bool
		MSK            suite.Secret
		Identity       string
		Err            error
	}
	// Vouch asks whether the certificates of a chain that was verified are revoked. The
	// reply is Vouched. The answer is wanted within seconds: the peer waits.
	Vouch struct {
		SA         SAID
		Connection string
		Chain      []*x509.Certificate // the peer's own first, the trusted one last
		Policy     pki.Revocation
		Stapled    [][]byte // OCSP responses that the peer sent along (RFC 4806 §3), unverified
	}
	// Vouched lets the chain pass, or says in a *pki.CertError why not.
	Vouched struct{ Err error }
	// Staple asks for an OCSP response about one of our certificates, which the peer
	// wants to see (RFC 4806 §3). The reply is Stapled.
	Staple struct{ Credential *pki.Credential }
	// Stapled is an OCSP response in DER, or nothing.
	Stapled struct{ OCSP []byte }
	// Configure asks, on the initiator, to set up the host for what the gateway
	// gave, before the children are installed. The reply is Configured.
	Configure struct {
		SA         SAID
		Connection string
		Lease      Lease
		Children   []ChildInfo
	}
	// Configured says that the host is ready, or why not.
	Configured struct{ Err error }
	// Reach asks, on the initiator, for the way to another gateway of a connection, to
	// which the one at hand redirects us; by a stream, if there is one, where Stream is set.
	// The reply is Reached.
	Reach struct {
		SA         SAID
		Connection string
		To         message.GatewayID
		Stream     bool
	}
	// Reached has the paths of an Initiate, or says why there are none.
	Reached struct {
		Path, Encap Path
		Err         error
	}
	// FindPaths asks for the ways by UDP to a peer: from each address of this host that may
	// do, to each of Remotes, at the port and of the kind of Path, which is the one now; where
	// that is a stream, at the port that the peer has for UDP. The reply is PathsFound.
	FindPaths struct {
		SA         SAID
		Connection string
		Path       Path
		Remotes    []netip.Addr
	}
	// PathsFound has ways that there are sockets for, the best first. None means that
	// this host has no network.
	PathsFound struct{ Paths []Path }
	// OpenStream asks, on the initiator, for a TCP stream to an address of the peer
	// (RFC 9329 §6.1). The reply is StreamOpened.
	OpenStream struct {
		SA         SAID
		Connection string
		Remote     netip.Addr
	}
	// StreamOpened has the path, or says why there is none.
	StreamOpened struct {
		Path Path
		Err  error
	}
	// Usage asks what a child's SAs last did. The reply is UsageReply.
	Usage struct{ Children []ChildID }
	// UsageReply tells how long ago, in nanoseconds, something authentic was
	// last heard and something last sent on any of the children; negative is never.
	UsageReply struct{ Heard, Sent int64 }
)

func (Work) question()       {}
func (Admit) question()      {}
func (Configure) question()  {}
func (Reach) question()      {}
func (FindPaths) question()  {}
func (OpenStream) question() {}
func (Usage) question()      {}
func (Credential) question() {}
func (Relay) question()      {}
func (Vouch) question()      {}
func (Staple) question()     {}
func (Account) question()    {}

func (WorkDone) reply()        {}
func (Admission) reply()       {}
func (Configured) reply()      {}
func (PathsFound) reply()      {}
func (StreamOpened) reply()    {}
func (UsageReply) reply()      {}
func (Reached) reply()         {}
func (CredentialReply) reply() {}
func (Relayed) reply()         {}
func (Vouched) reply()         {}
func (Stapled) reply()         {}
func (AccountReply) reply()    {}
