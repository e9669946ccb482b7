package interop

import (
	"bytes"
	"encoding/csv"
	"encoding/hex"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

const (
	captureGateway = `
[node]
mode = "userspace"
listen = ["127.0.0.1"]
control = "gateway.sock"
[pool.v4]
addresses = ["10.77.0.0/24"]
[connection.clients]
pool = ["v4"]
proposals = ["aes256gcm16-prfsha256-x25519"]
local = { auth = "psk", id = "gateway.test", secret = "k9Xw2mTqZ7bR4vLs8NcJ3yHf6GdP1aUe" }
peer = { auth = "psk", id = "*@test" }
child.net.local = ["10.77.0.1/32"]
child.net.proposals = ["aes256gcm16"]
`
	captureClient = `
[node]
mode = "userspace"
control = "client.sock"
[connection.office]
remote = ["127.0.0.1"]
request = ["ipv4"]
proposals = ["aes256gcm16-prfsha256-x25519"]
local = { auth = "psk", id = "alice@test", secret = "k9Xw2mTqZ7bR4vLs8NcJ3yHf6GdP1aUe" }
peer = { auth = "psk", id = "gateway.test" }
child.net.remote = ["10.77.0.0/24"]
child.net.proposals = ["aes256gcm16"]
`
)

// TestCapture: tshark reads what `martlet capture --keys` writes, of an SA that came while it ran
// and of one that stood; what it writes without --keys nobody reads, and no key is in it.
func TestCapture(t *testing.T) {
	start(t)
	host := newNamespace(t, "host")
	in := func(name string) string { return filepath.Join(host.dir, name) }
	run := func(name string, args ...string) *process {
		return host.spawn(name, nil, append([]string{shared.martlet}, args...)...)
	}
	configured := func(name, text string) string {
		return host.write(name, strings.ReplaceAll(text, `control = "`, `control = "`+host.dir+"/"))
	}
	run("martlet serve", "serve", "-c", configured("gateway.toml", captureGateway)).says("serving on")
	// What is up later has its socket first when it is: the first capture is at the gateway.
	capture := func(name, socket string, more ...string) *process {
		p := run("martlet capture", append([]string{"capture", "--control", in(socket), "-o", in(name)}, more...)...)
		p.says("writing ")
		return p
	}
	coming := capture("coming.pcap", "gateway.sock", "--keys", in("coming"))
	closed := capture("closed.pcap", "gateway.sock")
	run("martlet up", "up", "-c", configured("client.toml", captureClient)).says("office is up")
	standing := capture("standing.pcap", "client.sock", "--keys", in("standing"), "office")
	inner := capture("inner.pcap", "client.sock", "--inner")
	host.run(shared.martlet, "ping", "--control", in("client.sock"), "-n", "4", "10.77.0.1")
	for _, p := range []*process{coming, closed, standing, inner} {
		p.stop(syscall.SIGINT)
		if p.wait() != 0 || !strings.Contains(p.out.String(), " packets\n") {
			t.Errorf("a capture ends so:\n%s", p.out.String())
		}
	}

	opened := &shark{t: t, config: in("coming"), file: in("coming.pcap"), esn: true}
	if got := opened.fields("isakmp.exchangetype == 35 && isakmp.auth.method", "isakmp.id.data.fqdn"); len(got) != 2 {
		t.Errorf("%d IKE_AUTH messages are read, want 2: %q", len(got), got)
	}
	echoes(t, opened, "esp && icmp")
	echoes(t, &shark{t: t, config: in("standing"), file: in("standing.pcap"), esn: true}, "esp && icmp")
	echoes(t, &shark{t: t, config: host.dir, file: in("inner.pcap")}, "icmp")

	shut := &shark{t: t, config: host.dir, file: in("closed.pcap"), esn: true}
	if all, read := shut.fields("esp", "frame.number"), shut.fields("icmp || isakmp.auth.method", "frame.number"); len(all) < 6 || len(read) != 0 {
		t.Errorf("without keys %d packets of ESP are there, and %d read", len(all), len(read))
	}
	written := []byte(readFile(t, in("closed.pcap")) + closed.out.String())
	keys := 0
	for _, table := range []string{"ikev2_decryption_table", "esp_sa"} {
		rows, err := csv.NewReader(strings.NewReader(readFile(t, in("coming"), table))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range slices.Concat(rows...) {
			key, err := hex.DecodeString(strings.TrimPrefix(field, "0x"))
			if err != nil || len(key) < 16 {
				continue // SPIs are shorter
			}
			keys++
			if bytes.Contains(written, key[:16]) || bytes.Contains(written, []byte(hex.EncodeToString(key[:16]))) {
				t.Error("a key is in a capture without keys")
			}
		}
	}
	if keys < 4 {
		t.Errorf("only %d keys to look for", keys)
	}
}

// echoes looks for three pings and their answers, of four: the last may come too late for the file.
func echoes(t *testing.T, s *shark, filter string) {
	t.Helper()
	requests := s.fields(filter+" && icmp.type == 8 && ip.dst == 10.77.0.1", "icmp.seq")
	answers := s.fields(filter+" && icmp.type == 0 && ip.src == 10.77.0.1", "icmp.seq")
	if len(requests) < 3 || len(answers) < 3 {
		t.Errorf("%s: %d echo requests and %d answers are read, want 3 each at least", filepath.Base(s.file), len(requests), len(answers))
	}
}
