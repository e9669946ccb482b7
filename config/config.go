// Package config is Martlet's one configuration file: strict TOML, loaded, checked
// as a whole and explained. Every key is documented here, once, on its field;
// `martlet config reference` prints these comments.
//
// A Config that Load returned is complete: secrets, keys and certificates are
// read, names and proposals are parsed, and nothing in it can fail later for a
// reason that the file alone shows. A Config built by hand becomes so by Complete.
package config

import (
	"net/netip"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/tun/proxy"
)

// Config is a whole file. The zero value is what an empty file says.
type Config struct {
	// Node is what concerns the program as a whole.
	Node Node `toml:"node"`
	// Connections are the peers, by name.
	Connections map[string]*Connection `toml:"connection"`
	// Pools are the addresses that a gateway hands out, by name.
	Pools map[string]*Pool `toml:"pool"`
	// RADIUS is what peers are authenticated by, and told to, that come in by "eap-radius".
	RADIUS RADIUS `toml:"radius"`
	// Users are the accounts of peers that log in by EAP with a password, by name.
	Users map[string]*User `toml:"user"`
	// Proxies are doors into the tunnel for programs of this host, by name. They, forwards and the
	// relay for DNS need mode "userspace".
	Proxies map[string]*Proxy `toml:"proxy"`
	// Forwards are single ports that lead into the tunnel or out of it, by name.
	Forwards map[string]*Forward `toml:"forward"`
	// DNS is how programs of this host ask the resolvers inside the tunnel.
	DNS DNS `toml:"dns"`
	// Userspace is how far the clients of a gateway in mode "userspace" get.
	Userspace Userspace `toml:"userspace"`

	// Warnings are what Load or Complete found weak but allowed, a line each.
	Warnings []Warning `toml:"-"`

	origin *origin
}

