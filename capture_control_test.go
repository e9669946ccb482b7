package martlet

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"martlet/crypto/suite"
	"martlet/ike"
	"martlet/ike/message"
	"martlet/test/golden"
	"martlet/tun/privsep"
)

// captured is a capture that runs, of one over whose control socket it goes.
type captured struct {
	t     *testing.T
	begun chan struct{}
	end   context.CancelFunc
	done  chan struct{}
	count Captured
	err   error

	mu   sync.Mutex
	file bytes.Buffer
}

func (c *captured) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file.Len() == 0 {
		close(c.begun)
	}
	return c.file.Write(b)
}

// startCapturing returns when the capture has begun.
func startCapturing(t *testing.T, n *Node, o CaptureOptions) *captured {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	c := &captured{t: t, begun: make(chan struct{}), done: make(chan struct{}), end: cancel}
	go func() {
		defer close(c.done)
		c.count, c.err = NewControl(n.Config.Node.Control).Capture(ctx, o, c)
	}()
	select {
	case <-c.begun:
	case <-c.done:
		t.Fatalf("it has not begun: %v", c.err)
	}
	return c
}

// stop ends the capture and returns its packets.
func (c *captured) stop() []golden.Packet {
	c.t.Helper()
	c.end()
	<-c.done
	if c.err != nil {
		c.t.Fatal(c.err)
	}
	file := filepath.Join(c.t.TempDir(), "c.pcap")
	if err := os.WriteFile(file, c.file.Bytes(), 0o600); err != nil {
		c.t.Fatal(err)
	}
	packets, err := golden.ReadCapture(file)
	if err != nil {
		c.t.Fatal(err)
	}
	return packets
}

// controlled starts a client of a gateway, with a control socket.
func controlled(t *testing.T, gateway *Node) *Node {
	t.Helper()
	client := startNode(t, false, clientOf(gateway, netip.Addr.Is4))
	client.Config.Node.Control = filepath.Join(t.TempDir(), "c.sock")
	if err := client.ServeControl(t.Context(), func() {}); err != nil {
		t.Fatal(err)
	}
	return client
}

// opened tells how many IKE messages and how many echo requests and replies can be read by the
// key tables in a folder. Ports of tests are any; IKE is what has the non-ESP marker.
func opened(t *testing.T, packets []golden.Packet, dir string) (messages, echoes int) {
	t.Helper()
	sas, err := golden.ReadIKEKeys(filepath.Join(dir, privsep.KeyTables[0]))
	children, childErr := golden.ReadESPKeys(filepath.Join(dir, privsep.KeyTables[1]))
	if err != nil || childErr != nil {
		t.Fatal(err, childErr)
	}
	for _, p := range packets {
		if raw, ok := bytes.CutPrefix(p.Payload, make([]byte, 4)); ok {
			for _, k := range sas {
				if opensIKE(raw, k) {
					messages++
					break
				}
			}
			continue
		}
		for _, k := range children {
			if len(p.Payload) < 8 || k.SPI != binary.BigEndian.Uint32(p.Payload) || k.Src != p.Src.Addr().String() || k.Dst != p.Dst.Addr().String() {
				continue
			}
			cipher, err := suite.NewCipher(k.Encr, k.Integ, k.EncrKey, k.IntegKey)
			if err != nil {
				t.Fatal(err)
			}
			if text, err := cipher.Open(bytes.Clone(p.Payload), 8, suite.ESN{On: true}); err == nil && text[9] == 1 {
				echoes++
			}
			break
		}
	}
	return messages, echoes
}

func opensIKE(raw []byte, k golden.IKEKeys) bool {
	h, err := message.ParseHeader(raw)
	if err != nil || uint64(h.SPIi) != k.SPIi || uint64(h.SPIr) != k.SPIr {
		return false
	}
	encr, integ := k.SKer, k.SKar
	if h.FromInitiator() {
		encr, integ = k.SKei, k.SKai
	}
	cipher, err := suite.NewCipher(k.Encr, k.Integ, encr, integ)
	if err != nil {
		return false
	}
	_, _, _, err = message.Open(bytes.Clone(raw), cipher)
	return err == nil
}

