package message_test

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	. "martlet/ike/message"
)

// unhex reads octets written as the figures of the RFCs have them, row by row.
func unhex(t testing.TB, rows string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(rows), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wire is a Notify payload of no protocol as it stands in a chain.
func wire(t NotifyType, data []byte) []byte {
	return AppendPayloads(nil, []Payload{&Notify{Notify: t, Data: data}})
}

// TestRedirectFigures: the figures of RFC 5685 §10.
func TestRedirectFigures(t *testing.T) {
	nonce := bytes.Repeat([]byte{0xab}, 16)
	for name, c := range map[string]struct {
		kind  NotifyType
		id    GatewayID
		nonce []byte
		want  string
	}{
		"REDIRECT_SUPPORTED": {RedirectSupported, GatewayID{}, nil, "00 00 0008  00 00 4016"},
		"IPv4":               {Redirect, GatewayID{Addr: netip.MustParseAddr("192.0.2.7")}, nil, "00 00 000e  00 00 4017  01 04 c0000207"},
		"IPv4 with nonce":    {Redirect, GatewayID{Addr: netip.MustParseAddr("192.0.2.7")}, nonce, "00 00 001e  00 00 4017  01 04 c0000207 abababab abababab abababab abababab"},
		"IPv6":               {Redirect, GatewayID{Addr: netip.MustParseAddr("2001:db8::1")}, nil, "00 00 001a  00 00 4017  02 10 20010db8 00000000 00000000 00000001"},
		"FQDN":               {Redirect, GatewayID{Name: "gw.example"}, nil, "00 00 0014  00 00 4017  03 0a 67772e6578616d706c65"},
		"REDIRECTED_FROM":    {RedirectedFrom, GatewayID{Addr: netip.MustParseAddr("192.0.2.1")}, nil, "00 00 000e  00 00 4018  01 04 c0000201"},
	} {
		var data []byte
		if name != "REDIRECT_SUPPORTED" {
			data = append(c.id.Append(nil), c.nonce...)
		}
		if got := wire(c.kind, data); !bytes.Equal(got, unhex(t, c.want)) {
			t.Errorf("%s: %x", name, got)
		}
		if data == nil {
			continue
		}
		id, nonce, ok := ParseRedirect(data)
		if !ok || id != c.id || !bytes.Equal(nonce, c.nonce) {
			t.Errorf("%s: %v %x %v", name, id, nonce, ok)
		}
		for n := range len(data) - len(c.nonce) {
			if id, _, ok := ParseRedirect(data[:n]); ok {
				t.Errorf("%s: %d octets are %v", name, n, id)
			}
		}
	}
	for _, bad := range []string{"", "00", "0404c0000207", "0103c00002", "0105c000020700", "020420010db8", "0300", "0303612062"} {
		if id, _, ok := ParseRedirect(unhex(t, bad)); ok {
			t.Errorf("%s is %v", bad, id)
		}
	}
	for text, want := range map[string]bool{"gw.example": true, "192.0.2.1": true, "2001:db8::1": true, "": false, "a b": false, "fe80::1%eth0": false, strings.Repeat("a", 254): false} {
		if id, ok := ParseGatewayID(text); ok != want || ok && id.String() != text {
			t.Errorf("%q: %v %v", text, id, ok)
		}
	}
}

// TestTicketFigure: TICKET_LT_OPAQUE of RFC 5723 §7.2.
func TestTicketFigure(t *testing.T) {
	data := AppendTicket(nil, time.Hour+time.Millisecond, []byte("ticket"))
	if got := wire(TicketLTOpaque, data); !bytes.Equal(got, unhex(t, "00 00 0012  00 00 4019  00000e10 7469636b6574")) {
		t.Errorf("%x", got)
	}
	life, ticket, ok := ParseTicket(data)
	if !ok || life != time.Hour || string(ticket) != "ticket" {
		t.Errorf("%v %q %v", life, ticket, ok)
	}
	for n := range 5 {
		if _, _, ok := ParseTicket(data[:n]); ok {
			t.Errorf("%d octets parse", n)
		}
	}
	for kind, want := range map[NotifyType]uint16{TicketRequest: 0x401a, TicketACK: 0x401b, TicketNACK: 0x401c, TicketOpaque: 0x401d, QuickCrashDetection: 0x4023, PuzzleDemand: 0x4032, SupportedAuthMethods: 0x403b} {
		if uint16(kind) != want {
			t.Errorf("%v is %#x, want %#x", kind, uint16(kind), want)
		}
	}
}

// TestPuzzleFigures: RFC 8019 §8.
func TestPuzzleFigures(t *testing.T) {
	p := Puzzle{PRF: 5, Difficulty: 17}
	if got := wire(PuzzleDemand, p.Append(nil)); !bytes.Equal(got, unhex(t, "00 00 000b  00 00 4032  0005 11")) {
		t.Errorf("%x", got)
	}
	for n := range 5 {
		got, ok := ParsePuzzle(append(p.Append(nil), 0, 0)[:n])
		if ok != (n == 3) || ok && got != p {
			t.Errorf("%d octets: %v %v", n, got, ok)
		}
	}
	ps := &PuzzleSolution{Data: []byte("aabbccdd")}
	if got := AppendPayloads(nil, []Payload{ps}); !bytes.Equal(got, unhex(t, "00 00 000c 6161626263636464")) || TypePS != 54 {
		t.Errorf("%x", got)
	}
	for n := range 9 {
		keys, ok := (&PuzzleSolution{Data: ps.Data[:n]}).Keys()
		if ok != (n == 4 || n == 8) || n == 8 && (string(keys[0]) != "aa" || string(keys[3]) != "dd") {
			t.Errorf("%d octets: %q %v", n, keys, ok)
		}
	}
}

// TestAuthMethodsFigures: the three forms of RFC 9593 §3.2.
func TestAuthMethodsFigures(t *testing.T) {
	ed25519 := unhex(t, "30 05 06 03 2b 65 70")
	list := []AuthAnnouncement{{Method: AuthPSK}, {Method: AuthRSA, CertLink: 1}, {Method: AuthSignature, CertLink: 2, Algorithm: ed25519}}
	data := AppendAuthMethods(nil, list)
	if got := wire(SupportedAuthMethods, data); !bytes.Equal(got, unhex(t, "00 00 0017  00 00 403b  02 02  03 01 01  0a 0e 02 300506032b6570")) {
		t.Errorf("%x", got)
	}
	got, ok := ParseAuthMethods(data)
	if diff := cmp.Diff(list, got); !ok || diff != "" {
		t.Errorf("%v (-want +got)\n%s", ok, diff)
	}
	if got, ok := ParseAuthMethods(nil); !ok || len(got) != 0 {
		t.Error("an empty list is one")
	}
	whole := map[int]bool{0: true, 2: true, 5: true}
	for n := range data {
		if _, ok := ParseAuthMethods(data[:n]); ok != whole[n] {
			t.Errorf("%d octets: %v", n, ok)
		}
	}
	for _, bad := range []string{"00", "0102", "ff02"} {
		if _, ok := ParseAuthMethods(unhex(t, bad)); ok {
			t.Errorf("%s parses", bad)
		}
	}
	if got, ok := ParseAuthMethods(bytes.Repeat([]byte{2, 2}, 30000)); !ok || len(got) > 200 {
		t.Errorf("%d announcements kept", len(got))
	}
}

func FuzzRedirect(f *testing.F) {
	f.Add(GatewayID{Name: "gw.example"}.Append(nil))
	f.Add(append(GatewayID{Addr: netip.MustParseAddr("2001:db8::1")}.Append(nil), make([]byte, 32)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		id, nonce, ok := ParseRedirect(data)
		if !ok {
			return
		}
		if got := append(id.Append(nil), nonce...); !bytes.Equal(got, data) {
			t.Fatalf("%x became %x", data, got)
		}
		if again, ok := ParseGatewayID(id.String()); !ok {
			t.Fatalf("%v is no identity: %v", id, again)
		}
	})
}

func FuzzTicketAndPuzzle(f *testing.F) {
	f.Add(AppendTicket(nil, time.Hour, []byte("ticket")))
	f.Add(Puzzle{PRF: 5, Difficulty: 17}.Append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		if life, ticket, ok := ParseTicket(data); ok && !bytes.Equal(AppendTicket(nil, life, ticket), data) {
			t.Fatalf("ticket %x changed", data)
		}
		if p, ok := ParsePuzzle(data); ok && !bytes.Equal(p.Append(nil), data) {
			t.Fatalf("puzzle %x changed", data)
		}
		if keys, ok := (&PuzzleSolution{Data: data}).Keys(); ok && !bytes.Equal(bytes.Join(keys[:], nil), data) {
			t.Fatalf("solution %x changed", data)
		}
	})
}

func FuzzAuthMethods(f *testing.F) {
	f.Add([]byte{2, 2, 3, 1, 1, 10, 14, 2, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70})
	f.Fuzz(func(t *testing.T, data []byte) {
		list, ok := ParseAuthMethods(data)
		if !ok {
			return
		}
		again, ok := ParseAuthMethods(AppendAuthMethods(nil, list))
		if !ok || len(again) > len(list) {
			t.Fatalf("%+v became %+v", list, again)
		}
	})
}