// Node is the program's own settings. In a Config built by hand its ports, Control
// and State have no default: 0 and "" are what their comments say.
type Node struct {
	// Mode is where packets of the tunnel come from and go to: "tun" is a device of this host,
	// with routes, so that every program uses the tunnel; it needs root. "userspace" is inside this
	// process, without any privilege: programs use the tunnel by the doors that [proxy.NAME],
	// [forward.NAME] and [dns] open, and nothing else is protected. "auto" is "tun" where that is
	// allowed and there is no such door, and "userspace" elsewhere. Left out, it is "auto" in a container and "tun" elsewhere.
	Mode string `toml:"mode"`
	// Device is the name of the TUN device. macOS has "utun" with a number there, OpenBSD "tun"
	// with one, and on FreeBSD a number ends it, so that pf knows it for an interface.
	Device string `toml:"device" default:"martlet0" darwin:"utun77" openbsd:"tun3"`
	// MTU of the TUN device in octets; 0 computes it from path and cipher.
	MTU int `toml:"mtu" range:"0,576..65535"`
	// Listen are the addresses on which a gateway waits for IKE and ESP.
	Listen []netip.Addr `toml:"listen" default:"[\"0.0.0.0\", \"::\"]"`
	// IKEPort is the UDP port for IKE without NAT traversal; 0 opens none.
	IKEPort uint16 `toml:"ike_port" default:"500" zero:"kept"`
	// NATPort is the UDP port for IKE and ESP in UDP; 0 lets the system choose one.
	NATPort uint16 `toml:"nat_port" default:"4500" zero:"kept"`
	// TCPPort is the TCP port on which peers are let in that cannot reach us by UDP (RFC
	// 9329); 0 opens none. Peers that do not know another one use 4500; 443 passes most
	// firewalls.
	TCPPort uint16 `toml:"tcp_port"`
	// Mark is the firewall mark of our own packets, which keeps them out of the tunnel on Linux.
	Mark uint32 `toml:"mark" default:"0x4d610000" range:"1..0xffffffff"`
	// Table is the number of the routing table of the tunnel's routes on Linux.
	Table int `toml:"table" default:"19809" range:"1..252,256..0x7fffffff"`
	// KillSwitch lets nothing of this host and of what it forwards past the tunnel, neither out nor
	// in, from the start of `martlet up` on until `martlet down` or a signal ends it: not before the
	// tunnel stands, not while it is lost, and not after martlet failed or was killed. Then the host
	// stays closed until martlet is started again, or `martlet down` opens it. It is strict: what
	// the tunnel's routes leave out is closed too, and local networks and those of containers with
	// it, unless exclude or allow_lan of a connection name them. What passes is martlet's own
	// traffic, its questions for the names of gateways among it, and DHCP, ARP and neighbour
	// discovery. Its own is what has Mark on Linux, what comes from its program file on Windows, and
	// elsewhere what programs of its user exchange with its peers. Other programs get names only from
	// resolvers that are inside the tunnel or on this host. It needs mode "tun" and a remote for
	// every connection.
	KillSwitch bool `toml:"kill_switch"`
	// NoPortalCheck leaves out to ask, when a gateway gives no answer to `martlet up`, or for `martlet
	// doctor`, whether the network wants a login at a page of its own first. That asks two pages of others, by which
	// Android and Firefox find out the same. With KillSwitch it is never asked unasked.
	NoPortalCheck bool `toml:"no_portal_check"`
	// Profile is how much of the machine is used: left out it is as much as processors and memory
	// allow; "small" is one queue, buffers that are small, and little memory, for a container beside
	// another program. With less than 256 MiB of memory it is "small" by itself.
	Profile string `toml:"profile"`
	// Control is the path of the control socket; without one there is none.
	Control string `toml:"control" default:"/run/martlet/control.sock" darwin:"/var/run/martlet/control.sock" freebsd:"/var/run/martlet/control.sock" openbsd:"/var/run/martlet/control.sock" windows:"C:\\Program Files\\martlet\\run\\control.sock" zero:"kept"`
	// User is whom `martlet up` and `martlet serve` run as on Linux, without any right of root, once they
	// are started by root: a process of root beside theirs sets routes, packet filter and resolvers, and
	// restores them should theirs die. Left out it is "martlet", or "nobody" where there is no such user.
	// With "root" there is one process, which keeps its rights.
	User string `toml:"user"`
	// Monitor is an address and port for HTTP, "127.0.0.1:9586" for example, with what watches over
	// programs asks for: /startupz, /livez and /readyz for probes, /metrics for Prometheus, and
	// /status. Whoever reaches it can read all of that but /status, which only this host can.
	Monitor string `toml:"monitor"`
	// Drain is how long connections through proxies and forwards may go on when the
	// program ends.
	Drain Duration `toml:"drain" default:"5s"`
	// State is the folder where what must be undone after a crash is noted; without
	// one nothing is noted.
	State string `toml:"state" default:"/run/martlet" darwin:"/var/run/martlet" freebsd:"/var/run/martlet" openbsd:"/var/run/martlet" windows:"C:\\Program Files\\martlet\\run" zero:"kept"`
	// HalfOpen is how many peers may have begun an IKE SA here and not proven who they are.
	HalfOpen int `toml:"half_open" default:"10000" range:"1..1000000"`
	// HalfOpenSource is how many of them may come from one IPv4 address or IPv6 /64.
	HalfOpenSource int `toml:"half_open_source" default:"1000" range:"1..1000000"`
	// Cookies is from how many half-open SAs on a peer has to show that it receives what is
	// sent to its address; 0 is always.
	Cookies int `toml:"cookies" default:"100" range:"0..1000000" zero:"kept"`
	// CookiesSource is from how many of its own IPv4 address or IPv6 /64 on; 0 is always.
	CookiesSource int `toml:"cookies_source" default:"3" range:"0..1000000" zero:"kept"`
	// Puzzles is from how many half-open SAs on a peer has to solve a puzzle (RFC 8019); of
	// those that cannot few are let in then. 0 is always.
	Puzzles int `toml:"puzzles" default:"5000" range:"0..1000000" zero:"kept"`
	// PuzzlesSource is from how many of its own IPv4 address or IPv6 /64 on; 0 is always.
	PuzzlesSource int `toml:"puzzles_source" default:"500" range:"0..1000000" zero:"kept"`
	// RevocationHosts are the hosts that may be asked whether a certificate is revoked, wherever
	// certificates say that this is to be asked: names, addresses, and "*.example" for all names
	// below example. Without any, every host may be.
	RevocationHosts []string `toml:"revocation_hosts"`
	// KeyLog is a folder for Wireshark's key tables. Whoever reads it reads the traffic.
	KeyLog string `toml:"key_log"`
	// LogLevel is "debug", "info", "warn" or "error".
	LogLevel string `toml:"log_level" default:"info"`
}

