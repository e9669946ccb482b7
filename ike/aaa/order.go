package aaa

import (
	"encoding/binary"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc6911"
)

// ErrorCause is an Error-Cause (RFC 5176 §3.5).
type ErrorCause uint32

// The causes that we tell.
const (
	UnsupportedAttribute  ErrorCause = 401
	MissingAttribute      ErrorCause = 402
	NASMismatch           ErrorCause = 403
	InvalidRequest        ErrorCause = 404
	UnsupportedService    ErrorCause = 405
	InvalidAttributeValue ErrorCause = 407
	SessionNotFound       ErrorCause = 503
)

const errorCauseType radius.Type = 101

// Match tells which sessions a server means. All that is set must fit.
type Match struct {
	User      string
	Session   string
	Calling   string
	Addresses []netip.Addr
}

// Order is what a server wants of sessions that stand (RFC 5176 §2): their end, or
// another rest of their time.
type Order struct {
	Match      Match
	Disconnect bool
	// SessionTimeout is the time that the session has from now on; zero is not asked for.
	SessionTimeout time.Duration
}

// OrdersConfig is what a listener for orders works by.
type OrdersConfig struct {
	Servers       []Server // who may give orders; of their fields Name, Addr and Secret count
	NASIdentifier string
	// RequireTimestamp refuses orders without Event-Timestamp, which somebody who saw one
	// could send again later.
	RequireTimestamp bool
	// Obey carries out an order and returns how many sessions it met. It must not wait.
	Obey func(Order) int
	Log  *zap.Logger // nil is silent
}

// Orders takes Disconnect-Request and CoA-Request of RADIUS servers (RFC 5176 §2) from a
// socket.
type Orders struct {
	config  OrdersConfig
	conn    net.PacketConn
	closing chan struct{}
	done    chan struct{}

	mu   sync.Mutex
	seen map[[24]byte]answered // by source, identifier and authenticator
}

type answered struct {
	at    time.Time
	bytes []byte
}

const (
	// orderWindow is how much a server's clock may differ from ours, and how long a
	// repeated order gets the same answer (RFC 5176 §6.3).
	orderWindow = 300 * time.Second
	// maxSeen bounds the orders that are remembered.
	maxSeen = 4096
)

// NewOrders begins to take orders. The socket belongs to it from then on.
func NewOrders(conn net.PacketConn, c OrdersConfig) *Orders {
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	o := &Orders{config: c, conn: conn, closing: make(chan struct{}), done: make(chan struct{}), seen: map[[24]byte]answered{}}
	go o.run()
	return o
}

// Close closes the socket and waits until no order is being carried out.
func (o *Orders) Close() {
	close(o.closing)
	_ = o.conn.Close() // nothing is lost with it
	<-o.done
}

func (o *Orders) run() {
	defer close(o.done)
	buf := make([]byte, radius.MaxPacketLength)
	for {
		n, from, err := o.conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			o.config.Log.Warn("cannot read RADIUS orders", zap.Error(err))
			select { // what is wrong may stay so
			case <-time.After(time.Second):
			case <-o.closing:
			}
			continue
		}
		source, ok := sourceOf(from)
		if !ok {
			continue
		}
		if answer := o.handle(buf[:n], source, time.Now()); answer != nil {
			if _, err := o.conn.WriteTo(answer, from); err != nil {
				o.config.Log.Debug("cannot answer a RADIUS order", zap.Error(err))
			}
		}
	}
}

func sourceOf(a net.Addr) (netip.AddrPort, bool) {
	udp, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}, false
	}
	ap := udp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()), true
}

// handle returns the answer to a datagram, nil for none: what is not a server's, forged or
// old gets no answer (RFC 5176 §2.3, §6.3).
func (o *Orders) handle(b []byte, from netip.AddrPort, now time.Time) []byte {
	i := slices.IndexFunc(o.config.Servers, func(s Server) bool { return s.Addr == from.Addr() })
	if i < 0 {
		o.config.Log.Debug("an order from an address that is no RADIUS server of ours", zap.Stringer("from", from))
		return nil
	}
	s := o.config.Servers[i]
	p, err := openOrder(slices.Clone(b), s.Secret)
	if err != nil {
		o.config.Log.Warn("a RADIUS order is dropped", zap.String("server", s.Name), zap.Error(err))
		return nil
	}
	if p.Code != radius.CodeDisconnectRequest && p.Code != radius.CodeCoARequest {
		return nil
	}
	key := orderKey(p, from)
	if known, ok := o.known(key, now); ok {
		return known
	}
	if why := o.stale(p, now); why != "" {
		o.config.Log.Warn("a RADIUS order is dropped: "+why, zap.String("server", s.Name))
		return nil
	}
	answer := o.obey(p, s)
	o.remember(key, now, answer)
	return answer
}

func orderKey(p *radius.Packet, from netip.AddrPort) (key [24]byte) {
	copy(key[:], p.Authenticator[:])
	key[16], key[17] = p.Identifier, byte(p.Code)
	binary.BigEndian.PutUint16(key[18:], from.Port())
	return key
}

