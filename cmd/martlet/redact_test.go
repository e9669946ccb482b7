package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

func TestRedactedText(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"the peer answers no more", "the peer answers no more"},
		{"the peer krzysztof answers", "the peer word1 answers"},
		{"krzysztof and KRZYSZTOF", "word1 and word1"},
		{"krzysztof@vpn.zzyx.example at 203.0.113.5:4500", "user1@host1 at address1:4500"},
		{"alice@example.com, alice@example.org", "user1@host1, user1@host2"},
		{"203.0.113.5 203.0.113.6 203.0.113.5", "address1 address2 address1"},
		{"[2001:db8::5]:500 2001:db8::5", "address1:500 address1"},
		{"[fd00::5]:500 10.1.2.3:53 127.0.0.1 ::1 100.64.0.1 fe80::1 224.0.0.1", "[fd00::5]:500 10.1.2.3:53 127.0.0.1 ::1 100.64.0.1 fe80::1 224.0.0.1"},
		{"fe80::5054:ff:feab:cdef%eth0", "address1"},
		{"0.0.0.0/0 ::/0 128.0.0.0/1 2000::/3 203.0.113.0/24 10.0.0.0/8", "0.0.0.0/0 ::/0 128.0.0.0/1 2000::/3 address1/24 10.0.0.0/8"},
		{"10.1.0.1-10.1.0.9 203.0.113.1-203.0.113.9 203.0.113.1/32[tcp/443]", "10.1.0.1-10.1.0.9 address1-address2 address1/32[tcp/443]"},
		{"aes256gcm16-prfsha256-x25519-mlkem768", "aes256gcm16-prfsha256-x25519-mlkem768"},
		{"SPI c1a2b3d4 of 0123456789abcdef", "SPI c1a2b3d4 of 0123456789abcdef"},
		{"key c1a2b3d4c1a2b3d4c1a2b3d4 and k9Xw2mTqZ7bR4vLs8NcJ3yHf6GdP1aUe", "key blob1 and blob2"},
		{"2026-01-02T03:04:05.000Z info  rekeyed took=1.5s n=3", "2026-01-02T03:04:05.000Z info  rekeyed took=1.5s n=3"},
		{`what="the gateway vpn.zzyx.example gives no answer"`, `what="the gateway host1 gives no answer"`},
		{`peer="CN=Krzysztof Brzęczyszczykiewicz, O=Zzyx" at=10.0.0.1`, `peer="subject1" at=10.0.0.1`},
		{`user="ZZYX\\krzysztof" conn=zzyx child=net`, `user="host1\\user1" conn=host1 child=net`},
		{"lookup vpn.zzyx.example on 10.1.0.53:53: no such host", "lookup host1 on 10.1.0.53:53: no such host"},
		{"open /home/krzysztof/psk.txt: permission denied; /etc/resolv.conf", "open path1: permission denied; /etc/resolv.conf"},
		{"see node.control and connection.zzyx.local.secret", "see node.control and connection.name1.local.secret"},
		{"https://ocsp.zzyx.example/krzysztof?x=1", "https://host1/word1?x=1"},
		{"491761234567 is no port, 4500 is", "word1 is no port, 4500 is"},
		{"zażółć gęślą", "word1 word2"},
		{"52:54:00:ab:cd:ef", "mac1"},
		{"52-54-00-12-34-56 and 00-00-00-00-00-00", "mac1 and 00-00-00-00-00-00"},
		{"https://krzysztof:hunter2@vpn.zzyx.example/x", "user1@host1"},
		{"203.0.113.5:500/udp 10.1.2.3:53/udp ip-203-0-113-5", "address1:500/udp 10.1.2.3:53/udp word1"},
		{"[2001:db8::5%eth0]:4500", "address1:4500"},
		{"$6$rounds=5000$Zq7$k9Xw2mTqZ7bR4vLs8NcJ3yHf6GdP1aUe", "$6$rounds=blob1"},
	} {
		if got := newRedactor(false).text(tt.text); got != tt.want {
			t.Errorf("%s\n got %s\nwant %s", tt.text, got, tt.want)
		}
	}
}