// TestCaptureWithKeys: they open what is captured, of SAs that come and of those that stand.
func TestCaptureWithKeys(t *testing.T) {
	ctx := testContext(t)
	gateway := startNode(t, true, gatewayText)
	client := controlled(t, gateway)
	core, logs := observer.New(zap.InfoLevel)
	client.log = zap.New(core)
	coming, standing := t.TempDir(), t.TempDir()

	before := startCapturing(t, client, CaptureOptions{Keys: coming})
	if err := client.Connect(ctx, ""); err != nil {
		t.Fatal(err)
	}
	after := startCapturing(t, client, CaptureOptions{Keys: standing, Connection: "office"})
	if err := client.Rekey(ctx, "office", ""); err != nil {
		t.Fatal(err)
	}
	// What is sent is captured when it is on its way: the last answer may be there before.
	for range 2 {
		if _, err := client.Ping(ctx, netip.MustParseAddr("10.77.0.1")); err != nil {
			t.Fatal(err)
		}
	}
	// Both directions of IKE_INTERMEDIATE cannot be read: Wireshark has no keys of several
	// exchanges. IKE_AUTH and CREATE_CHILD_SA are two messages each.
	packets := before.stop()
	if messages, echoes := opened(t, packets, coming); messages < 4 || echoes < 3 {
		t.Errorf("of %d packets %d IKE messages and %d echoes are read; want 4 and 3", len(packets), messages, echoes)
	}
	if uint64(len(packets)) != before.count.Packets || before.count.Lost != 0 {
		t.Errorf("%d packets, counted %+v", len(packets), before.count)
	}
	packets = after.stop()
	if messages, echoes := opened(t, packets, standing); messages < 2 || echoes < 3 {
		t.Errorf("of %d packets of an SA that stood %d IKE messages and %d echoes are read; want 2 and 3", len(packets), messages, echoes)
	}
	for _, what := range []string{"begun", "ended"} {
		lines := logs.FilterMessageSnippet("keys that open them has " + what).All()
		for _, line := range lines {
			if by, _ := line.ContextMap()["by"].(string); line.Level != zap.WarnLevel || by == "" {
				t.Errorf("of a capture with keys that has %s the log says %v", what, line)
			}
		}
		if len(lines) != 2 {
			t.Errorf("the log tells %d times that a capture with keys has %s, want 2", len(lines), what)
		}
	}
	for _, table := range privsep.KeyTables {
		if info, err := os.Stat(filepath.Join(coming, table)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s may be read by others, or %v", table, err)
		}
	}
}