// Connection is one peer, or a group of peers that come in the same way.
type Connection struct {
	// Name is the key of the table.
	Name string `toml:"-"`
	// Remote are the peer's host names or addresses, tried in order. A connection
	// without is only for peers that come to us.
	Remote []string `toml:"remote"`
	// From are the prefixes from which a peer may come to us; the default is the
	// addresses of Remote, or anywhere where there is no Remote.
	From []netip.Prefix `toml:"from"`
	// Port is the peer's UDP port. The default starts at 500 and moves to 4500; any
	// other number is used from the first message on.
	Port uint16 `toml:"port"`
	// LocalPort is our UDP port as initiator; 0 chooses one.
	LocalPort uint16 `toml:"local_port"`
	// TCP is when IKE and ESP go to the peer in TCP (RFC 9329): "auto" where UDP gives no answer
	// for some seconds, until it does again; "always", or "never". The peer must know TCP too.
	TCP string `toml:"tcp" default:"auto"`
	// TCPPort is the peer's TCP port.
	TCPPort uint16 `toml:"tcp_port" default:"4500"`
	// Proposals of IKE in strongSwan's keywords; "default" stands for the defaults.
	Proposals []string `toml:"proposals" default:"[\"default\"]"`
	// PostQuantum says what is done against who records the traffic today and has a quantum
	// computer later: "prefer" makes "default" in Proposals offer an ML-KEM key exchange
	// beside the first one (RFC 9370), and the same without for peers that do not know it;
	// "require" has no IKE SA without; "off" does not offer it. "require" holds for
	// Proposals that are written out too.
	PostQuantum PostQuantum `toml:"post_quantum" default:"prefer"`
	// Legacy adds what peers need whose defaults are out of date, and warns of it:
	// "windows-default" is Windows as it is installed (AES-CBC with modp1024, whoever records
	// the traffic and is a state can read it, and SHA-1 in ESP); "old-cloud" is Azure with its stock
	// policies (modp1024 and SHA-1). Where it can be, set the peer right instead.
	Legacy Legacy `toml:"legacy"`
	// Local is how we prove who we are.
	Local Auth `toml:"local"`
	// Peer is how the peer must prove who it is.
	Peer Auth `toml:"peer"`
	// Keep is when the connection is open: "up" (from the start of `martlet serve`, or from
	// `martlet up`, and again whenever it was lost), "on-demand" (from the first packet that
	// its children are for, and again with the next one after it was lost), or "manual" (from
	// `martlet up` until it is lost). The default is "up" where there is a Remote. After
	// `martlet down` it stays closed.
	Keep Keep `toml:"keep"`
	// Local2 is a second proof of ours after the first (RFC 4739 §2): a user behind a device.
	Local2 Auth `toml:"local2"`
	// Peer2 is a second proof that the peer must give.
	Peer2 Auth `toml:"peer2"`
	// EAPOnly lets a gateway prove itself by "eap-tls", "eap-ttls" or "eap-peap" alone, without a
	// proof of its own before (RFC 5998 §3): a client asks for it, a gateway does so
	// for clients that ask.
	EAPOnly bool `toml:"eap_only"`
	// Request asks the gateway for virtual addresses: "ipv4", "ipv6".
	Request []string `toml:"request"`
	// Pool names the pools from which peers get virtual addresses, unless RADIUS names
	// others or an address (Framed-Pool, Framed-IP-Address).
	Pool []string `toml:"pool"`
	// Groups are those whose members may come in, as users have them, or RADIUS tells
	// them by Class or Filter-Id; the default is everybody who proves who he is.
	Groups []string `toml:"groups"`
	// Unique is what happens when a peer comes in that has an SA already: "contact" ends
	// those of the same device if the peer says that it has lost them (INITIAL_CONTACT), "replace"
	// ends all others of the same identity, "keep" turns the new one away, and "never" leaves
	// them alone.
	Unique string `toml:"unique" default:"contact"`
	// DNS are the resolvers that peers with virtual addresses are told.
	DNS []netip.Addr `toml:"dns"`
	// Domains are those whose names the resolvers in DNS know, with all below them; peers that
	// can split DNS ask these resolvers for nothing else (RFC 8598).
	Domains []string `toml:"domains"`
	// TrustAnchors are told to peers that want to verify by DNSSEC what the resolvers say of
	// domains: each is a domain and its DS record, as in "corp.example 20326 8 2 E06D…" (key
	// tag, algorithm, digest type, digest).
	TrustAnchors []string `toml:"trust_anchors"`
	// TrustAnchorsFor are the domains for which, and for all below them, trust anchors are taken
	// from the gateway; whoever has the trust anchor of a domain can say anything of it. Left
	// out, none are (RFC 8598).
	TrustAnchorsFor []string      `toml:"trust_anchors_for"`
	Anchors         []TrustAnchor `toml:"-"` // TrustAnchors, parsed

	// Routes are the destinations to send into the tunnel: "selectors" (what was
	// negotiated), "none", or a list of prefixes. A child whose remote side is everything
	// needs a list (or "none") where no virtual address is requested.
	Routes Routes `toml:"routes" default:"selectors"`
	// Exclude are destinations that stay outside of the tunnel though Routes cover them, unless
	// they do with a longer prefix. A kill switch lets them pass. They need a device.
	Exclude []netip.Prefix `toml:"exclude"`
	// AllowLAN is Exclude for the private networks that this host is attached to at the time, up
	// to a /16 or an IPv6 /48, and for what stays on a link; public ones never, and none that meets
	// a route of the tunnel which is a /8 or narrower, since whoever runs a network may claim any.
	AllowLAN bool `toml:"allow_lan"`
	// Masquerade hides the peers' addresses behind ours when their packets go on.
	Masquerade bool `toml:"masquerade"`
	// PeerToPeer lets peers of this node reach each other through it.
	PeerToPeer bool `toml:"peer_to_peer"`
	// Liveness is the silence after which the peer is checked; "0s" never.
	Liveness Duration `toml:"liveness" default:"30s"`
	// Keepalive is the interval of NAT keepalives where there is a NAT; "0s" never.
	Keepalive Duration `toml:"keepalive" default:"20s"`
	// Rekey is the age at which we replace the IKE SA by one with fresh keys; "0s" leaves that
	// to the peer. Who opened the connection does it up to a tenth earlier, the other side up
	// to a twentieth later.
	Rekey Duration `toml:"rekey" default:"4h"`
	// Lifetime is the age at which the IKE SA ends, if nobody could replace it; "0s" never. The
	// default is a tenth more than rekey.
	Lifetime Duration `toml:"lifetime"`
	// Reauth is the age at which both sides prove again who they are: where we opened the
	// connection we do it by another IKE SA, up to a tenth earlier; where the peer did it is
	// told to (RFC 4478), and the IKE SA ends if it does not, but for Windows clients, which
	// cannot. The default is never.
	Reauth Duration `toml:"reauth"`
	// FragmentSize is the longest IKE datagram in octets; 0 is what fits a packet of
	// 1280, -1 turns fragmentation off.
	FragmentSize int `toml:"fragment_size" range:"-1,0,256..65507"`
	// NoMOBIKE turns MOBIKE off. A peer of ours that moves is then followed by what it sends,
	// and where we move the peer has to do that.
	NoMOBIKE bool `toml:"no_mobike"`
	// Strict refuses SHA-1 in signatures of peers that announce nothing better.
	Strict bool `toml:"strict"`
	// Tickets is how long a peer can resume an SA that it lost without proving itself anew (RFC
	// 5723), 24h at most: as a gateway, the life of the tickets that we give out; as a client,
	// how long we use one. "0s" never. Peers that RADIUS let in, and those of a connection that
	// asks about revocation, get none from us.
	Tickets Duration `toml:"tickets" default:"1h"`
	// Childless is about IKE SAs without a child, whose children come later, each with a key
	// exchange of its own (RFC 6023): "allow" lets the peer open such, "prefer" opens such where
	// the peer can, "force" no other, "never" refuses them.
	Childless string `toml:"childless" default:"allow"`
	// Redirect is another gateway, by name or address, to which peers that come to us are
	// sent, those that can be (RFC 5685); others are served.
	Redirect string `toml:"redirect"`
	// RedirectIn is when: "init" answers a peer's first message so, "auth" waits until it has
	// proven who it is. An SA that stands is sent away by `martlet redirect`.
	RedirectIn string `toml:"redirect_in" default:"init"`
	// IgnoreRedirects stays with the gateway that was called, wherever it sends us.
	IgnoreRedirects bool `toml:"ignore_redirects"`
	// PPKs are post-quantum pre-shared keys (RFC 8784) under the names by which the peers
	// know them too: whoever breaks the key exchange one day still needs such a key. Where
	// we begin there is one; a gateway takes each that a peer names.
	PPKs map[string]*PPK `toml:"ppk"`
	// PPKRequired has no IKE SA without a post-quantum pre-shared key.
	PPKRequired bool `toml:"ppk_required"`
	// Children are the traffic to protect, by name. Without any, there is one child
	// "net" with the defaults of Local and Remote.
	Children map[string]*Child `toml:"child"`

	// IKE is Proposals, parsed.
	IKE []suite.Proposal `toml:"-"`
}

