package aaa

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc6911"

	"martlet/crypto/suite"
)

// Caller is a peer as RADIUS is told of it.
type Caller struct {
	Session    string     // Acct-Session-Id, the same in authentication and accounting
	Peer       netip.Addr // Calling-Station-Id
	Local      netip.Addr // Called-Station-Id and NAS-IP(v6)-Address
	Connection string     // NAS-Port-Id
}

// Conversation is one EAP authentication that a RADIUS server leads (RFC 3579 §2). It is
// used by one goroutine at a time.
type Conversation struct {
	radius *RADIUS
	caller Caller
	user   string
	server *server // that began; nil before
	state  []byte  // its State, to be sent back
}

// Relayed is what a server says to an EAP packet.
type Relayed struct {
	EAP   []byte       // for the peer
	Grant *Grant       // of an Access-Accept; nil while it goes on
	MSK   suite.Secret // of an Access-Accept, 64 octets or more; nil if the method makes none
}

// Grant is what an Access-Accept gives a peer.
type Grant struct {
	User            string       // who it is: User-Name of the answer, else what the peer said
	Addresses       []netip.Addr // Framed-IP-Address and Framed-IPv6-Address
	DNS             []netip.Addr
	Groups          []string // Class and Filter-Id, as strongSwan takes them
	Pools           []string // Framed-Pool and Framed-IPv6-Pool
	Class           [][]byte // to be sent back in accounting (RFC 2865 §5.25)
	SessionTimeout  time.Duration
	InterimInterval time.Duration
}

// RejectedError is a server's Access-Reject. EAP is for the peer, nil if there was none.
type RejectedError struct {
	Server string
	User   string
	Text   string // Reply-Message
	EAP    []byte
}

// Error tells who was rejected, and what the server says.
func (e *RejectedError) Error() string {
	text := fmt.Sprintf("aaa: RADIUS server %s rejects %q", e.Server, e.User)
	if e.Text != "" {
		text += fmt.Sprintf(": %q", e.Text)
	}
	return text
}

// Authenticate begins a conversation for a peer.
func (r *RADIUS) Authenticate(c Caller) *Conversation {
	return &Conversation{radius: r, caller: c}
}

// errNoIdentity: the first packet that goes to a server says who the peer is.
var errNoIdentity = errors.New("aaa: the peer's first EAP packet is no identity of at most 253 octets")

// Send passes an EAP packet of the peer on; the first must be its EAP-Response/Identity
// (RFC 3579 §2.1). It returns a *RejectedError or *SilentError where it comes to that.
func (c *Conversation) Send(ctx context.Context, packet []byte) (*Relayed, error) {
	if c.user == "" {
		id, ok := identityIn(packet)
		if !ok || id == "" || len(id) > maxAttribute {
			return nil, errNoIdentity
		}
		c.user = id
	}
	got, err := c.radius.exchange(ctx, c.server, func(s *server) *link { return s.auth }, func(secret suite.Secret) *radius.Packet {
		return c.request(packet, secret)
	})
	if err != nil {
		return nil, err
	}
	c.server = got.from
	c.state = got.Get(rfc2865.State_Type)
	out := &Relayed{EAP: joined(got.Packet, rfc2869.EAPMessage_Type)}
	if got.Code == radius.CodeAccessReject {
		return nil, &RejectedError{Server: got.from.Name, User: c.user, Text: string(joined(got.Packet, rfc2865.ReplyMessage_Type)), EAP: out.EAP}
	}
	if got.Code == radius.CodeAccessAccept {
		out.Grant = readGrant(got.Packet)
		if out.Grant.User == "" {
			out.Grant.User = c.user
		}
		out.MSK = sessionKey(got.Packet, got.nonce)
	}
	if !isEAP(out.EAP, got.Code) {
		return nil, fmt.Errorf("aaa: RADIUS server %s: %v without a fitting EAP packet; has it been set up for EAP?", got.from.Name, got.Code)
	}
	return out, nil
}

// isEAP tells whether a packet has EAP's header and a code that goes with the answer's: a
// request in a challenge, a success in an accept (RFC 3579 §2.6.3).
func isEAP(b []byte, code radius.Code) bool {
	const request, success = 1, 3
	want := byte(request)
	if code == radius.CodeAccessAccept {
		want = success
	}
	return len(b) >= 4 && b[0] == want && int(b[2])<<8|int(b[3]) == len(b)
}

// identityIn reads an EAP-Response/Identity (RFC 3748 §5.1).
func identityIn(b []byte) (string, bool) {
	const response, header, identity = 2, 5, 1
	if len(b) < header || b[0] != response || int(b[2])<<8|int(b[3]) != len(b) || b[4] != identity {
		return "", false
	}
	return string(b[header:]), true
}

