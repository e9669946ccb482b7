package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// swan is a charon of strongSwan with its own ESP in user space, a private /run and a
// control socket of its own.
type swan struct {
	ns   *namespace
	proc *process
}

// swanPlugins: kernel-libipsec stands before kernel-netlink, bypass-lan is absent.
const swanPlugins = "aes sha1 sha2 random nonce x509 revocation constraints pubkey pkcs1 pkcs8 pem openssl gcm hmac kdf " +
	"drbg curve25519 chapoly kernel-libipsec kernel-netlink socket-default vici updown resolve"

// swanSettings are what a scenario may change in strongswan.conf.
type swanSettings struct {
	fragment int    // octets; 0 is charon's default
	plugins  string // more of them
	conf     string // of plug-ins
	lines    string // more of the section charon
}

// startSwan starts charon with the certificates of a kind ("" for none) and a swanctl.conf.
func startSwan(ns *namespace, settings swanSettings, kind, swanctl string) *swan {
	ns.t.Helper()
	fragment := ""
	if settings.fragment > 0 {
		fragment = fmt.Sprintf("fragment_size = %d", settings.fragment)
	}
	conf := ns.write("strongswan.conf", fmt.Sprintf(`
charon {
	load_modular = no
	load = %s
	%s
	%s
	retransmit_timeout = 1.0
	retransmit_tries = 4
	plugins {
		kernel-libipsec { allow_peer_ts = yes }
		vici { socket = unix://%s/vici.sock }
		resolve { file = %s/resolv.conf }
		%s
	}
	filelog { l { path = %s/charon.log
		default = 1
		enc = 1
		flush_line = yes } }
}
`, swanPlugins+" "+settings.plugins, fragment, settings.lines, ns.dir, ns.dir, settings.conf, ns.dir))
	ns.write("swanctl.conf", swanctl)
	ns.write("charon.log", "")
	if kind != "" {
		for from, to := range map[string]string{
			shared.pki.ca():               "x509ca/ca.pem",
			shared.pki.cert(kind, swanID): "x509/swan.pem",
			shared.pki.key(kind, swanID):  "private/swan.pem",
		} {
			ns.write(to, readFile(ns.t, from))
		}
	}
	s := &swan{ns: ns}
	// Until it is told of its connections it refuses everybody, and who comes early gives up.
	ns.nft("table inet unready { chain i { type filter hook input priority 0; udp dport { 500, 4500 } drop; }; }")
	s.proc = ns.spawn("charon", []string{"STRONGSWAN_CONF=" + conf},
		"unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /run && exec "+charon)
	until(ns.t, "charon's control socket", func() bool {
		if s.proc.ended() {
			ns.t.Fatalf("charon ended: %s\n%s", s.proc.out.String(), s.log())
		}
		_, err := os.Stat(filepath.Join(ns.dir, "vici.sock"))
		return err == nil
	})
	ns.t.Cleanup(func() {
		if ns.t.Failed() {
			ns.t.Logf("charon in %s:\n%s", ns.name, tail(s.log(), 120))
		}
	})
	if out, err := s.ctl("--load-all", "--file", filepath.Join(ns.dir, "swanctl.conf")); err != nil || !strings.Contains(out, "successfully loaded") {
		ns.t.Fatalf("swanctl --load-all: %v\n%s", err, out)
	}
	ns.run("nft", "delete", "table", "inet", "unready")
	return s
}

// ctl runs swanctl.
func (s *swan) ctl(args ...string) (string, error) {
	args = append([]string{"env", "SWANCTL_DIR=" + s.ns.dir, "swanctl"}, args...)
	return s.ns.try(append(args, "--uri", "unix://"+s.ns.dir+"/vici.sock")...)
}

// initiate opens the child, and returns what swanctl said and whether it came up.
func (s *swan) initiate(child string) (string, error) {
	return s.ctl("--initiate", "--child", child, "--timeout", "40")
}

func (s *swan) log() string {
	b, err := os.ReadFile(filepath.Join(s.ns.dir, "charon.log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// sas is charon's list of SAs.
func (s *swan) sas() string {
	out, err := s.ctl("--list-sas")
	if err != nil {
		s.ns.t.Errorf("swanctl --list-sas: %v\n%s", err, out)
	}
	return out
}
