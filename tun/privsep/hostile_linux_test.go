package privsep

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRefused: what is not of the tunnel is not done, whoever asks.
func TestRefused(t *testing.T) {
	for _, c := range []struct{ do, body string }{
		{doRoutes, `{"Device":"eth0","Mark":7,"Table":300}`},
		{doRoutes, `{"Device":"","Mark":7,"Table":300}`},
		{doRoutes, `{"Device":"martlet0","Mark":8,"Table":300}`},
		{doRoutes, `{"Device":"martlet0","Mark":7,"Table":254}`},
		{doRoutes, `{"Device":"martlet0","Mark":7,"Table":300,"Priority":1}`},
		{doRoutes, `{"Device":"martlet0","Mark":7,"Table":300,"MTU":68}`},
		{doRoutes, `{"Device":"martlet0","Mark":7,"Table":300} {}`},
		{doRoutes, `{"device":"martlet0","Routes":"all"}`},
		{doRules, `{"Device":"eth0","Mark":7}`},
		{doRules, `{"Device":"martlet0","Mark":1}`},
		{doRules, `{"Device":"martlet0","Mark":7,"KillSwitch":true}`},
		{doNames, `{"Device":"eth0","Servers":["10.0.0.1"]}`},
		{doMTU, `1400`},
		{doOpen, `{"mtu":1400,"queues":100000}`},
		{doControl, ``},
		{doKeyLog, ``},
		{doSecret, `{"name":"../etc/shadow"}`},
		{doReplace, `{"name":"../etc/passwd","value":"AAAA"}`},
		{doReplace, `{"name":"ticket-key","value":"` + strings.Repeat("AAAA", maxSecret) + `"}`},
		{doSocket, `{"outside":true}`},
		{doFile, `{"how":"read","path":"/etc/shadow"}`},
		{doFile, `{"how":"write","path":"/etc/shadow"}`},
		{doFile, `{"how":"resolve","path":"/etc/shadow"}`},
		{"", `{}`},
		{"reboot", `{}`},
	} {
		m := &machine{}
		answer, fds, done := m.server(testSettings).answer(message{ID: 3, Do: c.do, Body: json.RawMessage(c.body)})
		done()
		if answer.Fault == nil || answer.ID != 3 || len(fds) != 0 || len(m.log) != 0 {
			t.Errorf("%s %s: %+v, did %q", c.do, c.body, answer, m.log)
		}
	}
}

