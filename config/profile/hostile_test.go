package profile

import (
	"encoding/base64"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// fails imports what must not be imported, and returns the error.
func fails(t *testing.T, data string, o Options) string {
	t.Helper()
	i, err := Import([]byte(data), o)
	if err == nil {
		t.Fatalf("imported %d connections", len(i.Connections))
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("the error has several lines: %q", err)
	}
	return err.Error()
}

func contains(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%q does not say %q", text, w)
		}
	}
}

func TestWhatIsTooLargeOrUnknownIsNotRead(t *testing.T) {
	contains(t, fails(t, strings.Repeat("#\n", maxSize), Options{}), "at most 1048576")
	contains(t, fails(t, "hello", Options{}), "no format", "swanctl.conf", "hint")
	contains(t, fails(t, "", Options{}), "no format")
}

func TestDeepNestingIsRefused(t *testing.T) {
	contains(t, fails(t, `<plist>`+strings.Repeat("<array>", 100)+strings.Repeat("</array>", 100)+"</plist>", Options{}), "nested")
	contains(t, fails(t, `{"uuid":1,"type":1,"remote":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)+"}", Options{}), "nested")
	contains(t, fails(t, "connections {"+strings.Repeat("a {", 100)+strings.Repeat("}", 101), Options{}), "nested")
	deep := "\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02" + strings.Repeat("\xa0\x80", 100_000)
	contains(t, fails(t, deep, Options{}), "nested too deep")
}

// TestTheLineIsTold: whoever has to mend a file learns where.
func TestTheLineIsTold(t *testing.T) {
	for name, c := range map[string]struct{ data, want string }{
		"JSON without a comma":      {"{\"uuid\": 1,\n\"type\": 2\n\"remote\": {}}", "the JSON cannot be read at line 3"},
		"JSON that is cut":          {"{\"uuid\": 1,\r\n\"type\": 2,\r\n\"remote\": {\r\n", "the JSON cannot be read at line 4"},
		"JSON and more":             {"{\"uuid\": 1,\"type\": 2,\"remote\": {}}\n\n]", "the JSON cannot be read at line 3"},
		"XML with a wrong end":      {"<vpn_connection>\n<a>\n</b>\n</vpn_connection>", "the XML cannot be read at line 3"},
		"XML that is cut":           {"<vpn_connection>\r\n<a>\r\n", "the XML cannot be read at line 3"},
		"XML with an odd character": {"<vpn_connection>\n<a>\x01</a>\n</vpn_connection>\n", "the XML cannot be read at line 2"},
		"XML that is not UTF-8":     {"<vpn_connection>\n\n<a>\xff</a></vpn_connection>", "the XML cannot be read at line 3"},
		"a keyfile":                 {"[vpn]\nservice-type=x\nnonsense\n", "line 3 cannot be read"},
		"swanctl.conf":              {"connections {\n a {\n", "line 3, cannot be read"},
	} {
		t.Run(name, func(t *testing.T) { contains(t, fails(t, c.data, Options{}), c.want, "hint") })
	}
}

// TestAValueOfAnotherKindIsTold: it is not taken for the default in silence.
func TestAValueOfAnotherKindIsTold(t *testing.T) {
	i, err := Import([]byte(`{"uuid":"1","type":"ikev2-eap","name":"a","mtu":[],"remote":{"addr":"vpn.example.com","port":"four"},"local":{}}`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{"mtu", "remote.port"} {
		if !slices.ContainsFunc(i.Notes, func(n Note) bool { return n.Place == place && strings.Contains(n.Text, "no number") }) {
			t.Errorf("nothing is said of %s: %v", place, i.Notes)
		}
	}
}

func TestEntitiesOfXMLAreNotExpanded(t *testing.T) {
	contains(t, fails(t, `<?xml version="1.0"?><!DOCTYPE plist [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><plist><dict><key>k</key><string>&b;</string></dict></plist>`, Options{}), "XML")
}

func TestAChangedProfileHasAWrongSignature(t *testing.T) {
	data, err := os.ReadFile("testdata/apple-signed/signed.mobileconfig")
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(data), "<string>vpn.example.com", "<string>vpn.evil.example"[:len("<string>vpn.example.com")], 1)
	contains(t, fails(t, changed, Options{}), "signature", "wrong", "do not use it")
}

func TestReferencesThatMultiplyAreRefused(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0 { x { k = v } y { k = v } }\n")
	for i := range 30 {
		fmt.Fprintf(&b, "a%d { p : a%d { } q : a%d { } }\n", i+1, i, i)
	}
	b.WriteString("connections { c : a30 { } }")
	contains(t, fails(t, b.String(), Options{}), "references make more than")
	contains(t, fails(t, "connections { a : connections.b { } b : connections.a { } }", Options{}), "refers to itself")
	contains(t, fails(t, "connections { a : connections { } }", Options{}), "refers to itself")
}

func TestIncludesEndAndStayInTheFolder(t *testing.T) {
	loop := fstest.MapFS{"conf.d/a.conf": {Data: []byte("include *.conf")}}
	contains(t, fails(t, "connections { }\ninclude conf.d/*.conf", Options{Files: loop}), "included by itself")
	many := fstest.MapFS{}
	for i := range 300 {
		many[fmt.Sprintf("conf.d/%d.conf", i)] = &fstest.MapFile{Data: []byte("x = 1")}
	}
	many["up.conf"] = &fstest.MapFile{Data: []byte("connections {}")}
	contains(t, fails(t, "connections { }\ninclude conf.d/*.conf", Options{Files: many}), "more than 256 files")
	contains(t, fails(t, "connections { }\ninclude ../*.conf\ninclude /etc/passwd\n", Options{Files: many, Folder: "/etc/swanctl"}), "outside")
}

func TestNamesOfAProfileLeadNowhere(t *testing.T) {
	i, err := Import([]byte(`{"uuid": "1", "type": "ikev2-eap", "name": "../../etc/cron.d/x\n[node]", "remote": {"addr": "vpn.example.com"}, "local": {"shared_secret": "Ar3etTnp"}}`), Options{Name: "../../x.sswan"})
	if err != nil {
		t.Fatal(err)
	}
	if got := i.Connections[0].Name; got != "etc-cron.d-x-node" {
		t.Errorf("the connection is called %q", got)
	}
	c, err := load(t, i)
	if err != nil {
		t.Fatal(err)
	}
	if c.Node.MTU != 0 || len(i.Files) != 1 {
		t.Error("the name became more than a name")
	}
}

func TestGiantRoundsOfAPasswordAreNotComputed(t *testing.T) {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(3)
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {})
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {})
			b.AddASN1OctetString([]byte("saltsalt"))
			b.AddASN1Int64(1 << 31)
		})
	})
	p12, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	i, err := Import(fmt.Appendf(nil, `{"uuid": "1", "type": "ikev2-cert", "remote": {"addr": "vpn.example.com"}, "local": {"p12": %q}}`, base64.StdEncoding.EncodeToString(p12)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := i.TOML()
	if err != nil || !needed(i) {
		t.Fatal(err, i.Notes)
	}
	contains(t, string(text), "too many rounds")
}

func TestNamesWithControlCharactersAreLeftOut(t *testing.T) {
	i, err := Import([]byte("connections { a { local { auth = psk } remote { auth = eap-mschapv2 } } }\nsecrets { ike { secret = \"a key that both of them know since 2026\" } eap-1 { id = \"CORP\\\\d\x16\"\n secret = x } eap-2 { id = carol\n secret = y } }"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(i.Users) != 1 || i.Users[0].Name != "carol" {
		t.Errorf("%d users", len(i.Users))
	}
	loads(t, i)
}

func TestPrintingWhatWasImportedShowsNoSecret(t *testing.T) {
	i, err := Import([]byte(`{"uuid": "1", "type": "ikev2-eap", "name": "x", "remote": {"addr": "vpn.example.com"}, "local": {"shared_secret": "Ar3etTnp"}}`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprint(i), fmt.Sprintf("%+v", *i), fmt.Sprintf("%#v", i)} {
		if strings.Contains(text, "Ar3et") || strings.Contains(text, fmt.Sprint([]byte("Ar3et"))[1:8]) {
			t.Error(text)
		}
	}
}
