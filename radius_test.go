package martlet

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"

	"martlet/ike"
	"martlet/ike/aaa"
)

const testRADIUSSecret = "a secret of RADIUS servers"

// accountant is a RADIUS server that takes accounting records.
type accountant struct {
	conn net.PacketConn

	mu      sync.Mutex
	records []*radius.Packet
}

func newAccountant(t *testing.T) *accountant {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &accountant{conn: conn}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, radius.MaxPacketLength)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			p, err := radius.Parse(buf[:n], []byte(testRADIUSSecret))
			if err != nil || !radius.IsAuthenticRequest(buf[:n], p.Secret) {
				t.Errorf("a wrong record: %v", err)
				continue
			}
			a.mu.Lock()
			a.records = append(a.records, p)
			a.mu.Unlock()
			if b, err := p.Response(radius.CodeAccountingResponse).Encode(); err == nil {
				_, _ = conn.WriteTo(b, from)
			}
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return a
}

// of returns the records of a kind.
func (a *accountant) of(kind aaa.RecordKind) []*radius.Packet {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(a.records), func(p *radius.Packet) bool {
		return uint32(rfc2866.AcctStatusType_Get(p)) != uint32(kind)
	})
}

// freePort is a UDP port of loopback that nobody has.
func freePort(t *testing.T) int {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).Port
}

// TestAccountingOverRekeys: one session lasts from the login to the order that ends it, over
// rekeys of child and IKE SA, and has counted every packet.
func TestAccountingOverRekeys(t *testing.T) {
	ctx := testContext(t)
	server, dae := newAccountant(t), freePort(t)
	gateway := startNode(t, true, gatewayText+fmt.Sprintf(`
[radius]
accounting = true
interim = "2ms"
dae_port = %d
[radius.server.one]
address = "127.0.0.1"
accounting_port = %d
secret = %q
`, dae, server.conn.LocalAddr().(*net.UDPAddr).Port, testRADIUSSecret))
	client := startNode(t, false, clientOf(gateway, netip.Addr.Is4))
	if err := client.Connect(ctx, ""); err != nil {
		t.Fatal(err)
	}
	ping := func() {
		t.Helper()
		for range 3 {
			if _, err := client.Ping(ctx, netip.MustParseAddr("10.77.0.1")); err != nil {
				t.Fatal(err)
			}
		}
	}
	ping()
	for _, child := range []string{"net", "", "net"} {
		if err := client.Rekey(ctx, "office", child); err != nil {
			t.Fatal(err)
		}
		ping()
	}
	for len(server.of(aaa.RecordInterim)) == 0 {
		ping()
	}
	order := radius.New(radius.CodeDisconnectRequest, []byte(testRADIUSSecret))
	if err := rfc2865.UserName_SetString(order, "alice@test"); err != nil {
		t.Fatal(err)
	}
	got, err := radius.Exchange(ctx, order, fmt.Sprintf("127.0.0.1:%d", dae))
	if err != nil || got.Code != radius.CodeDisconnectACK {
		t.Fatalf("%v, %v", got, err)
	}
	waitFor(t, gateway, func() bool { return len(gateway.Status().SAs) == 0 })
	carried := gateway.plane.Stats()
	if err := gateway.Close(); err != nil { // by then all records have arrived
		t.Error(err)
	}
	start, interim, stop := server.of(aaa.RecordStart), server.of(aaa.RecordInterim), server.of(aaa.RecordStop)
	if len(start) != 1 || len(interim) == 0 || len(stop) != 1 || len(server.of(aaa.RecordOn)) != 1 || len(server.of(aaa.RecordOff)) != 1 {
		t.Fatalf("%d starts, %d updates, %d stops", len(start), len(interim), len(stop))
	}
	for _, p := range slices.Concat(start, interim, stop) {
		if rfc2866.AcctSessionID_GetString(p) != rfc2866.AcctSessionID_GetString(start[0]) || rfc2865.UserName_GetString(p) != "alice@test" {
			t.Errorf("a record of session %q and user %q", rfc2866.AcctSessionID_GetString(p), rfc2865.UserName_GetString(p))
		}
	}
	in, out := uint64(rfc2866.AcctInputOctets_Get(stop[0])), uint64(rfc2866.AcctOutputOctets_Get(stop[0]))
	if in != carried.In.Bytes || out != carried.Out.Bytes || in == 0 {
		t.Errorf("the record has %d octets in and %d out, the plane carried %d and %d", in, out, carried.In.Bytes, carried.Out.Bytes)
	}
	if n := rfc2866.AcctInputPackets_Get(stop[0]); n < 12 {
		t.Errorf("%d packets came in", n)
	}
	if cause := rfc2866.AcctTerminateCause_Get(stop[0]); uint32(cause) != uint32(aaa.CauseAdminReset) {
		t.Errorf("the cause is %v", cause)
	}
}

// TestRowB4SilentRADIUS: while a thousand peers wait for a RADIUS server that says nothing,
// another one comes in at once by other means (security.md B4).
func TestRowB4SilentRADIUS(t *testing.T) {
	ctx := testContext(t)
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	gateway := startNode(t, true, gatewayText+fmt.Sprintf(`
[radius]
timeout = "1h"
[radius.server.one]
address = "127.0.0.1"
port = %d
secret = %q
`, silent.LocalAddr().(*net.UDPAddr).Port, testRADIUSSecret))
	const peers = 1000
	answers := make(chan ike.Relayed, peers)
	for i := range peers {
		q := ike.Relay{SA: ike.SAID(i + 1), Connection: "clients", Identity: "mallory", Packet: []byte("\x02\x01\x00\x0c\x01mallory")}
		l := gateway.peers.login(ctx, q)
		go func() { answers <- gateway.peers.relay(l, q.Packet) }()
	}
	if _, _, err := silent.ReadFrom(make([]byte, radius.MaxPacketLength)); err != nil { // they are at it
		t.Fatal(err)
	}
	client := startNode(t, false, clientOf(gateway, netip.Addr.Is4))
	if err := client.Connect(ctx, ""); err != nil {
		t.Fatal(err)
	}
	if n := len(answers); n > 0 {
		t.Errorf("%d of those that wait have an answer", n)
	}
	if err := gateway.Close(); err != nil {
		t.Error(err)
	}
	for range peers {
		if got := <-answers; got.Err == nil || got.Accept {
			t.Fatalf("%+v", got)
		}
	}
}
