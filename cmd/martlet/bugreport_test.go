package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"software.sslmate.com/src/go-pkcs12"

	"martlet"
	"martlet/config"
)

// What must not come out of a bundle. None of it is one of our words.
const (
	markPSK      = "pskZqrst9XyQ4vB7nL2mK8wT3h"
	markEAP      = "eapQqzxw1Passw0rd=with/odd+signs"
	markUserPass = "usrKqjzv7Hd82kfLw0q"
	markPPK      = "ppkWvqxz5Nf71mRt6Yb3Gh9Jc4Pd8Sa2"
	markRADIUS   = "radXjqzk3Vb64nWm0"
	markProxy    = "prxGzqvj8Tc95"
	markP12      = "p12Fzqxk6Lm47"
	markLogin    = "qwazzi"
	markAccount  = "zorblatt"
	markLocal    = "blimfrey"
	markHost     = "vexnode.quillmoor.example"
	markDomain   = "quillmoor.example"
	markIntranet = "zimbra.flaxholt.example"
	markName     = "flaxholt-zentrale"
	markChild    = "drimzaal"
	markPool     = "poolquux"
	markGroup    = "grobnitz"
	markOrg      = "Quillmoor Zaunbau GmbH"
	markCN       = "Zebulon Quastenflosser"
	markPath     = "zwiebelhaus"
	mark4        = "203.0.113.77"
	mark6        = "2001:db8:77aa::5e"
	markStranger = "mopsfidel@krautgarten.example" // who stands in the log alone
)

var marks = []string{
	markPSK, markEAP, markUserPass, markPPK, markRADIUS, markProxy, markP12, markLogin, markAccount, markLocal, markHost, markDomain,
	markIntranet, markName, markChild, markPool, markGroup, markOrg, markCN, markPath, mark4, mark6, markStranger,
	"Zebulon", "Quastenflosser", "Zaunbau", "krautgarten", "mopsfidel", "flaxholt",
}

// markedForms are the ways in which a mark may come out.
func markedForms(mark string) []string {
	forms := []string{
		mark, strings.ToUpper(mark), strings.ToLower(mark), hex.EncodeToString([]byte(mark)), strings.ToUpper(hex.EncodeToString([]byte(mark))),
		url.QueryEscape(mark), url.PathEscape(mark), fmt.Sprintf("% x", mark),
	}
	for shift := range 3 {
		if part := mark[min(shift, len(mark)):]; len(part) >= 6 {
			part = part[:len(part)/3*3]
			forms = append(forms, base64.StdEncoding.EncodeToString([]byte(part)), base64.URLEncoding.EncodeToString([]byte(part)))
		}
	}
	return forms
}