// What stands as a name somewhere is found everywhere, made of our own words or not.
func TestRedactedNames(t *testing.T) {
	r := newRedactor(false)
	r.name(kindConnection, "Main Gateway")
	r.name(kindUser, "open")
	r.name(kindUser, "12")
	r.address(netip.MustParseAddr("203.0.113.5"))
	for text, want := range map[string]string{
		"the main gateway is open, reopened": "the connection1 is user1, word1",
		"OPEN":                               "user1",
		"12 packets from 10.12.0.1":          "12 packets from 10.12.0.1",
		"12@10.0.0.1":                        "user2@10.0.0.1",
		"4d61696e2047617465776179":           "connection1", // in hexadecimal
		"Main+Gateway":                       "connection1",
		"203.0.113.5/32":                     "address1/32",
	} {
		if got := r.text(text); got != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
}

// TestRedactedHostile: whatever form it has, nothing of what is secret or of somebody is left. No
// configuration says what that is, and none of it is a word of ours.
func TestRedactedHostile(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	lines := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	for name, text := range map[string]string{
		"quotes":           `secret = "zq9Kwx#Pfl" 'zq9Kwx#Pfl' \"zq9Kwx#Pfl\"`,
		"several lines":    "secret = \"\"\"\nzq9Kwx\nPfl7vq\n\"\"\"",
		"PEM in TOML":      "key = \"\"\"\n" + lines + "\"\"\"",
		"PEM in JSON":      `{"msg":` + strconv.Quote(lines) + `}`,
		"PKCS#12":          "cert = \"base64:" + base64.StdEncoding.EncodeToString(der) + "\"",
		"a hash":           `user zorblatt:$6$Zq7wvx$k9Xw2mTqZ7bR4vLs8NcJ3yHf6GdP1aUe`,
		"the environment":  `MARTLET_CONNECTION_ZORBLATT_LOCAL_SECRET=zq9Kwx`,
		"a URL":            `https://zorblatt:zq9Kwx@quillmoor.example:8443/zq9Kwx?token=zq9Kwx#zq9Kwx`,
		"JSON":             `{"level":"info","msg":"zorblatt came from 203.0.113.7","peer":"open","user":"ready","more":{"zorblatt":["zq9Kwx"]}}`,
		"EAP identities":   `user="open ready" peer="open@ready" identity=ready`,
		"NAI of a phone":   `peer="0262011234567890@nai.epc.mnc001.mcc262.3gppnetwork.org"`,
		"a header":         `Authorization: Basic em9yYmxhdHQ6enE5S3d4`,
		"control signs":    "zorblatt\x1b[31mzorblatt\u202ezorblatt\u009b2J",
		"addresses":        `::ffff:203.0.113.7 [2001:db8:77aa::5e%eth0]:4500 203.0.113.7:4500/udp 203.0.113.7-203.0.113.9 a=203.0.113.7, (203.0.113.7)`,
		"reversed":         `7.113.0.203.in-addr.arpa`,
		"a name of a file": `open '/home/zorblatt/zq9Kwx.pem': no such file`,
	} {
		r := newRedactor(false)
		r.log(text) // which learns
		got := printable(r.log(text))
		secrets := []string{"zq9", "Kwx", "Pfl", "zorblatt", "quillmoor", "203.0.113", "113.0.203", "77aa", "Zq7", "em9y", "0262", "k9Xw", "\x1b", "\u202e", "\u009b"}
		for line := range strings.Lines(lines) {
			if !strings.HasPrefix(line, "-") {
				secrets = append(secrets, line[:4], line[len(line)/2:len(line)-1])
			}
		}
		if name == "EAP identities" || name == "JSON" {
			secrets = append(secrets, `"open`, `open@`, `@ready`, `=ready`, `"ready`)
		}
		secrets = append(secrets, base64.StdEncoding.EncodeToString(der)[:8])
		for _, secret := range secrets {
			if strings.Contains(strings.ToLower(got), strings.ToLower(secret)) {
				t.Errorf("%s: %q is in %q", name, secret, got)
			}
		}
	}
}

func TestScrub(t *testing.T) {
	r := newRedactor(true)
	r.secret([]byte("hunter2"))
	r.secret([]byte("e"))        // which is in what stands for secrets
	r.secret([]byte("t]["))      // which that makes
	r.secret([]byte("\xff\x00")) // no text
	for _, text := range []string{"hunter2", "HUNTER2", "hunthunter2er2", "eeeee", "x\xff\x00y", "hunter2hunter2", "68756e74657232", "ff00"} {
		got := fold(r.scrub(r.text(text)))
		for _, secret := range []string{"hunter2", "e", "t][", "\xff\x00", "68756e74657232", "ff00"} {
			if strings.Contains(got, secret) {
				t.Errorf("%q is still in %q", secret, got)
			}
		}
	}
}

// FuzzRedactor: what comes out never has a secret that was given, as it is or encoded.
func FuzzRedactor(f *testing.F) {
	f.Add([]byte("hunter2"), []byte("swordfish"), "peer=hunter2 \"hunter2\" 203.0.113.5 aHVudGVyMg==")
	f.Add([]byte("["), []byte("]"), "[secret]")
	f.Add([]byte("user1"), []byte("se"), "alice@example.com s[secret]e")
	f.Add([]byte("a\"b\\c\n"), []byte{0, 1}, "why=\"a\\\"b\\\\c\\n\"")
	f.Fuzz(func(t *testing.T, one, other []byte, text string) {
		if len(one) == 0 || len(other) == 0 || len(one)+len(other)+len(text) > 1<<12 {
			return
		}
		for _, withNames := range []bool{false, true} {
			r := newRedactor(withNames)
			r.secret(one)
			r.secret(other)
			all := text + string(one) + hex.EncodeToString(other) + " " + text + base64.StdEncoding.EncodeToString(one) + url.QueryEscape(string(other)) + strings.ToUpper(string(one))
			for range 2 {
				got := fold(r.scrub(r.text(all)))
				for _, secret := range [][]byte{one, other} {
					for _, form := range []string{string(secret), hex.EncodeToString(secret), base64.RawStdEncoding.EncodeToString(secret), url.QueryEscape(string(secret))} {
						if strings.Contains(got, fold(form)) {
							t.Fatalf("%q is in %q", form, got)
						}
					}
				}
			}
		}
	})
}