// Auth is one side's proof of identity.
type Auth struct {
	// Auth is "psk", "cert", or a way to log in by EAP: "eap-mschapv2", "eap-tls", "eap-ttls",
	// "eap-peap", "eap-gtc", "eap-md5", or "eap" for those of them that the table has what
	// is needed for, but without gtc and md5. For a peer that is how it logs in at us,
	// and "eap-radius" leaves it to a RADIUS server; the name of the account is then what
	// id is compared with.
	Auth string `toml:"auth"`
	// ID is the identity in strongSwan's grammar; for the peer it may be a pattern such
	// as "*@example.com". Our default is the certificate's name, or our address with a
	// pre-shared key. The peer's default is the name of its only certificate; else,
	// where it has a certificate, the connection's one remote; else anybody who proves
	// who he is.
	ID string `toml:"id"`
	// Secret is the pre-shared key: in place, or "file:PATH", or "env:NAME"; "0s" and
	// "0x" before the value mean base64 and hex. Both sides of a connection share it,
	// and it may stand on either. With EAP it is our password; without one, a person is
	// asked.
	Secret Secret `toml:"secret"`
	// User is our name at EAP. Without one, a person is asked; with "eap-tls" it is that of
	// the certificate.
	User string `toml:"user"`
	// EAPID is the name that the gateway hears before TTLS or PEAP hides User:
	// "anonymous@example.com". The default is User.
	EAPID string `toml:"eap_id"`
	// Inner are the methods inside TTLS and PEAP: "mschapv2", "gtc", "md5", and in TTLS
	// "pap" and "plain-mschapv2". The default is the first three for us, and all for a peer.
	Inner []string `toml:"inner"`
	// EAPServer is the name that the TLS certificate of the EAP server must have. The
	// default is the gateway's id with eap_only, and any name below EAPCA else.
	EAPServer string `toml:"eap_server"`
	// EAPCA are files with the certificate authorities of the EAP server; the default is
	// the peer's ca.
	EAPCA []string `toml:"eap_ca"`
	// TLS is "1.2" or "1.3" to have only that version inside EAP; the default is both.
	TLS string `toml:"tls"`
	// StripDomain makes "carol" of "CORP\carol".
	StripDomain bool `toml:"strip_domain"`
	// Cert are files with our certificate and the chain above it, or with a peer's only
	// accepted certificate. Several certificates of ours need as many keys. A file may be
	// PKCS#12, which has the key in it, or a bare public key in PEM (RFC 7670), of ours or
	// of the peer, who then needs no certificate.
	Cert []string `toml:"cert"`
	// Key are files with the private keys: "file:PATH" or PATH.
	Key []string `toml:"key"`
	// KeyPassword opens our PKCS#12 files and encrypted private keys; it is given as a
	// secret is.
	KeyPassword Secret `toml:"key_password"`
	// CA are files with the certificate authorities that the peer's chain must reach;
	// "system" is the system's store.
	CA []string `toml:"ca"`
	// Revocation is what is asked about the peer's certificates, once they are trusted, of the
	// OCSP responders and revocation lists that they name: "off", nothing; "relaxed", one that
	// is known to be revoked is refused; "strict", and so is one of which nobody says that
	// it is good. Left out, it is "relaxed" where there is a crl, else "off".
	Revocation string `toml:"revocation"`
	// CRL are files with revocation lists, or folders of such files, which are read again
	// when they change.
	CRL []string `toml:"crl"`

	Identity      pki.Identity      `toml:"-"`          // ID, parsed
	Methods       []string          `toml:"-"`          // of EAP, by preference, without "eap-"
	EAPVerifier   pki.Verifier      `toml:"-"`          // EAPCA, loaded; Now is not set
	EAPServerName pki.Identity      `toml:"-"`          // EAPServer, parsed
	Credentials   []*pki.Credential `toml:"-" json:"-"` // Cert and Key, loaded; never encoded, for the keys are in it
	Verifier      pki.Verifier      `toml:"-"`          // CA or bare keys, loaded; Now is not set
	Policy        pki.Revocation    `toml:"-"`          // Revocation, parsed
}

