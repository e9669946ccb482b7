package pki

import (
	"strings"
	"testing"
	"unicode"
)

func mustParse(tb testing.TB, s string) Identity {
	tb.Helper()
	id, err := ParseIdentity(s)
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

const moonDN = "\x30\x35\x31\x0b\x30\x09\x06\x03\x55\x04\x06\x13\x02CH" +
	"\x31\x13\x30\x11\x06\x03\x55\x04\x0a\x13\x0astrongSwan" +
	"\x31\x11\x30\x0f\x06\x03\x55\x04\x03\x13\x08moon.net"

func TestParseIdentity(t *testing.T) {
	for _, c := range []struct {
		in    string
		want  Identity
		shown string // default: in
	}{
		{"", Identity{}, "%any"},
		{"%any", Identity{}, ""},
		{"%any6", Identity{}, "%any"},
		{"*", Identity{}, "%any"},
		{"0.0.0.0", Identity{}, "%any"},
		{"::", Identity{}, "%any"},
		{"moon.example.com", Identity{IDFQDN, "moon.example.com"}, ""},
		{"@moon", Identity{IDFQDN, "moon"}, "moon"},
		{"@192.0.2.1", Identity{IDFQDN, "192.0.2.1"}, "fqdn:192.0.2.1"},
		{"fqdn:192.0.2.1", Identity{IDFQDN, "192.0.2.1"}, ""},
		{"FQDN:a=b", Identity{IDFQDN, "a=b"}, "fqdn:a=b"},
		{"dns:moon", Identity{IDFQDN, "moon"}, "moon"},
		{"fqdn:#00ff", Identity{IDFQDN, "\x00\xff"}, `\x00\xff`},
		{"*.example.com", Identity{IDFQDN, "*.example.com"}, ""},
		{"carol@example.com", Identity{IDRFC822Addr, "carol@example.com"}, ""},
		{"@@carol", Identity{IDRFC822Addr, "carol"}, "email:carol"},
		{"email:carol@x", Identity{IDRFC822Addr, "carol@x"}, "carol@x"},
		{"rfc822:carol@x", Identity{IDRFC822Addr, "carol@x"}, "carol@x"},
		{"userfqdn:carol@x", Identity{IDRFC822Addr, "carol@x"}, "carol@x"},
		{"192.0.2.1", Identity{IDIPv4Addr, "\xc0\x00\x02\x01"}, ""},
		{"ipv4:192.0.2.1", Identity{IDIPv4Addr, "\xc0\x00\x02\x01"}, "192.0.2.1"},
		{"ipv4:#c0000201", Identity{IDIPv4Addr, "\xc0\x00\x02\x01"}, "192.0.2.1"},
		{"ipv4:0.0.0.0", Identity{IDIPv4Addr, "\x00\x00\x00\x00"}, "0.0.0.0"},
		{"2001:db8::1", Identity{IDIPv6Addr, "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"}, ""},
		{"ipv6:::1", Identity{IDIPv6Addr, strings.Repeat("\x00", 15) + "\x01"}, "::1"},
		{"192.0.2.7/24", Identity{idIPv4Subnet, "\xc0\x00\x02\x00\xff\xff\xff\x00"}, "192.0.2.0-192.0.2.255"},
		{"ipv4net:192.0.2.0/25", Identity{idIPv4Subnet, "\xc0\x00\x02\x00\xff\xff\xff\x80"}, "192.0.2.0-192.0.2.127"},
		{"192.0.2.1-192.0.2.9", Identity{idIPv4Range, "\xc0\x00\x02\x01\xc0\x00\x02\x09"}, ""},
		{"fec0::/8", Identity{idIPv6Subnet, "\xfe" + strings.Repeat("\x00", 15) + "\xff" + strings.Repeat("\x00", 15)}, "fe00::-feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"@#0aFF", Identity{IDKeyID, "\x0a\xff"}, "@#0aff"},
		{"@#0a:ff", Identity{IDKeyID, "\x0a\xff"}, "@#0aff"},
		{"keyid:group 1", Identity{IDKeyID, "group 1"}, ""},
		{"keyid:#6162", Identity{IDKeyID, "ab"}, "keyid:ab"},
		{"{11}:#2361", Identity{IDKeyID, "#a"}, "@#2361"},
		{"{2}:moon", Identity{IDFQDN, "moon"}, "moon"},
		{"{0x02}:moon", Identity{IDFQDN, "moon"}, "moon"},
		{"{99}:moon", Identity{99, "moon"}, "{99}:#6d6f6f6e"},
		{"{13}:", Identity{IDNull, ""}, "{13}:#"},
		{"asn1gn:#8201ff", Identity{IDDERASN1GN, "\x82\x01\xff"}, "{10}:#8201ff"},
		{"C=CH, O=strongSwan, CN=moon.net", DN([]byte(moonDN)), ""},
		{"/C=CH/O=strongSwan/CN=moon.net", DN([]byte(moonDN)), "C=CH, O=strongSwan, CN=moon.net"},
		{"c = CH,o=strongSwan  ,cn= moon.net,", DN([]byte(moonDN)), "C=CH, O=strongSwan, CN=moon.net"},
		{"asn1dn:2.5.4.6=CH,O=strongSwan,2.5.4.3=moon.net", DN([]byte(moonDN)), "C=CH, O=strongSwan, CN=moon.net"},
		{"CN=*", DN([]byte("\x30\x0c\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x0c\x01*")), ""},
		{"CN=M\u00fcller", DN([]byte("\x30\x12\x31\x10\x30\x0e\x06\x03\x55\x04\x03\x0c\x07M\u00fcller")), ""},
		{"E=a@b", DN([]byte("\x30\x14\x31\x12\x30\x10\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01\x16\x03a@b")), ""},
		{`CN=a\, b\\\2B\20`, DN([]byte("\x30\x12\x31\x10\x30\x0e\x06\x03\x55\x04\x03\x0c\x07a, b\\+ ")), `CN=a\, b\\\+\20`},
	} {
		got, err := ParseIdentity(c.in)
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		if got != c.want {
			t.Errorf("%q = %d %x, want %d %x", c.in, got.Type, got.Data, c.want.Type, c.want.Data)
		}
		shown := c.shown
		if shown == "" {
			shown = c.in
		}
		if got.String() != shown {
			t.Errorf("%q is shown as %q, want %q", c.in, got, shown)
		}
		roundTrip(t, got)
	}
}

// roundTrip checks what must hold for any identity whatever.
func roundTrip(tb testing.TB, id Identity) {
	tb.Helper()
	shown := id.String()
	if strings.ContainsFunc(shown, func(r rune) bool { return !unicode.IsPrint(r) }) {
		tb.Errorf("%d %x is shown as %q, which is not printable", id.Type, id.Data, shown)
	}
	if len(shown) > 1<<16 {
		tb.Errorf("%d octets of type %d are shown as %d", len(id.Data), id.Type, len(shown))
	}
	text, err := id.MarshalText()
	if err != nil {
		tb.Fatal(err)
	}
	var back Identity
	if err := back.UnmarshalText(text); err != nil {
		tb.Fatalf("%d %x was written as %q: %v", id.Type, id.Data, text, err)
	}
	if back != id {
		tb.Errorf("%d %x was written as %q and read as %d %x", id.Type, id.Data, text, back.Type, back.Data)
	}
	if !id.Match(id) || !(Identity{}).Match(id) {
		tb.Errorf("%s does not match itself", shown)
	}
}

func TestParseIdentityErrors(t *testing.T) {
	for in, want := range map[string]string{
		"XX=foo":                    `unknown name "XX"`,
		"C=CH, moon":                "not NAME=VALUE",
		"C=CH,,CN=x":                "not NAME=VALUE",
		"=x":                        "not NAME=VALUE",
		`CN=x\`:                     "escapes nothing",
		`CN=\ff`:                    "not UTF-8",
		"E=\u00e4@x":                "ASCII only",
		"2001:db8::zz":              "neither an IPv6 address",
		"fe80::1%eth0":              "zone",
		"@#0":                       "not hex",
		"@#":                        "nothing after '#'",
		"keyid:":                    "nothing after the type",
		"keyid:#zz":                 "not hex",
		"ipv4:::1":                  "another type",
		"ipv6:192.0.2.1":            "another type",
		"ipv4:moon":                 "not an IP address",
		"ipv4:#c00002":              "3 octets; this type has 4",
		"ipv4net:moon":              "neither a subnet",
		"ipv4range:9.9.9.9-1.1.1.1": "neither a subnet",
		"{256}:x":                   "0 to 255",
		"{x}:x":                     "0 to 255",
		"{3}:#x":                    "not hex",
		"moon\n":                    "control characters",
		"mo\x00on":                  "control characters",
		" moon":                     "a space before or after",
		"moon\xff":                  "not UTF-8",
		"@":                         "nothing after the type",
	} {
		id, err := ParseIdentity(in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", in, err, want)
		}
		if !id.IsZero() {
			t.Errorf("%q: an error and the identity %s", in, id)
		}
	}
	if _, err := ParseIdentity(strings.Repeat("a", maxIdentityText+1)); err == nil {
		t.Error("an endless identity was read")
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		m, id string
		want  bool
	}{
		{"%any", "moon", true},
		{"moon", "%any", false},
		{"moon", "MOON", true},
		{"moon", "moon.", false},
		{"moon", "@@moon", false},
		{"moon", "keyid:moon", false},
		{"*.example.com", "a.example.com", true},
		{"*.example.com", "b.a.Example.COM", true},
		{"*.example.com", ".example.com", false},
		{"*.example.com", "example.com", false},
		{"*.example.com", "a.example.org", false},
		{"*.example.com", `{2}:#61002e6578616d706c652e636f6d`, false},
		{"a.example.com", "*.example.com", false},
		{"fqdn:*", "moon", true},
		{"fqdn:*", "carol@moon", false},
		{"*@example.com", "carol@EXAMPLE.com", true},
		{"*@example.com", "carol@example.com.evil.net", false},
		{"carol@example.com", "Carol@example.com", false},
		{"carol@example.com", "carol@Example.com", true},
		{"keyid:a", "keyid:A", false},
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "fqdn:192.0.2.1", false},
		{"192.0.2.0/24", "192.0.2.255", true},
		{"192.0.2.0/24", "192.0.3.0", false},
		{"192.0.2.0/24", "::ffff:192.0.2.1", false},
		{"0.0.0.0/0", "10.1.2.3", true},
		{"0.0.0.0/0", "::1", false},
		{"192.0.2.3-192.0.2.5", "192.0.2.2", false},
		{"192.0.2.3-192.0.2.5", "192.0.2.3", true},
		{"192.0.2.3-192.0.2.5", "{1}:#c0", false},
		{"fec0::100/120", "fec0::1ff", true},
		{"C=CH, O=x, CN=*", "C=CH, O=x, CN=moon", true},
		{"C=CH, O=x, CN=*", "C=CH, O=y, CN=moon", false},
		{"C=CH, O=x, CN=*", "C=CH, O=x", false},
		{"C=CH, O=x, CN=*", "C=CH, O=x, CN=moon, CN=sun", false},
		{"C=CH, O=x, CN=moon", "C=CH, O=x, CN=*", false},
		{"C=CH, O=x, CN=moon", "C=ch, O=X, CN=MOON", true},
		{"C=CH, O=x, CN=moon", "O=x, C=CH, CN=moon", false},
		{"CN=*.net", "CN=a.net", false},
	} {
		m := mustParse(t, c.m)
		id := mustParse(t, c.id)
		if got := m.Match(id); got != c.want {
			t.Errorf("%s matches %s: %v, want %v", c.m, c.id, got, c.want)
		}
	}
	kelvin := Identity{IDFQDN, "\u212a.net"}
	if mustParse(t, "k.net").Match(kelvin) {
		t.Error("a Kelvin sign passes for a k")
	}
}

func TestMatchStringTypes(t *testing.T) {
	dn := func(tag byte, value string) Identity {
		return DN([]byte("\x30" + string(rune(len(value)+11)) + "\x31" + string(rune(len(value)+9)) + "\x30" + string(rune(len(value)+7)) +
			"\x06\x03\x55\x04\x03" + string(rune(tag)) + string(rune(len(value))) + value))
	}
	const printableString, utf8String, t61, bmp = 0x13, 0x0c, 0x14, 0x1e
	for _, c := range []struct {
		a, b Identity
		want bool
	}{
		{dn(printableString, "moon"), dn(utf8String, "moon"), true},
		{dn(printableString, "moon"), dn(utf8String, "Moon"), false},
		{dn(printableString, "moon"), dn(printableString, "Moon"), true},
		{dn(utf8String, "moon"), dn(utf8String, "Moon"), false},
		{dn(t61, "\xc3\xa4"), dn(utf8String, "\xc3\xa4"), false},
		{dn(bmp, "moon"), dn(utf8String, "moon"), false},
		{dn(bmp, "moon"), dn(bmp, "moon"), true},
		{dn(4, "moon"), dn(utf8String, "moon"), false},
	} {
		if got := c.a.Match(c.b); got != c.want {
			t.Errorf("%x against %x: %v, want %v", c.a.Data, c.b.Data, got, c.want)
		}
	}
}

// Whatever comes from the wire can be shown, written, read back and compared.
func TestIdentityFromWire(t *testing.T) {
	bodies := []string{
		"", "\x00", "\x00\x00\x00\x00", "a\x00b", "\xff\xfe", "a\r\nb", "\u202eabc", "\x1b[31m", `a\x00`, "%any", "*", " ",
		"keyid:x", "C=CH", "@#00", "192.0.2.1", moonDN, moonDN + "\x00", moonDN[:20], "\x30\x00", "\x30\x80", "0\x02\x31\x00",
		strings.Repeat("\x00", 16), strings.Repeat("a", 1<<16), strings.Repeat("\x00", 1<<16), strings.Repeat("\xf0\x9f\xa6\x85", 1<<14),
	}
	for n := range 256 {
		for _, body := range bodies {
			roundTrip(t, Identity{IDType(n), body})
		}
	}
	for n := range len(moonDN) {
		cut := DN([]byte(moonDN[:n]))
		roundTrip(t, cut)
		if cut.Match(DN([]byte(moonDN))) || DN([]byte(moonDN)).Match(cut) {
			t.Errorf("the name cut at %d passes for the whole", n)
		}
	}
	if !(Identity{}).IsZero() || (Identity{IDNull, ""}).IsZero() {
		t.Error("IsZero")
	}
}

// strongSwan's own seeds for its parser of identities.
func TestStrongswanIdentities(t *testing.T) {
	read := 0
	for name, b := range untar(t, vectors(t), "x509/strongswan-fuzzing-corpora-x509-ocsp-ids.tar.gz") {
		if !strings.HasPrefix(name, "ids/") {
			continue
		}
		id, err := ParseIdentity(strings.TrimRight(string(b), "\n"))
		if err != nil {
			// The corpus holds DER too, which is no text here.
			if b[0] != 0x30 {
				t.Errorf("%q: %v", b, err)
			}
			continue
		}
		roundTrip(t, id)
		read++
	}
	if read < 16 {
		t.Errorf("only %d seeds were read", read)
	}
}
