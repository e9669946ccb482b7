package aaa

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/rfc2869"
)

// ordered is a listener without a socket, and what it was told.
func ordered(met int, obeyed *[]Order) *Orders {
	return &Orders{seen: map[[24]byte]answered{}, config: OrdersConfig{
		Servers:       []Server{{Name: "a", Addr: netip.MustParseAddr("192.0.2.1"), Secret: []byte(fakeSecret)}},
		NASIdentifier: "gateway.test",
		Obey:          func(o Order) int { *obeyed = append(*obeyed, o); return met },
		Log:           zap.NewNop(),
	}}
}

var (
	orderFrom = netip.MustParseAddrPort("192.0.2.1:40000")
	orderTime = time.Unix(1_800_000_000, 0)
)

func order(t testing.TB, code radius.Code, attributes ...*radius.AVP) []byte {
	t.Helper()
	p := newPacket(code, []byte(fakeSecret))
	p.Attributes = append(p.Attributes, attributes...)
	b, err := sealRequest(p, 7)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func text(typ radius.Type, value string) *radius.AVP {
	return &radius.AVP{Type: typ, Attribute: radius.Attribute(value)}
}

func stamp(at time.Time) *radius.AVP {
	n := uint32(at.Unix())
	return &radius.AVP{Type: rfc2869.EventTimestamp_Type, Attribute: []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}}
}