// User is an account of ours.
type User struct {
	// Name is the key of the table: what the person types, with the domain before it
	// ("CORP\\carol") where the device sends one and strip_domain does not take it away.
	Name string `toml:"-"`
	// Password stands in place, or in "file:PATH" or "env:NAME"; "0s" and "0x" before the
	// value mean base64 and hex. A user who comes with a certificate needs none; its name
	// is then what the certificate proves.
	Password Secret `toml:"password"`
	// Groups are those that the user is in, for groups in connections, children and pools.
	Groups []string `toml:"groups"`
	// Address are the virtual addresses that are the user's alone, at most one of each family.
	// They need not be in a pool, but the connection must have one.
	Address []netip.Addr `toml:"address"`
}

// PPK is a post-quantum pre-shared key.
type PPK struct {
	// Name is the key of the table, and the key's name on the wire.
	Name string `toml:"-"`
	// Secret is the key, as secret in [connection.NAME.local]; it should have 256 bits of
	// entropy: openssl rand -base64 32
	Secret Secret `toml:"secret"`
}

// Child is one child SA.
type Child struct {
	// Name is the key of the table.
	Name string `toml:"-"`
	// Proposals of ESP in strongSwan's keywords.
	Proposals []string `toml:"proposals" default:"[\"default\"]"`
	// Local are the traffic selectors on our side: "10.1.0.0/16", "10.1.0.1-10.1.0.9",
	// "fd00::/8", each with an optional "[tcp/443]"; "dynamic" is our virtual address,
	// or our outer one. The default is everything of the families of the pools where
	// we hand out addresses, else "dynamic".
	Local []string `toml:"local"`
	// Remote are the traffic selectors on the peer's side; "dynamic" is the peer's virtual
	// address, or its outer one. The default is everything of the families that we
	// request addresses of, else "dynamic".
	Remote []string `toml:"remote"`
	// Groups are those whose members may open the child as peers; the default is everybody
	// who may come in.
	Groups []string `toml:"groups"`
	// Rekey is the age at which we replace the child SA, as that of the connection; "0s" leaves
	// that to the peer. Children of Windows clients are never replaced by us: they end the
	// connection then.
	Rekey Duration `toml:"rekey" default:"1h"`
	// Lifetime is the age at which the child SA ends, if nobody could replace it; "0s" never.
	// The default is a tenth more than rekey.
	Lifetime Duration `toml:"lifetime"`
	// RekeyBytes is how many octets in one direction make us replace the child SA; 0 is what
	// its cipher bears. At a tenth more it ends.
	RekeyBytes uint64 `toml:"rekey_bytes"`
	// RekeyPackets is how many packets do; 0 is half of the sequence numbers.
	RekeyPackets uint64 `toml:"rekey_packets"`
	// TFC is the length in octets to which packets for the peer are padded, so that their
	// lengths tell nothing (RFC 4303); 0 does not pad, and -1 pads to the longest that there are.
	// Peers that say that they take no padding get none.
	TFC int `toml:"tfc" range:"-1,0..65535"`
	// CopyDSCP copies the DSCP of inner packets to the outer header, so that networks on the
	// way can tell urgent packets, and observers too (RFC 2983). Left out, the outer one is 0.
	CopyDSCP bool `toml:"copy_dscp"`
	// KeepMSS leaves the segment size that TCP connections through the tunnel offer as it is. Left
	// out, it is lowered to what the tunnel takes, since routers that drop ICMP would let long
	// packets vanish.
	KeepMSS bool `toml:"keep_mss"`
	// Parallel is how many child SAs with the same selectors carry the traffic, so that a peer with
	// many processors may use several for it (RFC 9611), where the peer can; it may open no more
	// either. Left out, we open one, and a peer that wants more may have up to 16.
	Parallel int `toml:"parallel" range:"0..64"`
	// ReplayWindow in packets, 64 to 65536.
	ReplayWindow int `toml:"replay_window" default:"4096" range:"64..65536"`
	// Keep "up" opens the child with its connection, and again when it was lost while that
	// stands; "on-demand" opens it by the first packet that it is for, "manual" by
	// `martlet up CONNECTION CHILD`. Left out, it is as the connection.
	Keep Keep `toml:"keep"`

	ESP         []suite.Proposal `toml:"-"` // Proposals, parsed
	LocalTS     []Selector       `toml:"-"` // Local without "dynamic"
	RemoteTS    []Selector       `toml:"-"`
	LocalIsDyn  bool             `toml:"-"`
	RemoteIsDyn bool             `toml:"-"`
}