// request makes an Access-Request (RFC 3579 §2.1, §3).
func (c *Conversation) request(packet []byte, secret suite.Secret) *radius.Packet {
	p := newPacket(radius.CodeAccessRequest, secret)
	addText(p, rfc2865.UserName_Type, c.user)
	c.caller.describe(p, c.radius.config.NASIdentifier)
	addNumber(p, rfc2865.ServiceType_Type, uint32(rfc2865.ServiceType_Value_FramedUser))
	addNumber(p, rfc2865.FramedMTU_Type, framedMTU)
	addSplit(p, rfc2869.EAPMessage_Type, packet)
	if c.state != nil {
		p.Add(rfc2865.State_Type, c.state)
	}
	return p
}

// framedMTU bounds the EAP packets that the server makes (RFC 3579 §2.4), so that one fits
// an IKE message of a packet of 1280 octets.
const framedMTU = 1024

// describe adds what tells who calls, and whom.
func (c *Caller) describe(p *radius.Packet, nas string) {
	addText(p, rfc2865.NASIdentifier_Type, nas)
	if c.Local.Is4() {
		p.Add(rfc2865.NASIPAddress_Type, c.Local.AsSlice())
	} else if c.Local.Is6() {
		p.Add(nasIPv6Address, c.Local.AsSlice())
	}
	addNumber(p, rfc2865.NASPortType_Type, uint32(rfc2865.NASPortType_Value_Virtual))
	addText(p, rfc2869.NASPortID_Type, c.Connection)
	if c.Peer.IsValid() {
		addText(p, rfc2865.CallingStationID_Type, c.Peer.WithZone("").String())
	}
	if c.Local.IsValid() {
		addText(p, rfc2865.CalledStationID_Type, c.Local.WithZone("").String())
	}
	addText(p, rfc2866.AcctSessionID_Type, c.Session)
}

// Attributes of IPv6 (RFC 3162 §2).
const (
	nasIPv6Address radius.Type = 95
	framedIPv6Pool radius.Type = 100
)

// Two values of Framed-IP-Address that are no addresses (RFC 2865 §5.8).
var (
	userSelects = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	nasSelects  = netip.AddrFrom4([4]byte{255, 255, 255, 254})
)

// Bounds of what is taken from an answer.
const (
	maxGranted = 8
	maxGroups  = 64
)

// readGrant reads what an answer gives.
func readGrant(p *radius.Packet) *Grant {
	g := &Grant{User: string(p.Get(rfc2865.UserName_Type))}
	for _, a := range append(all(p, rfc2865.FramedIPAddress_Type), all(p, rfc6911.FramedIPv6Address_Type)...) {
		addr, ok := netip.AddrFromSlice(a)
		if ok && addr != userSelects && addr != nasSelects && !addr.IsUnspecified() && !addr.Is4In6() && len(g.Addresses) < maxGranted {
			g.Addresses = append(g.Addresses, addr)
		}
	}
	dns := append(microsofts(p, msPrimaryDNS), microsofts(p, msSecondaryDNS)...)
	for _, a := range all(p, rfc6911.DNSServerIPv6Address_Type) {
		dns = append(dns, a)
	}
	for _, a := range dns {
		if addr, ok := netip.AddrFromSlice(a); ok && !addr.IsUnspecified() && len(g.DNS) < maxGranted {
			g.DNS = append(g.DNS, addr)
		}
	}
	for _, a := range all(p, rfc2865.Class_Type) {
		if len(g.Class) < maxGroups {
			g.Class = append(g.Class, a)
			g.Groups = append(g.Groups, string(a))
		}
	}
	for _, a := range all(p, rfc2865.FilterID_Type) {
		if len(g.Groups) < 2*maxGroups {
			g.Groups = append(g.Groups, string(a))
		}
	}
	for _, a := range append(all(p, rfc2869.FramedPool_Type), all(p, framedIPv6Pool)...) {
		if len(g.Pools) < maxGranted {
			g.Pools = append(g.Pools, string(a))
		}
	}
	if n, ok := number(p, rfc2865.SessionTimeout_Type); ok {
		g.SessionTimeout = time.Duration(n) * time.Second
	}
	if n, ok := number(p, rfc2869.AcctInterimInterval_Type); ok {
		g.InterimInterval = max(minInterim, time.Duration(n)*time.Second)
	}
	return g
}

// minInterim is the shortest interval of updates (RFC 2869 §2.1).
const minInterim = 60 * time.Second
