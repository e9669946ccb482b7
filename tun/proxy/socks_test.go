package proxy

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// request is a SOCKS5 request.
func request(command byte, d destination) []byte {
	b := []byte{socksVersion, command, 0}
	if d.addr.IsValid() {
		return appendAddress(b, netip.AddrPortFrom(d.addr, d.port))
	}
	b = append(b, addressName, byte(len(d.name)))
	b = append(b, d.name...)
	return append(b, byte(d.port>>8), byte(d.port))
}

func to(s string) destination {
	d, err := parseHost(s, "")
	if err != nil {
		panic(err)
	}
	return d
}

func TestRFC1928Section3Methods(t *testing.T) {
	got, err := readMethods(strings.NewReader("\x03\x00\x01\x02rest"))
	if err != nil || !bytes.Equal(got, []byte{0, 1, 2}) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := readMethods(strings.NewReader("\x00")); err != nil || len(got) != 0 {
		t.Errorf("no methods: %v, %v", got, err)
	}
	if _, err := readMethods(strings.NewReader("\xff\x00")); err == nil {
		t.Error("fewer methods than announced")
	}
}

func TestRFC1929Section2Password(t *testing.T) {
	whole := "\x01\x05alice\x06secret"
	name, password, err := readPassword(strings.NewReader(whole))
	if err != nil || name != "alice" || password != "secret" {
		t.Errorf("%q, %q, %v", name, password, err)
	}
	for n := range whole {
		if _, _, err := readPassword(strings.NewReader(whole[:n])); err == nil {
			t.Errorf("%d octets are enough", n)
		}
	}
	long := strings.Repeat("x", 255)
	if name, password, err := readPassword(strings.NewReader("\x01\xff" + long + "\xff" + long)); err != nil || name != long || password != long {
		t.Errorf("the longest: %v", err)
	}
	if name, password, err := readPassword(strings.NewReader("\x01\x00\x00")); err != nil || name+password != "" {
		t.Errorf("empty: %v", err)
	}
	if _, _, err := readPassword(strings.NewReader("\x05\x01a\x01b")); !errors.Is(err, errVersion) {
		t.Errorf("version 5: %v", err)
	}
}

func TestRFC1928Section4Request(t *testing.T) {
	for _, c := range []struct{ bytes, want string }{
		{"\x05\x01\x00\x01\x0a\x09\x00\x01\x00\x50", "10.9.0.1:80"},
		{"\x05\x01\x00\x03\x0bserver.test\x01\xbb", "server.test:443"},
		{"\x05\x01\x00\x04\xfd\x00" + strings.Repeat("\x00", 13) + "\x01\x00\x16", "[fd00::1]:22"},
		{"\x05\x01\x00\x03\x07fd00::1\x00\x16", "[fd00::1]:22"}, // an address as a name
		{"\x05\x01\x00\x04" + strings.Repeat("\x00", 10) + "\xff\xff\x0a\x09\x00\x01\x00\x50", "10.9.0.1:80"},
		{"\x05\x01\x00\x03\xff" + strings.Repeat("a", 254) + "\x00\x50", ""}, // cut
	} {
		command, d, err := readRequest(strings.NewReader(c.bytes))
		if c.want == "" {
			if err == nil {
				t.Errorf("%x was taken", c.bytes)
			}
			continue
		}
		if err != nil || command != commandConnect || d.String() != c.want {
			t.Errorf("%x: %v, %v, %v; want %s", c.bytes, command, d, err, c.want)
		}
		r := strings.NewReader(c.bytes + "more")
		if readRequest(r); r.Len() != 4 {
			t.Errorf("%x: %d octets of what follows are left, not 4", c.bytes, r.Len())
		}
		for n := range c.bytes {
			if _, _, err := readRequest(strings.NewReader(c.bytes[:n])); err == nil {
				t.Errorf("%x is enough", c.bytes[:n])
			}
		}
	}
	for bad, want := range map[string]error{
		"\x04\x01\x00\x01\x0a\x09\x00\x01\x00\x50": errVersion,
		"\x05\x01\x00\x02\x0a\x09\x00\x01\x00\x50": errAddressType,
	} {
		if _, _, err := readRequest(strings.NewReader(bad)); !errors.Is(err, want) {
			t.Errorf("%x: %v, want %v", bad, err, want)
		}
	}
	for _, name := range []string{"", "a b", "a\x00b", "a:80", "a@b", "a/b", "fe80::1%eth0", "bücher.example", strings.Repeat("a", 255)} {
		b := append([]byte("\x05\x01\x00\x03"), byte(len(name)))
		b = append(append(b, name...), 0, 80)
		if _, d, err := readRequest(bytes.NewReader(b)); err == nil {
			t.Errorf("name %q: %v", name, d)
		}
	}
}

