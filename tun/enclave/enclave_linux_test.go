package enclave_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"martlet/tun"
	"martlet/tun/enclave"
)

// asNobody runs the test again as a user without any right, where this is root, and tells whether
// this is the process to run it in.
func asNobody(t *testing.T) bool {
	t.Helper()
	if os.Getuid() != 0 {
		return true
	}
	binary, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "martlet-enclave-") //nolint:usetesting // the folder of t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "program")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(program, binary, 0o755)); err != nil { //nolint:gosec // another user shall run it
		t.Fatal(err)
	}
	again := exec.CommandContext(t.Context(), program, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=2m")
	again.Dir, again.Env = "/", append(os.Environ(), "TMPDIR=", "GOCOVERDIR=")
	again.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := again.CombinedOutput()
	switch {
	case err != nil:
		t.Errorf("as nobody: %v\n%s", err, out)
	case bytes.Contains(out, []byte("--- SKIP")):
		t.Skipf("as nobody:\n%s", out)
	case !bytes.Contains(out, []byte("--- PASS: "+t.Name())):
		t.Errorf("did not run as nobody:\n%s", out)
	}
	return false
}

// place is an enclave with a program that reports.
type place struct {
	*enclave.Enclave
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Reader
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func open(t *testing.T) *place {
	t.Helper()
	stdin, in := pipe(t)
	out, stdout := pipe(t)
	e, err := enclave.Open(enclave.Options{
		Device: "tunnel", MTU: 1400, Queues: 1, Args: []string{os.Args[0], "of", "the test"}, Env: role("inside"),
		Stdin: stdin, Stdout: stdout, Stderr: os.Stderr,
	})
	skipWithout(t, err)
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	stdin.Close()
	stdout.Close()
	return &place{Enclave: e, t: t, in: in, out: bufio.NewReader(out)}
}

// skipWithout skips the test where the system does not want enclaves, which the error tells.
func skipWithout(t *testing.T, err error) {
	t.Helper()
	if e, ok := errors.AsType[*enclave.Error](err); ok && strings.HasPrefix(e.Step, "make user") {
		t.Skipf("%v: %s", e, e.Why)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// started is open with addresses, and the program runs.
func started(t *testing.T) *place {
	t.Helper()
	p := open(t)
	p.set("10.77.0.2", "fd77::2")
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *place) set(addresses ...string) {
	p.t.Helper()
	if err := p.Set(enclave.Network{Addresses: addrs(addresses...), Resolvers: addrs("10.77.0.53")}); err != nil {
		p.t.Fatal(err)
	}
}

// ask has the program do something and report.
func (p *place) ask(format string, args ...any) (r report) {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.in, format+"\n", args...); err != nil {
		p.t.Fatal(err)
	}
	line, err := p.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	if err != nil {
		p.t.Fatalf("%s: %v", fmt.Sprintf(format, args...), err)
	}
	return r
}

func (p *place) fails(want, format string, args ...any) {
	p.t.Helper()
	if r := p.ask(format, args...); !strings.Contains(r.Error, want) {
		p.t.Errorf("%s: error %q, want %q", fmt.Sprintf(format, args...), r.Error, want)
	}
}

// leak leaves a socket open that a program which is started inherits.
func leak(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
}

func TestProgramHasNothingButTheTunnel(t *testing.T) {
	if asNobody(t) {
		leak(t)
		p := started(t)
		checkProgram(t, p.ask("look"))
		p.fails("", "ping")
	}
}

// For root it is the same: no right over the host.
func TestProgramOfRootHasNothingButTheTunnel(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	leak(t)
	p := started(t)
	checkProgram(t, p.ask("look"))
	p.fails("operation not permitted", "unmount /etc/resolv.conf")
	p.fails("read-only file system", "write /etc/resolv.conf")
	p.fails("permission denied", "open /proc/%d/ns/net", os.Getpid())
}

func checkProgram(t *testing.T, r report) {
	t.Helper()
	if r.Error != "" {
		t.Error(r.Error)
	}
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if strings.Trim(r.Status[set], "0") != "" || r.Status[set] == "" {
			t.Errorf("%s is %q, want none", set, r.Status[set])
		}
	}
	if r.Status["NoNewPrivs"] != "1" {
		t.Errorf("NoNewPrivs is %q", r.Status["NoNewPrivs"])
	}
	if r.UID != os.Getuid() || r.GID != os.Getgid() || r.Group != syscall.Getpgrp() {
		t.Errorf("user %d, group %d, process group %d; want %d, %d, %d", r.UID, r.GID, r.Group, os.Getuid(), os.Getgid(), syscall.Getpgrp())
	}
	if len(r.Descriptors) != 0 {
		t.Errorf("descriptors %v", r.Descriptors)
	}
	if got := fmt.Sprint(r.Interfaces); got != "[lo tunnel]" {
		t.Errorf("interfaces %s", got)
	}
	if got := fmt.Sprint(r.Addresses); got != "[10.77.0.2/32 fd77::2/128]" {
		t.Errorf("addresses %s", got)
	}
	if got := fmt.Sprint(r.Routes); got != "[0.0.0.0/0 ::/0 fd77::2/128]" {
		t.Errorf("routes %s", got)
	}
	if !strings.Contains(r.ResolvConf, "\nnameserver 10.77.0.53\n") || strings.Count(r.ResolvConf, "nameserver") != 1 {
		t.Errorf("resolv.conf:\n%s", r.ResolvConf)
	}
	if len(r.Doors) > 0 {
		t.Errorf("the program sees %v", r.Doors)
	}
}

// What the program might try to get at the host's network.
func TestProgramStaysInside(t *testing.T) {
	if !asNobody(t) {
		return
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	p := started(t)
	p.fails("connection refused", "dial tcp %v", listener.Addr())
	us, helper := os.Getpid(), p.ask("look").PPID
	for _, pid := range []int{us, helper} {
		p.fails("permission denied", "open /proc/%d/fd/0", pid)
		p.fails("permission denied", "open /proc/%d/ns/net", pid)
		p.fails("permission denied", "open /proc/%d/mem", pid)
	}
	p.fails("operation not permitted", "unmount /etc/resolv.conf")
	p.fails("read-only file system", "write /etc/resolv.conf")
}

// echoes sends each UDP datagram that comes out of a device back into it, until that is
// closed. To change the ends round leaves the checksums as they are.
func echoes(device tun.Device) {
	q := device.Queues()[0]
	frames := make([]tun.Frame, q.Batch())
	for {
		n, err := q.Read(frames)
		if err != nil {
			return
		}
		for _, f := range frames[:n] {
			b := f.Pieces[0]
			from, to, ports := 12, 16, 20
			switch {
			case b[0]>>4 == 4 && b[9] == unix.IPPROTO_UDP:
			case b[0]>>4 == 6 && b[6] == unix.IPPROTO_UDP:
				from, to, ports = 8, 24, 40
			default:
				continue
			}
			src, dst := slices.Clone(b[from:to]), slices.Clone(b[to:to+to-from])
			copy(b[from:], dst)
			copy(b[to:], src)
			port := binary.BigEndian.Uint16(b[ports:])
			copy(b[ports:], b[ports+2:ports+4])
			binary.BigEndian.PutUint16(b[ports+2:], port)
			if _, err := q.Write([]tun.Frame{f}); err != nil {
				return
			}
		}
	}
}

func TestPacketsGoThroughTheDevice(t *testing.T) {
	if !asNobody(t) {
		return
	}
	p := started(t)
	echoed := make(chan struct{})
	go func() {
		defer close(echoed)
		echoes(p.Device())
	}()
	for _, to := range []string{"192.0.2.1:7", "[2001:db8::1]:7"} {
		if r := p.ask("echo %s hello", to); r.Answer != "hello" {
			t.Errorf("%s: %q, %s", to, r.Answer, r.Error)
		}
	}
	if err := p.Device().SetMTU(1300); err != nil {
		t.Error(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	<-echoed
}

func TestNetworkChangesUnderTheProgram(t *testing.T) {
	if !asNobody(t) {
		return
	}
	p := open(t)
	if err := p.Set(enclave.Network{}); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	p.fails("network is unreachable", "dial udp 192.0.2.1:7")
	if r := p.ask("look"); strings.Contains(r.ResolvConf, "nameserver") || !strings.Contains(r.ResolvConf, "gave no resolver") || len(r.Addresses) != 0 {
		t.Errorf("without any: %q, %v", r.ResolvConf, r.Addresses)
	}
	for _, n := range []struct {
		addresses, resolvers []string
		want, routes         string
	}{
		{[]string{"10.77.0.2"}, []string{"10.77.0.53", "10.77.0.54", "fd77::53", "10.77.0.55"}, "[10.77.0.2/32]", "[0.0.0.0/0]"},
		{[]string{"10.77.0.2", "10.77.0.3", "fd77::3"}, []string{"10.77.0.9"}, "[10.77.0.2/32 10.77.0.3/32 fd77::3/128]", "[0.0.0.0/0 ::/0 fd77::3/128]"},
		{[]string{"fd77::3"}, nil, "[fd77::3/128]", "[::/0 fd77::3/128]"},
		{[]string{"10.78.0.1"}, []string{"10.77.0.9"}, "[10.78.0.1/32]", "[0.0.0.0/0]"},
	} {
		for range 2 { // the second time nothing changes
			if err := p.Set(enclave.Network{Addresses: addrs(n.addresses...), Resolvers: addrs(n.resolvers...)}); err != nil {
				t.Fatal(err)
			}
			r := p.ask("look")
			if fmt.Sprint(r.Addresses) != n.want || fmt.Sprint(r.Routes) != n.routes {
				t.Errorf("addresses %v, routes %v; want %s, %s", r.Addresses, r.Routes, n.want, n.routes)
			}
			var servers []string
			for _, m := range regexp.MustCompile(`(?m)^nameserver (.*)$`).FindAllStringSubmatch(r.ResolvConf, -1) {
				servers = append(servers, m[1])
			}
			if want := n.resolvers[:min(3, len(n.resolvers))]; !slices.Equal(servers, want) {
				t.Errorf("resolvers %v, want %v", servers, want)
			}
		}
	}
	p.fails("network is unreachable", "dial udp [2001:db8::1]:7")
}

func TestExitStatus(t *testing.T) {
	if !asNobody(t) {
		return
	}
	p := started(t)
	fmt.Fprintln(p.in, "exit 1234567")
	if status, err := p.Wait(); status != 7 || err != nil {
		t.Errorf("status %d, %v; want 7", status, err)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("a signal to what has ended: %v", err)
	}
	p.set("10.77.0.9") // the enclave is still there
	if err := p.Start(); err == nil {
		t.Error("a program was started twice")
	}

	p = started(t)
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if status, err := p.Wait(); status != 128+int(syscall.SIGTERM) || err != nil {
		t.Errorf("status %d, %v", status, err)
	}

	_, err := enclave.Open(enclave.Options{Device: "tunnel", MTU: 1400, Queues: 1, Args: []string{"no such program"}})
	if !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("no such program: %v", err)
	}
	file := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = enclave.Open(enclave.Options{Device: "tunnel", MTU: 1400, Queues: 1, Args: []string{file}}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("no program: %v", err)
	}
	if err := os.Chmod(file, 0o700); err != nil { //nolint:gosec // it shall be a program
		t.Fatal(err)
	}
	e, err := enclave.Open(enclave.Options{Device: "tunnel", MTU: 1400, Queues: 1, Args: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); !errors.Is(err, syscall.ENOEXEC) {
		t.Errorf("no program by its content: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

func TestCloseEndsTheProgram(t *testing.T) {
	if !asNobody(t) {
		return
	}
	for order, want := range map[string]int{"linger": 3, "resist": 128 + int(syscall.SIGKILL)} {
		p := started(t)
		p.ask("%s", order)
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if status, err := p.Wait(); status != want || err != nil {
			t.Errorf("%s: status %d, %v; want %d", order, status, err, want)
		}
		if err := p.Set(enclave.Network{}); err == nil {
			t.Error("took an order after Close")
		}
	}
}

// Whoever dies takes the program along.
func TestProgramEndsWithWhoRunsIt(t *testing.T) {
	if !asNobody(t) {
		return
	}
	open(t) // or skip

	stdin, in := pipe(t)
	out, stdout := pipe(t)
	owner := exec.CommandContext(t.Context(), os.Args[0])
	owner.Env, owner.Stdin, owner.Stdout, owner.Stderr = role("owner"), stdin, stdout, os.Stderr
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	stdin.Close()
	stdout.Close()
	reader := bufio.NewReader(out)
	fmt.Fprintln(in, "linger")
	if line, err := reader.ReadString('\n'); err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait() // it was killed
	// The end of the file comes when nobody has it open any more: neither helper nor program.
	if rest, err := io.ReadAll(reader); string(rest) != "terminated\n" || err != nil {
		t.Errorf("after the owner was killed: %q, %v", rest, err)
	}

	p := started(t)
	helper := p.ask("look").PPID
	p.ask("resist")
	if err := syscall.Kill(helper, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err == nil {
		t.Error("the end of a killed helper's program is no error")
	}
	if rest, err := io.ReadAll(p.out); len(rest) > 0 || err != nil {
		t.Errorf("after the helper was killed: %q, %v", rest, err)
	}
	if err := p.Close(); err == nil {
		t.Error("nothing was wrong with a killed helper")
	}
}

func TestNetworkSocketIsNoStandardStream(t *testing.T) {
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	file, err := socket.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	_, err = enclave.Open(enclave.Options{Device: "tunnel", MTU: 1400, Queues: 1, Args: []string{"true"}, Stdout: file})
	if e, ok := errors.AsType[*enclave.Error](err); !ok || !strings.Contains(e.Why, "standard output") {
		t.Errorf("got %v", err)
	}
}

// A system that forbids user namespaces says so by an error that tells what to do. It is one
// inside of a namespace that the test makes.
func TestRefusal(t *testing.T) {
	if !asNobody(t) {
		return
	}
	open(t) // or skip
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = role("forbidden")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "make user, network and mount namespaces | user.max_user_namespaces is 0 here") {
		t.Errorf("%v: %s", err, out)
	}
}

// Other hosts: what lies behind /etc/resolv.conf and /dev/net/tun differs.
func TestOtherHosts(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to make mounts")
	}
	for where, want := range map[string]struct {
		resolver bool
		says     string // of errors and limits; empty is none
	}{
		"":                 {true, ""},
		"systemd-resolved": {true, ""},
		"no resolv.conf":   {false, "names have no resolver"},
		"tun of root":      {false, "chmod 0666"},
		"no tun":           {false, "modprobe tun"},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(role("elsewhere"), whereVariable+"="+where)
		cmd.Stdin = strings.NewReader("look\n")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		text := string(out)
		if strings.HasPrefix(text, "make user") {
			t.Skip(text)
		}
		if err != nil || !strings.Contains(text, want.says) || want.says == "" && !strings.HasPrefix(text, "{") {
			t.Errorf("%q: %v\n%s", where, err, text)
		}
		if strings.Contains(text, "nameserver 10.77.0.53") != want.resolver || strings.Contains(text, "/socket") || strings.Contains(text, "127.0.0.53") {
			t.Errorf("%q: the resolvers or the sockets of this host are seen:\n%s", where, text)
		}
	}
}

func TestErrorIsTyped(t *testing.T) {
	e := &enclave.Error{Step: "x", Err: fs.ErrPermission}
	if !errors.Is(e, fs.ErrPermission) || !reflect.DeepEqual(e.Error(), "enclave: x: permission denied") {
		t.Error(e)
	}
}