// markedConfig writes a configuration full of marks with the files that it names, and loads it.
func markedConfig(t *testing.T) *config.Config {
	t.Helper()
	dir := filepath.Join(t.TempDir(), markPath)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		Subject:  pkix.Name{CommonName: markCN, Organization: []string{markOrg}}, DNSNames: []string{markHost}, EmailAddresses: []string{markLocal + "@" + markDomain},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	bag, err := pkcs12.Modern.Encode(key, cert, nil, markP12)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"me.p12": bag, "ca.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), "psk.txt": []byte(markPSK),
		"martlet.toml": fmt.Appendf(nil, `
[pool.%[10]s]
addresses = ["10.77.0.0/24"]
groups = ["%[11]s"]
[user.%[8]s]
password = "%[3]s"
groups = ["%[11]s"]
[radius.server.eins]
address = "%[13]s"
secret = "%[5]s"
[proxy.web]
listen = "127.0.0.1:1080"
user = "%[7]s"
password = "%[6]s"
[connection.%[9]s]
remote = ["%[12]s", "%[14]s"]
request = ["ipv4"]
post_quantum = "off"
local = { auth = "psk", id = "%[15]s@%[16]s", secret = "file:psk.txt" }
peer = { auth = "psk", id = "%[12]s" }
ppk."%[8]s-key".secret = "%[4]s"
child.%[17]s = { remote = ["%[13]s/32", "10.1.0.0/16"], proposals = ["aes256gcm16-x25519"] }
[connection.staff]
pool = ["%[10]s"]
groups = ["%[11]s"]
domains = ["%[16]s"]
dns = ["10.1.0.53"]
from = ["%[14]s/128"]
local = { auth = "cert", cert = ["me.p12"], key_password = "%[18]s" }
peer = { auth = "eap" }
[connection.log]
remote = ["%[13]s"]
local = { auth = "eap-mschapv2", user = "%[7]s", secret = "%[2]s" }
peer = { auth = "cert", ca = ["ca.pem"], id = "%[12]s" }
`, markPSK, markEAP, markUserPass, markPPK, markRADIUS, markProxy, markLogin, markAccount, markName, markPool, markGroup,
			markHost, mark4, mark6, markLocal, markDomain, markChild, markP12),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := config.Load(filepath.Join(dir, "martlet.toml"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// markedFacts are of a node of such a configuration.
func markedFacts(t *testing.T) *facts {
	t.Helper()
	c := markedConfig(t)
	four, six := netip.MustParseAddrPort(mark4+":4500"), netip.MustParseAddrPort("["+mark6+"]:500")
	status, err := json.Marshal(&martlet.Status{
		Version: "1", Device: "martlet0", Connections: []string{markName, "staff"}, NotReady: []string{markName + ": no tunnel; one is being opened"},
		SAs: []martlet.SAStatus{{
			Connection: markName, State: "established", SPIi: "0123456789abcdef", SPIr: "fedcba9876543210", LocalAddr: four, RemoteAddr: six,
			LocalID: markLocal + "@" + markDomain, RemoteID: "CN=" + markCN + ", O=" + markOrg, Suite: "aes256gcm16-prfsha256-x25519",
			Domains: []string{markIntranet}, Children: []martlet.ChildStatus{{Name: markChild, SPIIn: "c1a2b3d4", Local: []string{mark4 + "/32[tcp/443]"}, Remote: []string{"10.1.0.0-10.1.0.9"}}},
		}},
		Waiting: []martlet.WaitingStatus{{Connection: "log", Text: "x", Err: &martlet.Error{Code: "unreachable", What: markHost + " gives no answer", Why: "lookup " + markHost + ": no such host"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	kept := &recent{}
	log := newLogger(kept, zapcore.InfoLevel)
	log.Info("established", zap.String("conn", markName), zap.String("peer", markLocal+"@"+markDomain), zap.Stringer("at", four), zap.String("suite", "aes256gcm16-prfsha256-x25519"))
	log.Named("ike").Warn("down", zap.String("conn", "log"), zap.String("what", `the gateway `+markHost+` does not let "`+markLogin+`" in`), zap.String("why", "it says AUTHENTICATION_FAILED"), zap.Stringer("at", six))
	log.Warn("child failed", zap.String("peer", markStranger), zap.String("why", "it is CN="+markCN+", O="+markOrg), zap.String("at", "198.51.100.9:4500"))
	log.Error("a fault of ours", zap.String("panic", hex.EncodeToString([]byte(markHost))+" "+base64.StdEncoding.EncodeToString([]byte("x"+markEAP))+" "+url.QueryEscape(markEAP)+" "+strings.ToUpper(markAccount)))
	return &facts{
		config: c, status: fact{text: status}, log: fact{text: kept.text()},
		metrics: fact{text: []byte("# HELP martlet_connection_up Whether an IKE SA of the connection stands that has a child SA.\nmartlet_connection_up{connection=\"" + markName + "\"} 1\n")},
		resolv:  fact{text: []byte("# by " + markLogin + "\nnameserver " + mark6 + "\nnameserver 10.1.0.53\nsearch " + markDomain + " flaxholt\n")},
		host: []hostFact{{"addresses.json", "addresses", fact{text: fmt.Appendf(nil,
			`[{"ifname":"eth0","address":"52:54:00:ab:cd:ef","addr_info":[{"local":%q,"prefixlen":24,"family":"inet"},{"local":"192.168.7.9"},{"local":"fe80::5054:ff:feab:cdef"}]},{"ifname":"br-flaxholt"}]`, mark4)}}},
	}
}

func textOf(parts []part) map[string]string {
	out := map[string]string{}
	for _, p := range parts {
		out[p.name] = p.text
	}
	return out
}

// TestBugreportHidesAll: no secret and no name is in the bundle, in whatever form, also where the
// configuration is not there to tell what is one.
func TestBugreportHidesAll(t *testing.T) {
	for name, change := range map[string]func(*facts){"with the configuration": func(*facts) {}, "without": func(f *facts) { f.config = nil }} {
		t.Run(name, func(t *testing.T) {
			f := markedFacts(t)
			change(f)
			hidesAll(t, f)
		})
	}
}

func hidesAll(t *testing.T, f *facts) {
	everything := string(f.status.text) + string(f.log.text) + string(f.metrics.text) + string(f.resolv.text) + string(f.host[0].text)
	for _, mark := range []string{markLocal, markHost, markName, markStranger, mark4, mark6} {
		if !strings.Contains(everything, mark) {
			t.Fatalf("%q is not even in the facts", mark)
		}
	}
	var archive bytes.Buffer
	if err := bundle(&archive, f.redacted(false), time.Now()); err != nil {
		t.Fatal(err)
	}
	packed, err := gzip.NewReader(&archive)
	if err != nil {
		t.Fatal(err)
	}
	files := tar.NewReader(packed)
	n := 0
	for ; ; n++ {
		head, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(files)
		if err != nil || len(text) == 0 {
			t.Fatalf("%s: %d octets, %v", head.Name, len(text), err)
		}
		folded := strings.ToLower(string(text))
		for _, mark := range append(marks, "ab:cd:ef", "feab:cdef", "198.51.100.9") {
			for _, form := range markedForms(mark) {
				if strings.Contains(string(text), form) || strings.Contains(folded, strings.ToLower(form)) {
					t.Errorf("%s shows %q as %q", head.Name, mark, form)
				}
			}
		}
	}
	if n != 8 {
		t.Errorf("%d files", n)
	}
	if t.Failed() {
		for name, text := range textOf(f.redacted(false)) {
			t.Logf("%s:\n%s", name, text)
		}
	}
}

// TestBugreportIsOfUse: what is not secret is there, and the same is called the same everywhere.
func TestBugreportIsOfUse(t *testing.T) {
	files := textOf(markedFacts(t).redacted(false))
	var status martlet.Status
	err := json.Unmarshal([]byte(regexp.MustCompile(`address\d+`).ReplaceAllString(files["status.json"], "192.0.2.9")), &status)
	if err != nil || len(status.SAs) != 1 || status.SAs[0].State != "established" || status.SAs[0].SPIi != "0123456789abcdef" || status.SAs[0].Suite != "aes256gcm16-prfsha256-x25519" {
		t.Errorf("the status is %+v, %v", status, err)
	}
	user := regexp.MustCompile(`id = "(user\d+@host\d+)"`).FindStringSubmatch(files["config.toml"])
	gateway := regexp.MustCompile(`remote = \["(host\d+)", "(address\d+)"\]`).FindStringSubmatch(files["config.toml"])
	connection := regexp.MustCompile(`\[connection\.(connection\d+)\]\nremote = \["host`).FindStringSubmatch(files["config.toml"])
	if user == nil || gateway == nil || connection == nil {
		t.Fatalf("the configuration is\n%s", files["config.toml"])
	}
	for file, want := range map[string][]string{
		"log.txt": {
			" info  established conn=" + connection[1] + " peer=" + user[1] + " at=address", ":4500 suite=aes256gcm16-prfsha256-x25519",
			" warn  ike: down conn=", " what=\"the gateway " + gateway[1] + " does not let ", ` why="it says AUTHENTICATION_FAILED" at=` + gateway[2] + ":500",
		},
		"status.json":    {`"` + connection[1] + `"`, `"` + user[1] + `"`, gateway[1] + " gives no answer", connection[1] + ": no tunnel; one is being opened", `/32[tcp/443]"`, `"10.1.0.0-10.1.0.9"`},
		"metrics.txt":    {"Whether an IKE SA of the connection stands that has a child SA.", `{connection="` + connection[1] + `"} 1`},
		"resolv.conf":    {"nameserver " + gateway[2] + "\n", "nameserver 10.1.0.53\n", "search " + strings.Split(user[1], "@")[1] + " "},
		"addresses.json": {`"eth0"`, `"192.168.7.9"`, `"mac1"`},
		"config.toml":    {`secret = "file:path`, `key_password = "[secret]"`, `proposals = ["aes256gcm16-x25519"]`, `"10.1.0.0/16"`, `auth = "eap-mschapv2"`, "post_quantum = \"off\""},
		"build.txt":      {"martlet ", "GOOS="},
	} {
		for _, text := range want {
			if !strings.Contains(files[file], text) {
				t.Errorf("%s has no %q:\n%s", file, text, files[file])
			}
		}
	}
}

// TestBugreportWithNames: then only secrets, users and paths are replaced.
func TestBugreportWithNames(t *testing.T) {
	all := ""
	for _, text := range textOf(markedFacts(t).redacted(true)) {
		all += text
	}
	for _, mark := range []string{markHost, markName, markChild, mark4, mark6, markOrg} {
		if !strings.Contains(all, mark) {
			t.Errorf("%q is not there", mark)
		}
	}
	for _, mark := range []string{markPSK, markEAP, markUserPass, markPPK, markRADIUS, markProxy, markP12, markLogin, markAccount, markLocal, markPath, "mopsfidel"} {
		for _, form := range markedForms(mark) {
			if strings.Contains(strings.ToLower(all), strings.ToLower(form)) {
				t.Errorf("%q is there as %q", mark, form)
			}
		}
	}
}

// TestBugreportOfFaults: a configuration that cannot be read shows where and what is wrong.
func TestBugreportOfFaults(t *testing.T) {
	_, err := config.Parse(filepath.Join("home", markPath+".toml"), []byte("[connection."+markName+"]\nremote = [\""+markHost+"\"]\nlocal = { auth = \"psk\", id = \""+markLocal+"@"+markDomain+"\", secret = \" "+markPSK+"\", "+markLogin+" = 1 }\npeer = { auth = \""+markCN+"\" }\n"), t.TempDir(), os.LookupEnv)
	if err == nil {
		t.Fatal("it has no faults")
	}
	text := textOf((&facts{configErr: err}).redacted(false))["config.toml"]
	for _, mark := range marks {
		if strings.Contains(strings.ToLower(text), strings.ToLower(mark)) {
			t.Errorf("%q is there", mark)
		}
	}
	if !strings.Contains(text, ".toml:") && !strings.Contains(text, "path1:3:") || !strings.Contains(text, "begins or ends with white space") {
		t.Errorf("the faults are told so:\n%s", text)
	}
}

func TestRecentIsBounded(t *testing.T) {
	r := &recent{}
	log := newLogger(r, zapcore.InfoLevel)
	for i := range 3 * recentLines {
		log.Info("line", zap.Int("n", i))
	}
	text := string(r.text())
	if n := strings.Count(text, "\n"); n != recentLines || !strings.HasSuffix(text, fmt.Sprintf(" line n=%d\n", 3*recentLines-1)) {
		t.Errorf("%d lines", n)
	}
	for range 10 {
		log.Info(strings.Repeat("x", recentOctets/3))
	}
	log.Info(strings.Repeat("x", 2*recentOctets))
	log.Info("the last")
	if text := string(r.text()); len(text) > recentOctets || !strings.HasSuffix(text, "the last\n") {
		t.Errorf("%d octets", len(text))
	}
}

// TestBugreportNamesOfOurWords: what stands for a name or a file is replaced whole, whatever signs are
// in it, also where each of its words is one of ours.
func TestBugreportNamesOfOurWords(t *testing.T) {
	r := newRedactor(false)
	for key, text := range map[string]string{
		"user": "open/gateway", "groups": "ready [open]", "id": "open/gateway", "cert": "/open/my gateway/key.pem", "key": "file:open/gateway key", "pool": "open/ready",
	} {
		got := r.said(key, text)
		for _, word := range []string{"open", "gateway", "ready"} {
			if strings.Contains(got, word) {
				t.Errorf("%s = %q is told as %q", key, text, got)
			}
		}
	}
	for text, want := range map[string]string{"dynamic[tcp/443]": "dynamic[tcp/443]", "10.1.0.0/16": "10.1.0.0/16", "203.0.113.7": "address1"} {
		if got := r.said("remote", text); got != want {
			t.Errorf("remote = %q is told as %q, want %q", text, got, want)
		}
	}
}

// TestBugreportCommandsNoTerminal: what a peer said does not reach the terminal of who looks at the report.
func TestBugreportCommandsNoTerminal(t *testing.T) {
	f := &facts{log: fact{text: []byte("peer \x1b[2J \u009b2J \u202e\r\npeer\n")}}
	if log := textOf(f.redacted(false))["log.txt"]; strings.ContainsAny(log, "\x1b\u009b\u202e\r") || !strings.Contains(log, "\npeer\n") {
		t.Errorf("%q", log)
	}
}

// full is a file of a disk that says at the end that it has no room.
type full struct{ bytes.Buffer }

var errNoRoom = errors.New("no room")

func (*full) Close() error { return errNoRoom }

// TestBugreportTellsOfClose: what only closing the file tells is not lost.
func TestBugreportTellsOfClose(t *testing.T) {
	var file full
	if err := save(&file, []part{{"build.txt", "version", "1\n"}}, time.Now()); !errors.Is(err, errNoRoom) {
		t.Errorf("%v", err)
	}
	if file.Len() == 0 {
		t.Error("nothing was written before")
	}
}
