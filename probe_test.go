package martlet

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet/crypto/suite"
	"martlet/ike"
	"martlet/ike/message"
)

// portOf is the UDP port on which a gateway listens at an address.
func portOf(t *testing.T, gateway *Node, addr string) uint16 {
	t.Helper()
	for _, at := range gateway.Addresses() {
		if at.Addr() == netip.MustParseAddr(addr) {
			return at.Port()
		}
	}
	t.Fatalf("the gateway does not listen on %s: %v", addr, gateway.Addresses())
	return 0
}

// A Martlet that serves, asked by both families and by TCP.
func TestProbeOfOurs(t *testing.T) {
	gateway, _ := startWired(t, true, strings.Replace(gatewayText, "nat_port = 0", "nat_port = 0\ntcp_port = 4500", 1))
	for _, addr := range []string{"127.0.0.1", "::1"} {
		tcp := slices.IndexFunc(gateway.Status().TCP, func(a netip.AddrPort) bool { return a.Addr() == netip.MustParseAddr(addr) })
		p := &Prober{Host: addr, Port: portOf(t, gateway, addr), TCPPort: gateway.Status().TCP[tcp].Port(), Pause: -1, Patience: time.Minute}
		report, err := p.Probe(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		if len(report.Ways) != 2 || !report.Ways[0].Answered || !report.Ways[1].Answered || report.Ways[1].Transport != "tcp" {
			t.Errorf("%s: ways %+v", addr, report.Ways)
		}
		g := report.Gateway
		if g == nil || g.Own == "" || !g.Described || g.NAT == nil || *g.NAT != (ProbeNAT{}) {
			t.Fatalf("%s: gateway %+v", addr, g)
		}
		if want := "x25519 ecp256 ecp384 ecp521 modp3072 modp4096 modp2048"; strings.Join(g.Groups, " ") != want {
			t.Errorf("%s: groups %q, want %q", addr, g.Groups, want)
		}
		if strings.Join(g.Ciphers, " ") != "aes256gcm16 aes128gcm16 chacha20poly1305 aes256 aes128" ||
			strings.Join(g.Hashes, " ") != "sha256 sha384 sha512" || strings.Join(g.Additional, " ") != "mlkem768 mlkem1024" {
			t.Errorf("%s: ciphers %q, hashes %q, additional %q", addr, g.Ciphers, g.Hashes, g.Additional)
		}
		if len(g.Weak) > 0 || len(g.Open) > 0 || len(g.Refusals) > 0 || !slices.Contains(g.Extensions, "IKEV2_FRAGMENTATION_SUPPORTED") {
			t.Errorf("%s: %+v", addr, g)
		}
		b, err := json.Marshal(report)
		var again ProbeReport
		if err != nil || json.Unmarshal(b, &again) != nil || again.Gateway.Own != g.Own {
			t.Errorf("%s: JSON %s, %v", addr, b, err)
		}
	}
}

// A gateway that wants cookies of everybody, and one that is not configured for us.
func TestProbeOfCarefulGateways(t *testing.T) {
	careful := startNode(t, true, strings.Replace(gatewayText, "nat_port = 0", "nat_port = 0\ncookies = 0", 1))
	report, err := (&Prober{Host: "127.0.0.1", Port: portOf(t, careful, "127.0.0.1"), TCPPort: 1, Pause: -1}).Probe(testContext(t))
	if err != nil || !report.Gateway.Cookie || report.Gateway.Own == "" || !report.Ways[0].Cookie {
		t.Errorf("%+v, %v", report, err)
	}
	closed := startNode(t, true, strings.Replace(gatewayText, "[connection.clients]", "[connection.clients]\nfrom = [\"192.0.2.0/24\"]", 1))
	report, err = (&Prober{Host: "127.0.0.1", Port: portOf(t, closed, "127.0.0.1"), TCPPort: 1, Pause: -1}).Probe(testContext(t))
	if err != nil || !report.Ways[0].Answered || report.Gateway.Described || len(report.Gateway.Groups) > 0 {
		t.Errorf("%+v, %v", report, err)
	}
}

// responder answers each request on a UDP port of the loopback with what answer returns, until the
// test ends.
func responder(t *testing.T, answer func(request []byte) [][]byte) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		b := make([]byte, 65535)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			for _, a := range answer(b[4:n]) {
				if _, err := conn.WriteToUDPAddrPort(a, from); err != nil {
					return
				}
			}
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// marked puts the non-ESP marker before a message.
func marked(b []byte) []byte { return append(make([]byte, 4), b...) }

// toRequest is an answer of one notify to a request.
func toRequest(request []byte, n message.NotifyType, data ...byte) []byte {
	m := message.Message{
		Header:   message.Header{SPIi: message.SPI(binary.BigEndian.Uint64(request)), Exchange: message.IKESAInit, Flags: message.FlagResponse},
		Payloads: []message.Payload{&message.Notify{Notify: n, Data: data}},
	}
	return marked(m.Append(nil))
}

// Everything that may be at the other end of a port.
func TestProbeMeets(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func([]byte) [][]byte
		why    string // empty: it answers
		check  func(*ProbeGateway) bool
	}{
		"silence": {func([]byte) [][]byte { return nil }, "no answer in ", nil},
		"garbage": {func([]byte) [][]byte { return [][]byte{{0, 0, 0, 0, 1, 2, 3}, {255}, {}, []byte("SSH-2.0")} }, "message has 3 octets", nil},
		"an echo": {func(q []byte) [][]byte { return [][]byte{marked(q)} }, "no answer in ", nil},
		"too long": {func(q []byte) [][]byte {
			return [][]byte{append(toRequest(q, message.NoProposalChosen), make([]byte, 60000)...)}
		}, "length field", nil},
		"cut off": {func(q []byte) [][]byte {
			b := toRequest(q, message.NoProposalChosen)
			return [][]byte{b[:len(b)-1]}
		}, "length field", nil},
		"IKEv1": {func(q []byte) [][]byte {
			b := toRequest(q, message.InvalidMajorVersion)
			b[4+17] = 0x10
			return [][]byte{b}
		}, whyIKEv1, nil},
		"cookies without end": {func(q []byte) [][]byte { return [][]byte{toRequest(q, message.Cookie, 1, 2, 3)} }, "another cookie each time", nil},
		"it refuses all": {func(q []byte) [][]byte { return [][]byte{toRequest(q, message.NoProposalChosen)} }, "", func(g *ProbeGateway) bool {
			return !g.Described && len(g.Groups) == 0 && len(g.Open) == 0
		}},
		"it refuses otherwise": {func(q []byte) [][]byte { return [][]byte{toRequest(q, message.TemporaryFailure)} }, "", func(g *ProbeGateway) bool {
			return slices.Equal(g.Refusals, []string{"TEMPORARY_FAILURE"})
		}},
		"a good answer behind a bad one": {func(q []byte) [][]byte {
			return [][]byte{{0, 0, 0, 0, 9}, toRequest(q, message.NoProposalChosen)}
		}, "", func(g *ProbeGateway) bool { return !g.Described }},
		"always another group": {func(q []byte) [][]byte {
			return [][]byte{toRequest(q, message.InvalidKEPayload, 0, byte(suite.KEX448))}
		}, "", func(g *ProbeGateway) bool {
			return len(g.Groups) == 0 && !g.Described
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := responder(t, tt.answer)
			p := &Prober{Host: "127.0.0.1", Port: at.Port(), TCPPort: 1, Pause: -1, Patience: 400 * time.Millisecond}
			if tt.why == "" {
				p.Patience = time.Minute
			}
			report, err := p.Probe(testContext(t))
			if report == nil {
				t.Fatal(err)
			}
			way := report.Ways[0]
			if way.Answered != (tt.why == "") || !strings.Contains(way.Why, tt.why) {
				t.Errorf("%+v, want the reason %q", way, tt.why)
			}
			if e, ok := errors.AsType[*Error](err); (tt.why != "") != (ok && e.Code == ike.CodeUnreachable && e.Hint != "") {
				t.Errorf("error %v", err)
			}
			if tt.check != nil && !tt.check(report.Gateway) {
				t.Errorf("%+v", report.Gateway)
			}
		})
	}
}