// Pool is a range of virtual addresses.
type Pool struct {
	// Name is the key of the table.
	Name string `toml:"-"`
	// Addresses are prefixes or ranges of one family. The first host of the first prefix is
	// the gateway's own; the rest is for peers.
	Addresses []string `toml:"addresses"`
	// Groups are those whose members get addresses from here; the default is everybody.
	Groups []string `toml:"groups"`
	// Hold is how long the address of a peer that vanished waits for it before another may
	// get it.
	Hold Duration `toml:"hold" default:"2m"`

	Ranges  []Range    `toml:"-"`
	Gateway netip.Addr `toml:"-"` // the gateway's own address; none in a pool of ranges only
}

// Proxy is a listener that speaks SOCKS5 and HTTP.
type Proxy struct {
	// Name is the key of the table.
	Name string `toml:"-"`
	// Listen is the address and port, such as "127.0.0.1:1080"; "*:1080" is all addresses.
	Listen string `toml:"listen"`
	// Protocol is "socks5" (with UDP), "http", or "both" on the one port.
	Protocol string `toml:"protocol" default:"both"`
	// User and password that clients must give; without, everybody may use the proxy who reaches it.
	User string `toml:"user"`
	// Password of user.
	Password Secret `toml:"password"`
	// Open lets other hosts in without a password.
	Open bool `toml:"open"`
}

