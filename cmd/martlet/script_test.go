package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"martlet": main, "transfers": clientOfTransfers, "probe": probe})
}

// TestScripts runs the transcripts in testdata/script, with profiles in the folder of that name. Beside testscript's own commands they
// have:
//
//	exits STATUS COMMAND...   runs a command and wants an exit status
//	either COMMAND...         runs a command; how it ends depends on this host
//	eventually COMMAND...     runs a command again and again until it does not fail
//	freeport NAME             puts a port that is free now into the variable NAME
//	notified FILE [@]         has NOTIFY_SOCKET name a socket from which all goes to FILE, a line each;
//	                          with @ its name is abstract
//	certificates              makes ca.pem, and gateway and alice .pem and .key
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("MARTLET_NODE_NO_PORTAL_CHECK", "true") // which leaves this host
			env.Setenv("MARTLET_PROFILES", filepath.Join(env.WorkDir, "profiles"))
			// The files of a script come with the mode that the umask leaves; no sample is
			// for others to read or replace.
			return filepath.WalkDir(env.WorkDir, func(path string, entry os.DirEntry, err error) error {
				if err != nil || entry.IsDir() {
					return err
				}
				return os.Chmod(path, 0o600)
			})
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":        exits,
			"either":       either,
			"eventually":   eventually,
			"freeport":     freePort,
			"notified":     notified,
			"certificates": certificates,
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		e, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = e.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

func either(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: either COMMAND...")
	}
	err := ts.Exec(args[0], args[1:]...)
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		ts.Fatalf("%v", err)
	}
}

func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: eventually COMMAND...")
	}
	tick, patience := time.NewTicker(20*time.Millisecond), time.NewTimer(time.Minute)
	defer tick.Stop()
	for {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-patience.C:
			ts.Fatalf("in a minute not once: %v", err)
		}
	}
}

func freePort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: freeport NAME")
	}
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	ts.Check(err)
	ts.Check(c.Close())
	ts.Setenv(args[0], strconv.Itoa(c.LocalAddr().(*net.UDPAddr).Port))
}

func notified(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: notified FILE [@]")
	}
	file, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	name := ts.MkAbs("notify." + strconv.FormatInt(time.Now().UnixNano(), 36))
	if len(args) > 1 {
		name = "@" + name
	}
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	ts.Check(err)
	ts.Setenv("NOTIFY_SOCKET", name)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 4096)
		for {
			n, err := socket.Read(b)
			if err != nil {
				return // it is closed
			}
			_, _ = file.Write(append(b[:n], '\n')) // what is missing is missed
		}
	}()
	ts.Defer(func() {
		_ = socket.Close()
		<-done
		_ = file.Close()
	})
}

func certificates(ts *testscript.TestScript, _ bool, _ []string) {
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, NotBefore: now, NotAfter: now.Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	caKey := issue(ts, "ca", ca, ca, nil)
	for i, leaf := range []*x509.Certificate{{DNSNames: []string{"vpn.example.com", "localhost"}}, {EmailAddresses: []string{"alice@example.com"}}} {
		leaf.SerialNumber, leaf.NotBefore, leaf.NotAfter = big.NewInt(int64(i+2)), now, now.Add(time.Hour)
		leaf.KeyUsage = x509.KeyUsageDigitalSignature
		issue(ts, []string{"gateway", "alice"}[i], leaf, ca, caKey)
	}
}

// issue makes a key and a certificate for it, signed by caKey or, if that is nil, by itself, and
// writes both.
func issue(ts *testscript.TestScript, name string, cert, ca *x509.Certificate, caKey ed25519.PrivateKey) ed25519.PrivateKey {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	ts.Check(err)
	if caKey == nil {
		caKey = key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, ca, public, caKey)
	ts.Check(err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	for file, block := range map[string]*pem.Block{
		name + ".pem": {Type: "CERTIFICATE", Bytes: der},
		name + ".key": {Type: "PRIVATE KEY", Bytes: pkcs8},
	} {
		ts.Check(os.WriteFile(ts.MkAbs(file), pem.EncodeToMemory(block), 0o600))
	}
	return key
}