// A port where nothing listens says so itself, which is another thing than silence.
func TestProbeRefused(t *testing.T) {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	port := conn.LocalAddr().(*net.UDPAddr).Port
	conn.Close()
	report, err := (&Prober{Host: "127.0.0.1", Port: uint16(port), TCPPort: 1, Pause: -1, Patience: 2 * time.Second}).Probe(testContext(t))
	e, ok := errors.AsType[*Error](err)
	if !ok || report.Ways[0].Why != whyRefused || report.Ways[1].Why != whyRefused || !strings.Contains(e.Hint, "nothing listens") {
		t.Errorf("%+v, %v", report, err)
	}
}

// What takes a stream and is no gateway.
func TestProbeOfAnotherStream(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("\x00\x01"))
			c.Close()
		}
	}()
	at := l.Addr().(*net.TCPAddr).AddrPort()
	p := &Prober{Patience: time.Minute, Pause: -1}
	line := &probeLine{prober: p, way: ProbeWay{Transport: "tcp", Remote: at}}
	defer line.close()
	if line.alive(testContext(t)); line.way.Answered || line.way.Why != errStreamEnded.Error() {
		t.Errorf("%+v", line.way)
	}
}

func TestProbeEnds(t *testing.T) {
	at := responder(t, func([]byte) [][]byte { return nil })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if report, err := (&Prober{Host: "127.0.0.1", Port: at.Port(), Patience: time.Hour}).Probe(ctx); report != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", report, err)
	}
	_, err := (&Prober{Host: "nothing.invalid"}).Probe(testContext(t))
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != ike.CodeResolve {
		t.Errorf("a name without address: %v", err)
	}
}

// Which ways work tells what is blocked.
func TestProbeNotes(t *testing.T) {
	way := func(transport, remote string, answered bool) ProbeWay {
		return ProbeWay{Transport: transport, Remote: netip.MustParseAddrPort(remote), Answered: answered}
	}
	for name, tt := range map[string]struct {
		ways []ProbeWay
		want string
	}{
		"all":             {[]ProbeWay{way("udp", "192.0.2.1:500", true), way("udp", "192.0.2.1:4500", true), way("tcp", "192.0.2.1:4500", false)}, ""},
		"4500 is blocked": {[]ProbeWay{way("udp", "192.0.2.1:500", true), way("udp", "192.0.2.1:4500", false)}, "UDP 4500 is not"},
		"UDP is blocked":  {[]ProbeWay{way("udp", "192.0.2.1:500", false), way("tcp", "192.0.2.1:4500", true)}, "only TCP"},
		"no IPv6":         {[]ProbeWay{way("udp", "192.0.2.1:500", true), way("udp", "[2001:db8::1]:500", false)}, "by IPv6"},
	} {
		got := strings.Join(notesOf(tt.ways), "\n")
		if !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
