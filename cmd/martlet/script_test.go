package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"martlet/crypto/pki"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"martlet": main})
}

// TestScripts runs the transcripts in testdata/script. Beside testscript's own commands they
// have:
//
//	exits STATUS COMMAND...   runs a command and wants an exit status
//	certificates              makes ca.pem, and gateway and alice .pem and .key
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
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

func certificates(ts *testscript.TestScript, _ bool, _ []string) {
	now := time.Now()
	ca, err := pki.NewAuthority("Test CA", now, 0, pki.ECDSAP256)
	ts.Check(err)
	write := func(name string, data []byte) { ts.Check(os.WriteFile(ts.MkAbs(name), data, 0o600)) }
	write("ca.pem", pki.EncodeCertificate(ca.Cert))
	for name, req := range map[string]pki.Request{
		"gateway": {DNSNames: []string{"vpn.example.com"}},
		"alice":   {Emails: []string{"alice@example.com"}},
	} {
		req.Now, req.Key = now, pki.ECDSAP256
		cred, err := ca.Issue(req)
		ts.Check(err)
		key, err := pki.EncodePrivateKey(cred.Key)
		ts.Check(err)
		write(name+".pem", pki.EncodeCertificate(cred.Cert))
		write(name+".key", key)
	}
}