// Forward is a port that leads to another one; exactly one of the two directions is set.
type Forward struct {
	// Name is the key of the table.
	Name string `toml:"-"`
	// Local leads from this host into the tunnel, as ssh's -L: "[udp:][bind:]port:host:port".
	Local string `toml:"local"`
	// Remote leads from inside the tunnel to this host or what it reaches, as ssh's -R, in the
	// same form.
	Remote string `toml:"remote"`
	// Open lets other hosts use a local forward.
	Open bool `toml:"open"`

	Parsed proxy.Forward `toml:"-"` // Local or Remote
}

// DNS says who is asked for names. With a device the tunnel's resolvers become those of this host
// while the tunnel stands. Else there may be a relay, which keeps nothing: of the suffixes of a
// name that stand in tunnel, host and refuse the longest says who is asked; where none does it is
// the tunnel's resolvers. For the names of gateways it is this host's.
type DNS struct {
	// Keep leaves this host the resolvers that it has, where there is a device.
	Keep bool `toml:"keep"`
	// Search are the domains that complete a short name, where there is a device. Names below
	// them go into the tunnel.
	Search []string `toml:"search"`
	// Listen is the relay's address and port for UDP and TCP; without one there is no relay.
	Listen string `toml:"listen"`
	// Open lets other hosts ask.
	Open bool `toml:"open"`
	// Tunnel are suffixes of names that the resolvers inside the tunnel are asked for. With a
	// device these are all; left out there, it is what the gateway says (RFC 8598), and all names
	// if it says nothing.
	Tunnel []string `toml:"tunnel"`
	// Host are suffixes of names that the resolvers of this host are asked for, outside the tunnel;
	// "." stands for all others.
	Host []string `toml:"host"`
	// Refuse are suffixes of names that nobody is asked for.
	Refuse []string `toml:"refuse"`
	// TunnelServers take the place of the resolvers that the gateway gave: addresses inside the
	// tunnel, with a port if it is not 53, which only a relay can ask.
	TunnelServers []string `toml:"tunnel_servers"`
	// HostServers take the place of those of /etc/resolv.conf.
	HostServers []string `toml:"host_servers"`

	Rules   []proxy.Rule     `toml:"-"` // Tunnel, Host and Refuse
	Inside  []netip.AddrPort `toml:"-"` // TunnelServers
	Outside []netip.AddrPort `toml:"-"` // HostServers
}