// known is the answer to an order that came before.
func (o *Orders) known(key [24]byte, now time.Time) ([]byte, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	a, ok := o.seen[key]
	return a.bytes, ok && now.Sub(a.at) <= orderWindow
}

func (o *Orders) remember(key [24]byte, now time.Time, answer []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.seen) >= maxSeen {
		maps.DeleteFunc(o.seen, func(_ [24]byte, a answered) bool { return now.Sub(a.at) > orderWindow })
	}
	if len(o.seen) >= maxSeen {
		clear(o.seen) // a server alone fills it; the timestamps still hold
	}
	o.seen[key] = answered{now, answer}
}

// stale says why an order may be one of long ago; empty if it is not.
func (o *Orders) stale(p *radius.Packet, now time.Time) string {
	n, ok := number(p, rfc2869.EventTimestamp_Type)
	switch {
	case !ok && o.config.RequireTimestamp:
		return "it has no Event-Timestamp, which the configuration demands"
	case ok && now.Sub(time.Unix(int64(n), 0)).Abs() > orderWindow:
		return "its Event-Timestamp is not of now: it is an old one, or the clocks differ"
	}
	return ""
}

// obey carries out an order and writes the answer.
func (o *Orders) obey(p *radius.Packet, s Server) []byte {
	order, cause := o.read(p)
	met := 0
	if cause == 0 {
		if met = o.config.Obey(order); met == 0 {
			cause = SessionNotFound
		}
	}
	o.config.Log.Info("RADIUS order", zap.String("server", s.Name), zap.Stringer("what", p.Code),
		zap.String("user", order.Match.User), zap.Int("sessions", met), zap.Uint32("error_cause", uint32(cause)))
	code := radius.CodeDisconnectACK
	switch {
	case p.Code == radius.CodeDisconnectRequest && cause != 0:
		code = radius.CodeDisconnectNAK
	case p.Code == radius.CodeCoARequest && cause != 0:
		code = radius.CodeCoANAK
	case p.Code == radius.CodeCoARequest:
		code = radius.CodeCoAACK
	}
	answer := newPacket(code, s.Secret)
	answer.Identifier, answer.Authenticator = p.Identifier, p.Authenticator
	if cause != 0 {
		addNumber(answer, errorCauseType, uint32(cause))
	}
	for _, state := range all(p, rfc2865.ProxyState_Type) {
		answer.Add(rfc2865.ProxyState_Type, state)
	}
	b, err := seal(answer)
	if err != nil {
		return nil // Proxy-States that fill a packet by themselves
	}
	return b
}

// read takes the order out of a packet; the cause is 0 if it is one that we can carry out.
// An attribute that we do not know asks for what we do not do (RFC 5176 §2.3).
func (o *Orders) read(p *radius.Packet) (Order, ErrorCause) {
	order := Order{Disconnect: p.Code == radius.CodeDisconnectRequest}
	change, named := false, false
	for _, a := range p.Attributes {
		if len(a.Attribute) == 0 {
			return order, InvalidAttributeValue // an empty name would mean everybody
		}
		switch a.Type {
		case rfc2865.UserName_Type:
			order.Match.User, named = string(a.Attribute), true
		case rfc2866.AcctSessionID_Type:
			order.Match.Session, named = string(a.Attribute), true
		case rfc2865.CallingStationID_Type:
			order.Match.Calling, named = string(a.Attribute), true
		case rfc2865.FramedIPAddress_Type, rfc6911.FramedIPv6Address_Type:
			addr, ok := netip.AddrFromSlice(a.Attribute)
			if !ok {
				return order, InvalidAttributeValue
			}
			order.Match.Addresses, named = append(order.Match.Addresses, addr), true
		case rfc2865.NASIdentifier_Type:
			if string(a.Attribute) != o.config.NASIdentifier {
				return order, NASMismatch
			}
		case rfc2865.SessionTimeout_Type:
			if order.Disconnect || len(a.Attribute) != 4 {
				return order, UnsupportedAttribute
			}
			order.SessionTimeout = time.Duration(binary.BigEndian.Uint32(a.Attribute)) * time.Second
			change = true
		case rfc2865.ServiceType_Type:
			// Authorize-Only wants a new Access-Request (RFC 5176 §3.2).
			return order, UnsupportedService
		case rfc2865.NASIPAddress_Type, nasIPv6Address, rfc2865.NASPortType_Type, rfc2869.NASPortID_Type, rfc2865.CalledStationID_Type,
			rfc2869.EventTimestamp_Type, rfc2869.MessageAuthenticator_Type, rfc2865.ProxyState_Type, rfc2865.ReplyMessage_Type,
			rfc2866.AcctTerminateCause_Type, rfc2865.Class_Type:
			// They tell about the session or the way, and demand nothing.
		default:
			return order, UnsupportedAttribute
		}
	}
	switch {
	case !named:
		return order, MissingAttribute
	case !order.Disconnect && !change:
		return order, MissingAttribute
	case change && order.SessionTimeout == 0:
		return order, InvalidAttributeValue
	}
	return order, 0
}