func TestRFC1928Section6Reply(t *testing.T) {
	for at, want := range map[string]string{
		"10.9.0.1:80":          "\x05\x05\x00\x01\x0a\x09\x00\x01\x00\x50",
		"[::ffff:10.9.0.1]:80": "\x05\x05\x00\x01\x0a\x09\x00\x01\x00\x50",
		"[fd00::1]:22":         "\x05\x05\x00\x04\xfd\x00" + strings.Repeat("\x00", 13) + "\x01\x00\x16",
	} {
		if got := socksReply(replyRefused, netip.MustParseAddrPort(at)); string(got) != want {
			t.Errorf("%s: %x", at, got)
		}
	}
	if got := socksReply(replyFailure, netip.AddrPort{}); string(got) != "\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00" {
		t.Errorf("without an address: %x", got)
	}
}

func TestRFC1928Section7Datagram(t *testing.T) {
	whole := "\x00\x00\x00\x03\x01a\x00\x35question"
	fragment, d, payload, err := parseDatagram([]byte(whole))
	if err != nil || fragment != 0 || d.String() != "a:53" || string(payload) != "question" {
		t.Errorf("%v, %v, %q, %v", fragment, d, payload, err)
	}
	if fragment, _, _, _ := parseDatagram([]byte("\x00\x00\x81\x01\x0a\x09\x00\x01\x00\x35x")); fragment != 0x81 {
		t.Errorf("fragment %x", fragment)
	}
	for n := range strings.Index(whole, "question") {
		if _, _, _, err := parseDatagram([]byte(whole[:n])); err == nil {
			t.Errorf("%x is enough", whole[:n])
		}
	}
}

func TestDestinationsOutsideTheTunnel(t *testing.T) {
	for s, ok := range map[string]bool{
		"10.9.0.1:80": true, "[fd00::1]:80": true, "a.test:80": true, "localhost.test:80": true, "notlocalhost:80": true,
		"127.0.0.1:80": false, "127.9.9.9:80": false, "[::1]:80": false, "0.0.0.0:80": false, "[::]:80": false,
		"[::ffff:127.0.0.1]:80": false, "localhost:80": false, "LOCALHOST.:80": false, "a.localhost:80": false,
	} {
		if err := to(s).check(); (err == nil) != ok {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func FuzzSOCKSRequest(f *testing.F) {
	f.Add(request(commandConnect, to("10.9.0.1:80")))
	f.Add(request(commandConnect, to("[fd00::1]:80")))
	f.Add(request(commandAssociate, to("server.test:443")))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		command, d, err := readRequest(r)
		if err != nil {
			return
		}
		again, e, err := readRequest(bytes.NewReader(request(command, d)))
		if err != nil || again != command || e != d {
			t.Fatalf("%v %v became %v %v, %v", command, d, again, e, err)
		}
		if used := len(b) - r.Len(); used > 3+longestAddress {
			t.Fatalf("%d octets were read", used)
		}
		d.check()
		readMethods(bytes.NewReader(b))
		readPassword(bytes.NewReader(b))
	})
}

func FuzzSOCKSDatagram(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x03\x01a\x00\x35question"))
	f.Add(append(appendAddress([]byte{0, 0, 0}, netip.MustParseAddrPort("[fd00::1]:53")), "question"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, d, payload, err := parseDatagram(b)
		if err != nil {
			return
		}
		if !bytes.HasSuffix(b, payload) {
			t.Fatal("the payload is not the rest")
		}
		if d.addr.IsValid() {
			header := appendAddress([]byte{0, 0, 0}, netip.AddrPortFrom(d.addr, d.port))
			_, e, rest, err := parseDatagram(append(header, payload...))
			if err != nil || e != d || !bytes.Equal(rest, payload) {
				t.Fatalf("%v became %v, %v", d, e, err)
			}
		}
	})
}