// TestCaptureWithoutKeys: what goes over the control socket, whole, has no octet of a key.
func TestCaptureWithoutKeys(t *testing.T) {
	ctx := testContext(t)
	gateway := startNode(t, true, gatewayText)
	client := controlled(t, gateway)
	dir := t.TempDir()
	keys := startCapturing(t, client, CaptureOptions{Keys: dir})
	plain, err := NewControl(client.Config.Node.Control).stream(ctx, "GET", "/v1/capture", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if err := client.Connect(ctx, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Ping(ctx, netip.MustParseAddr("10.77.0.1")); err != nil {
		t.Fatal(err)
	}
	keys.stop()
	if err := plain.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(plain)
	if err != nil || len(text) < 1000 {
		t.Fatalf("%d octets, %v", len(text), err)
	}
	var secrets [][]byte
	sas, _ := golden.ReadIKEKeys(filepath.Join(dir, privsep.KeyTables[0]))
	children, _ := golden.ReadESPKeys(filepath.Join(dir, privsep.KeyTables[1]))
	for _, k := range sas {
		secrets = append(secrets, k.SKei, k.SKer, k.SKai, k.SKar)
	}
	for _, k := range children {
		secrets = append(secrets, k.EncrKey, k.IntegKey)
	}
	looked := 0
	for _, secret := range secrets {
		for part := secret; len(part) >= 8; part = part[8:] {
			looked++
			for _, form := range [][]byte{part[:8], []byte(hex.EncodeToString(part[:8])), []byte(base64.RawStdEncoding.EncodeToString(part[:6]))} {
				if bytes.Contains(text, form) {
					t.Errorf("a part of a key is in what was sent")
				}
			}
		}
	}
	if looked < 10 {
		t.Fatalf("only %d parts of keys to look for", looked)
	}
	r := bytes.NewReader(text)
	for r.Len() > 0 {
		kind, _, err := readPart(r, nil)
		if err != nil || kind == partIKEKeys || kind == partESPKeys {
			t.Fatalf("a part of kind %d, %v", kind, err)
		}
	}
}

// TestCaptureInner: the packets of the tunnel, before they go in and after they came out.
func TestCaptureInner(t *testing.T) {
	ctx := testContext(t)
	gateway := startNode(t, true, gatewayText)
	client := controlled(t, gateway)
	if err := client.Connect(ctx, ""); err != nil {
		t.Fatal(err)
	}
	inner := startCapturing(t, client, CaptureOptions{Inner: true, Connection: "office"})
	listener, err := gateway.Listen("tcp", "10.77.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	echoOnce(t, listener)
	conn, err := client.DialContext(ctx, "tcp", "10.77.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	talk(t, conn)
	inner.end()
	<-inner.done
	address := client.Status().SAs[0].Addresses[0].Addr().As4()
	there, back := [2]netip.Addr{}, [2]netip.Addr{}
	there[0], there[1] = netip.AddrFrom4(address), netip.MustParseAddr("10.77.0.1")
	back[0], back[1] = there[1], there[0]
	seen := map[[2]netip.Addr]int{}
	for records := inner.file.Bytes()[24:]; len(records) > 0; {
		length := binary.LittleEndian.Uint32(records[8:])
		src, dst, ok := endsOf([][]byte{records[16 : 16+length]})
		if !ok {
			t.Fatalf("no IP packet: %x", records[16:16+length])
		}
		seen[[2]netip.Addr{src, dst}]++
		records = records[16+length:]
	}
	if seen[there] < 2 || seen[back] < 2 {
		t.Errorf("packets of the connection: %v", seen)
	}
	if inner.err != nil || inner.count.Packets < 4 {
		t.Errorf("%+v, %v", inner.count, inner.err)
	}
}

func isCode(err error, code ike.Code) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}

// TestCaptureEndsWithTheNode: and what cannot begin says why.
func TestCaptureEndsWithTheNode(t *testing.T) {
	gateway := startNode(t, true, gatewayText)
	client := controlled(t, gateway)
	control := NewControl(client.Config.Node.Control)
	if _, err := control.Capture(t.Context(), CaptureOptions{Connection: "nowhere"}, io.Discard); !isCode(err, ike.CodeNoConnection) {
		t.Errorf("of an unknown connection: %v", err)
	}
	var all []*captured
	for range maxCaptures {
		all = append(all, startCapturing(t, client, CaptureOptions{}))
	}
	if _, err := control.Capture(t.Context(), CaptureOptions{}, io.Discard); !isCode(err, ike.CodeHost) {
		t.Errorf("one more than there may be: %v", err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	for _, c := range all {
		if <-c.done; c.err != nil {
			t.Error(c.err)
		}
	}
	if client.captures.outer.running.Load() != nil {
		t.Error("a capture is left in the way of packets")
	}
}

// TestKeysGoToOwnFilesOnly: a table that others may read, or have put there, gets no key and stays as it is.
func TestKeysGoToOwnFilesOnly(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no such modes")
	}
	others := filepath.Join(t.TempDir(), "others")
	for name, prepare := range map[string]func(table string) error{
		"of a mode for all": func(table string) error {
			return errors.Join(os.WriteFile(table, nil, 0o600), os.Chmod(table, 0o644)) //nolint:gosec // what is refused
		},
		"a link": func(table string) error {
			return errors.Join(os.WriteFile(others, nil, 0o600), os.Symlink(others, table))
		},
		"a link to nothing": func(table string) error { return os.Symlink(others+"-new", table) },
		"a folder":          func(table string) error { return os.Mkdir(table, 0o700) },
	} {
		for _, table := range privsep.KeyTables {
			dir := t.TempDir()
			if err := prepare(filepath.Join(dir, table)); err != nil {
				t.Fatal(err)
			}
			if k, err := keyLogOf(privsep.OpenKeyLog(dir)); !isCode(err, ike.CodeHost) {
				t.Errorf("%s, %s: %v, %v", table, name, k, err)
			}
			_ = os.Remove(others)
		}
	}
	if _, err := os.Lstat(others + "-new"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a link was followed: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "new")
	for range 2 { // it is made, and added to
		k, err := keyLogOf(privsep.OpenKeyLog(dir))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(k.lines(k.ike, []byte("x\n")), k.close()); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, privsep.KeyTables[0])); err != nil || string(text) != "x\nx\n" {
		t.Errorf("%q, %v", text, err)
	}
}