// TestOrders: what is asked and what is answered (RFC 5176 §3.5, §3.6).
func TestOrders(t *testing.T) {
	const disconnect, change = radius.CodeDisconnectRequest, radius.CodeCoARequest
	user := text(rfc2865.UserName_Type, "alice")
	hour := text(rfc2865.SessionTimeout_Type, "\x00\x00\x0e\x10")
	for _, test := range []struct {
		name  string
		order []byte
		met   int
		want  *Order // nil: nothing is done
		code  radius.Code
		cause ErrorCause
	}{
		{"disconnect", order(t, disconnect, user, stamp(orderTime)), 2, &Order{Match: Match{User: "alice"}, Disconnect: true}, radius.CodeDisconnectACK, 0},
		{
			"by all there is", order(t, disconnect, text(rfc2866.AcctSessionID_Type, "s1"), text(rfc2865.CallingStationID_Type, "198.51.100.7"),
				text(rfc2865.FramedIPAddress_Type, "\x0a\x09\x00\x07"), text(rfc2865.NASIdentifier_Type, "gateway.test")), 1,
			&Order{Match: Match{Session: "s1", Calling: "198.51.100.7", Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.7")}}, Disconnect: true},
			radius.CodeDisconnectACK, 0,
		},
		{"nobody", order(t, disconnect, user), 0, &Order{Match: Match{User: "alice"}, Disconnect: true}, radius.CodeDisconnectNAK, SessionNotFound},
		{"change", order(t, change, user, hour), 1, &Order{Match: Match{User: "alice"}, SessionTimeout: time.Hour}, radius.CodeCoAACK, 0},
		{"change nothing", order(t, change, user), 1, nil, radius.CodeCoANAK, MissingAttribute},
		{"change to nothing", order(t, change, user, text(rfc2865.SessionTimeout_Type, "\x00\x00\x00\x00")), 1, nil, radius.CodeCoANAK, InvalidAttributeValue},
		{"disconnect later", order(t, disconnect, user, hour), 1, nil, radius.CodeDisconnectNAK, UnsupportedAttribute},
		{"whom?", order(t, disconnect), 1, nil, radius.CodeDisconnectNAK, MissingAttribute},
		{"an empty name", order(t, disconnect, text(rfc2865.UserName_Type, "")), 1, nil, radius.CodeDisconnectNAK, InvalidAttributeValue},
		{"another gateway's", order(t, disconnect, user, text(rfc2865.NASIdentifier_Type, "other")), 1, nil, radius.CodeDisconnectNAK, NASMismatch},
		{"authorize only", order(t, change, user, text(rfc2865.ServiceType_Type, "\x00\x00\x00\x11")), 1, nil, radius.CodeCoANAK, UnsupportedService},
		{"what we cannot change", order(t, change, user, hour, text(rfc2865.FilterID_Type, "x")), 1, nil, radius.CodeCoANAK, UnsupportedAttribute},
		{"half an address", order(t, disconnect, text(rfc2865.FramedIPAddress_Type, "\x0a\x09")), 1, nil, radius.CodeDisconnectNAK, InvalidAttributeValue},
	} {
		t.Run(test.name, func(t *testing.T) {
			var obeyed []Order
			o := ordered(test.met, &obeyed)
			b := o.handle(test.order, orderFrom, orderTime)
			if b == nil {
				t.Fatal("no answer")
			}
			sent, _ := radius.Parse(test.order, nil)
			p, err := openAnswer(b, sent.Authenticator, []byte(fakeSecret))
			if err != nil {
				t.Fatal(err)
			}
			cause, _ := number(p, errorCauseType)
			if p.Code != test.code || ErrorCause(cause) != test.cause {
				t.Errorf("%v with cause %d, want %v with %d", p.Code, cause, test.code, test.cause)
			}
			var want []Order
			if test.want != nil {
				want = []Order{*test.want}
			}
			if diff := cmp.Diff(want, obeyed, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestOrdersDropped: what is not a server's, forged or old gets no answer, and nothing is done.
func TestOrdersDropped(t *testing.T) {
	good := func() []byte {
		return order(t, radius.CodeDisconnectRequest, text(rfc2865.UserName_Type, "alice"), stamp(orderTime))
	}
	wrongMAC := good()
	wrongMAC[headerLen+2] ^= 1
	copy(wrongMAC[4:], packetAuthenticator(wrongMAC, [16]byte{}, []byte(fakeSecret)))
	forged := good()
	forged[len(forged)-1] ^= 1
	other := newPacket(radius.CodeDisconnectRequest, []byte("another"))
	other.Add(rfc2865.UserName_Type, []byte("alice"))
	foreign, _ := sealRequest(other, 1)
	access, _ := sealRequest(newPacket(radius.CodeAccountingRequest, []byte(fakeSecret)), 1)
	for _, test := range []struct {
		name   string
		b      []byte
		from   string
		at     time.Time
		strict bool
	}{
		{"an address of nobody", good(), "192.0.2.2:40000", orderTime, false},
		{"forged", forged, "192.0.2.1:40000", orderTime, false},
		{"another secret", foreign, "192.0.2.1:40000", orderTime, false},
		{"a wrong Message-Authenticator", wrongMAC, "192.0.2.1:40000", orderTime, false},
		{"old", good(), "192.0.2.1:40000", orderTime.Add(301 * time.Second), false},
		{"of the future", good(), "192.0.2.1:40000", orderTime.Add(-301 * time.Second), false},
		{"without time", order(t, radius.CodeDisconnectRequest, text(rfc2865.UserName_Type, "alice")), "192.0.2.1:40000", orderTime, true},
		{"no order", access, "192.0.2.1:40000", orderTime, false},
		{"nothing", nil, "192.0.2.1:40000", orderTime, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var obeyed []Order
			o := ordered(1, &obeyed)
			o.config.RequireTimestamp = test.strict
			if b := o.handle(test.b, netip.MustParseAddrPort(test.from), test.at); b != nil || len(obeyed) > 0 {
				t.Errorf("answered %x, obeyed %v", b, obeyed)
			}
		})
	}
}

// TestOrderRepeated: a repeated order is answered with the same bytes and not carried out
// again, and later it is an old one.
func TestOrderRepeated(t *testing.T) {
	var obeyed []Order
	o := ordered(1, &obeyed)
	b := order(t, radius.CodeDisconnectRequest, text(rfc2865.UserName_Type, "alice"), stamp(orderTime))
	first := o.handle(b, orderFrom, orderTime)
	second := o.handle(b, orderFrom, orderTime.Add(5*time.Second))
	if !bytes.Equal(first, second) || len(obeyed) != 1 {
		t.Errorf("obeyed %d times; answers are the same: %v", len(obeyed), bytes.Equal(first, second))
	}
	if o.handle(b, orderFrom, orderTime.Add(orderWindow+time.Second)) != nil {
		t.Error("a replay was answered")
	}
	for i := range 2 * maxSeen {
		o.remember([24]byte{byte(i), byte(i >> 8)}, orderTime, nil)
	}
	if len(o.seen) > maxSeen {
		t.Errorf("%d orders are remembered", len(o.seen))
	}
}

func TestOrdersOverUDP(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Skip(err)
	}
	obeyed := make(chan Order, 1)
	o := NewOrders(conn, OrdersConfig{
		Servers: []Server{{Name: "a", Addr: netip.MustParseAddr("127.0.0.1"), Secret: []byte(fakeSecret)}},
		Obey:    func(o Order) int { obeyed <- o; return 1 },
	})
	defer o.Close()
	server, err := net.Dial("udp", conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if _, err := server.Write(order(t, radius.CodeDisconnectRequest, text(rfc2865.UserName_Type, "alice"), stamp(time.Now()))); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, radius.MaxPacketLength)
	n, err := server.Read(buf)
	if err != nil || n < headerLen || radius.Code(buf[0]) != radius.CodeDisconnectACK {
		t.Fatalf("%x, %v", buf[:n], err)
	}
	if got := <-obeyed; got.Match.User != "alice" {
		t.Errorf("%+v", got)
	}
}

// deaf is a socket that cannot be read.
type deaf struct {
	net.PacketConn
	reads  atomic.Int32
	closed atomic.Bool
}

func (d *deaf) ReadFrom([]byte) (int, net.Addr, error) {
	d.reads.Add(1)
	if d.closed.Load() {
		return 0, nil, net.ErrClosed
	}
	return 0, nil, errors.New("deaf")
}

func (d *deaf) Close() error {
	d.closed.Store(true)
	return nil
}

func TestOrdersOfASocketThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &deaf{}
		o := NewOrders(d, OrdersConfig{})
		time.Sleep(time.Minute) // of the bubble's clock
		if n := d.reads.Load(); n > 61 {
			t.Errorf("%d reads in a minute", n)
		}
		o.Close()
	})
}