// Userspace says where clients may go whose connections this process makes in their place. Without
// any key that is the public network: nothing that is private, special or this host's own.
type Userspace struct {
	// Allow are prefixes that they may reach too: private networks, and this host's own addresses
	// where they stand here in full length. To its loopback only map leads: what clients send
	// to such addresses themselves is dropped.
	Allow []netip.Prefix `toml:"allow"`
	// Deny are prefixes that they may not reach, though allow has them.
	Deny []netip.Prefix `toml:"deny"`
	// Map has destinations that stand for others, as in "10.77.0.1:53=127.0.0.53:53".
	Map []string `toml:"map"`

	Mapped map[netip.AddrPort]netip.AddrPort `toml:"-"` // Map, parsed
}

// RADIUS is the AAA servers of a gateway, and how it deals with them (RFC 2865, 2866, 3579
// and 5176).
type RADIUS struct {
	// NASIdentifier is how we call ourselves to the servers.
	NASIdentifier string `toml:"nas_identifier" default:"martlet"`
	// Timeout is the wait before a request is repeated; each further one is twice as long.
	Timeout Duration `toml:"timeout" default:"1s"`
	// Tries is how often a request is sent before the next server is asked.
	Tries int `toml:"tries" default:"3" range:"1..10"`
	// DeadTime is how long a server that gave no answer is left alone while another does.
	DeadTime Duration `toml:"dead_time" default:"30s"`
	// Accounting tells the servers when peers come and go and what they transferred.
	Accounting bool `toml:"accounting"`
	// Interim is the interval of accounting updates where the server names none; "0s"
	// sends none.
	Interim Duration `toml:"interim" default:"10m"`
	// DAEPort is the UDP port on which servers may disconnect peers or change the time
	// they have (RFC 5176), usually 3799; 0 opens none.
	DAEPort uint16 `toml:"dae_port"`
	// DAETimestamp drops such orders without Event-Timestamp, which whoever saw one could
	// repeat.
	DAETimestamp bool `toml:"dae_timestamp"`
	// Servers are asked in the order of their names; the next one when one is silent. A
	// server should tell the true User-Name in Access-Accept, since the name that peers
	// tell outside of TTLS and PEAP is not checked by anybody.
	Servers map[string]*RADIUSServer `toml:"server"`
}

// RADIUSServer is one server.
type RADIUSServer struct {
	// Name is the key of the table.
	Name string `toml:"-"`
	// Address of the server.
	Address netip.Addr `toml:"address"`
	// Port for authentication.
	Port uint16 `toml:"port" default:"1812"`
	// AccountingPort for accounting.
	AccountingPort uint16 `toml:"accounting_port" default:"1813"`
	// Secret that the server shares with us.
	Secret Secret `toml:"secret"`
}
