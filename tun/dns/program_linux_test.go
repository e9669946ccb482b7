package dns

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
)

// withResolvconf puts a resolvconf into PATH that records how it is called and what it reads. What
// it says to --version, and how it ends, is given; so is what it makes of /etc/resolv.conf.
func withResolvconf(t *testing.T, version string, makes string) (s *unixSystem, log func() string, calls string) {
	t.Helper()
	logger, text := logs()
	s, path := etc(t, logger)
	bin := os.Getenv("PATH")
	calls = filepath.Join(t.TempDir(), "calls")
	script := `#!/bin/sh
case "$*" in
--version) ` + version + ` ;;
esac
{ echo "resolvconf $*"; /bin/cat; } >>'` + calls + `'
case "$*" in
*-a*) printf '` + makes + `' >'` + path + `' ;;
esac
`
	if err := os.WriteFile(filepath.Join(bin, "resolvconf"), []byte(script), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	return s, text, calls
}

const (
	saysDebian     = `echo 'resolvconf: Error: Command not recognized'; exit 99`
	saysOpenresolv = `echo 'openresolv 3.12.0'; exit 0`
)

func TestResolvconfIsCalledAsItsFlavourWants(t *testing.T) {
	for _, test := range []struct {
		name, version, conf string
		config              Config
		want                string
	}{
		{"Debian's", saysDebian, debConf, everything(), `resolvconf -a tun.lo
nameserver 10.1.0.53
nameserver fd00:1::53
search corp.example
resolvconf -d tun.lo
`},
		{"openresolv", saysOpenresolv, openConf, everything(), `resolvconf -x -a vpn.lo
nameserver 10.1.0.53
nameserver fd00:1::53
search corp.example
resolvconf -f -d vpn.lo
`},
		{"openresolv without a local resolver does not split", saysOpenresolv, openConf, split(), `resolvconf -x -a vpn.lo
nameserver 10.1.0.53
nameserver fd00:1::53
search corp.example eu.corp.example
resolvconf -f -d vpn.lo
`},
		{"openresolv with a local resolver splits", saysOpenresolv, openStub, split(), `resolvconf -p -a vpn.lo
nameserver 10.1.0.53
nameserver fd00:1::53
search corp.example eu.corp.example lab.example
resolvconf -f -d vpn.lo
`},
		{"openresolv with a local resolver for all names", saysOpenresolv, openStub, everything(), `resolvconf -x -a vpn.lo
nameserver 10.1.0.53
nameserver fd00:1::53
search corp.example
resolvconf -f -d vpn.lo
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, _, calls := withResolvconf(t, test.version, `nameserver 10.1.0.53\n`)
			put(t, s.path("etc/resolv.conf"), test.conf)
			if test.version == saysDebian {
				if err := os.Mkdir(s.path("etc/resolvconf"), 0o755); err != nil {
					t.Fatal(err)
				}
				put(t, s.path("etc/resolvconf/interface-order"), "lo.inet\nlo\ntun*\n*\n")
			}
			h := begin(t, s, t.TempDir(), zap.NewNop())
			set(t, h, test.config)
			end(t, h)
			if diff := cmp.Diff(test.want, get(t, calls)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRecordIsRemovedAfterKill(t *testing.T) {
	s, _, calls := withResolvconf(t, saysOpenresolv, `nameserver 10.1.0.53\n`)
	put(t, s.path("etc/resolv.conf"), openConf)
	state := t.TempDir()
	h := begin(t, s, state, zap.NewNop())
	set(t, h, everything())
	if err := h.note.release(); err != nil {
		t.Fatal(err)
	}
	h.manner, h.note = nil, nil
	for range 2 { // the second finds nothing
		if err := recoverAll(s, state, zap.NewNop()); err != nil {
			t.Fatal(err)
		}
	}
	if got := get(t, calls); strings.Count(got, "resolvconf -f -d vpn.lo\n") != 1 {
		t.Error(got)
	}
}

// Debian's resolvconf leaves the servers of the network behind ours.
func TestOtherServersBesideOursAreToldOf(t *testing.T) {
	for makes, want := range map[string]bool{
		`nameserver 10.1.0.53\nnameserver 192.168.1.1\n`: true,
		`nameserver 192.168.1.1\n`:                       true,
		`nameserver 10.1.0.53\nnameserver fd00:1::53\n`:  false,
		`nameserver 127.0.0.1\n`:                         false, // dnsmasq, which has been told
	} {
		s, text, _ := withResolvconf(t, saysDebian, makes)
		put(t, s.path("etc/resolv.conf"), debConf)
		h := begin(t, s, "", s.log)
		set(t, h, everything())
		if got := strings.Contains(text(), "warn names may leave the tunnel"); got != want {
			t.Errorf("%s: %v", makes, got)
		}
	}
}

func TestFailedProgramIsExplained(t *testing.T) {
	t.Setenv("PATH", t.TempDir()+":"+os.Getenv("PATH"))
	bin := strings.Split(os.Getenv("PATH"), ":")[0]
	if err := os.WriteFile(filepath.Join(bin, "resolvconf"), []byte("#!/bin/sh\necho 'permission denied: /run/resolvconf'\nexit 1\n"), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	err := run(openresolvAdd(everything(), "lo", false))
	const want = "dns: resolvconf -x -a lo: exit status 1: permission denied: /run/resolvconf; the command does the same by hand, as root"
	if err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
}

func TestProposalsToResolvd(t *testing.T) {
	if diff := cmp.Diff([]string{"route", "nameserver", "lo", "10.1.0.53", "fd00:1::53"}, resolvdAdd(everything()).Args); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"route", "nameserver", "lo"}, resolvdRemove("lo").Args); diff != "" {
		t.Error(diff)
	}
}