// TestSockets: only sockets of the network are prepared, and only our ports are bound.
func TestSockets(t *testing.T) {
	open := func(family, kind int) *os.File {
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return os.NewFile(uintptr(fd), "socket")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	s := (&machine{}).server(testSettings)
	for _, c := range []struct {
		name, body string
		file       *os.File
		fault      string
	}{
		{"none", `{"buffer":4096}`, nil, "refused"},
		{"a pipe", `{"buffer":4096}`, r, "non-socket"},
		{"a unix socket", `{"outside":true}`, open(unix.AF_UNIX, unix.SOCK_DGRAM), "refused"},
		{"another's port", `{"bind":"127.0.0.1:25"}`, open(unix.AF_INET, unix.SOCK_STREAM), "refused"},
		{"a port of all", `{"bind":"127.0.0.1:5000"}`, open(unix.AF_INET, unix.SOCK_STREAM), "refused"},
		{"too much", `{"buffer":2000000000}`, open(unix.AF_INET, unix.SOCK_DGRAM), "refused"},
		{"nothing", `{}`, open(unix.AF_INET6, unix.SOCK_DGRAM), ""},
	} {
		m := message{Do: doSocket, Body: json.RawMessage(c.body)}
		if c.file != nil {
			m.files = []*os.File{c.file}
		}
		answer, _, done := s.answer(m)
		done()
		if (answer.Fault == nil) != (c.fault == "") || answer.Fault != nil && !strings.Contains(answer.Fault.Text, c.fault) {
			t.Errorf("%s: %+v, want %q", c.name, answer.Fault, c.fault)
		}
		if c.file != nil && c.file.Close() == nil {
			t.Errorf("%s: the file stays open", c.name)
		}
	}
}

// ends are two wires that lead to each other.
func ends(t testing.TB) (a, b *wire) {
	t.Helper()
	ours, theirs, err := pair()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.FileConn(theirs)
	if err = errors.Join(err, theirs.Close()); err != nil {
		t.Fatal(err)
	}
	a, b = &wire{conn: ours}, &wire{conn: conn.(*net.UnixConn)}
	t.Cleanup(func() {
		_ = a.conn.Close() // one that a test closed
		_ = b.conn.Close()
	})
	return a, b
}

// TestWire: messages come as they went, with their files, and what is none ends the wire.
func TestWire(t *testing.T) {
	a, b := ends(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	long := json.RawMessage(`"` + strings.Repeat("x", 1<<20) + `"`)
	sent := make(chan error, 1)
	go func() {
		sent <- errors.Join(a.write(message{ID: 1, Do: "one"}, int(r.Fd())), a.write(message{ID: 2, Body: long}))
	}()
	one, err := b.read()
	if err != nil || one.ID != 1 || one.Do != "one" || len(one.files) != 1 {
		t.Fatalf("%+v, %v", one, err)
	}
	if err := errors.Join(r.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(one.files[0]); err != nil || len(text) != 0 {
		t.Errorf("%q, %v", text, err)
	}
	one.drop()
	if two, err := b.read(); err != nil || two.ID != 2 || len(two.Body) != len(long) {
		t.Fatalf("%d octets, %v", len(two.Body), err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"\xff\xff\xff\xff", "\x00\x00\x00\x02{", "\x00\x00\x00\x02{]", "\x00\x00\x00\x04{}{}", "\x00\x00\x00\x09{\"x\":\"y\"}", "\x00\x00", "\x00\x00\x00\x00"} {
		a, b := ends(t)
		if _, err := a.conn.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := a.conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if m, err := b.read(); err == nil {
			t.Errorf("%q is read as %+v", text, m)
		}
	}
	if err := a.conn.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.read(); !errors.Is(err, io.EOF) {
		t.Errorf("the end is %v", err)
	}
}

// FuzzRequest: whatever a child says, what is done is about the tunnel's device, mark and table.
func FuzzRequest(f *testing.F) {
	for _, m := range []string{
		`{"id":1,"do":"set routes","body":{"Device":"martlet0","Mark":7,"Table":300,"Routes":["10.0.0.0/8"]}}`,
		`{"id":1,"do":"set rules","body":{"Device":"martlet0","Mark":7,"Local":["10.0.0.0/8"],"HoleUntil":"2026-01-01T00:00:00Z"}}`,
		`{"do":"set resolvers","body":{"Device":"martlet0","Servers":["10.0.0.1"],"Domains":["a"]}}`,
		`{"do":"socket","body":{"bind":"[::]:500","buffer":1}}`, `{"do":"open device","body":{"mtu":1400,"queues":2}}`,
		`{"do":"replace secret","body":{"name":"ticket-key","value":"AAAA"}}`, `{"do":"file","body":{"how":"look","path":"/"}}`, `{"do":"recover"}`,
	} {
		f.Add([]byte(m))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var in message
		if decode(text, &in) != nil {
			return
		}
		m := &machine{}
		s := m.server(testSettings)
		answer, fds, done := s.answer(in)
		done()
		if answer.ID != in.ID || len(fds) != 0 {
			t.Errorf("answer %+v to %+v, %d files", answer, in, len(fds))
		}
		if d := m.routes.Device; d != "" && (d != "martlet0" || m.routes.Mark != 7 || m.routes.Table != 300) {
			t.Errorf("routes %+v", m.routes)
		}
		if d := m.rules.Device; d != "" && (d != "martlet0" || m.rules.Mark != 7 || m.rules.KillSwitch) {
			t.Errorf("rules %+v", m.rules)
		}
		if d := m.names.Device; d != "" && d != "martlet0" {
			t.Errorf("resolvers %+v", m.names)
		}
		for _, did := range m.log {
			if strings.Contains(did, "=") && !strings.HasPrefix(did, CrashSecret+"=") && !strings.HasPrefix(did, TicketKey+"=") {
				t.Errorf("did %q", did)
			}
		}
	})
}
