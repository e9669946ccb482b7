package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const radiusSecret = "a secret of RADIUS servers"

// freeradius is FreeRADIUS in a namespace, with a configuration of its own.
type freeradius struct {
	ns   *namespace
	proc *process
}

// startRADIUS starts FreeRADIUS for a client at an address. Users are lines of its file
// "users"; tls is the newest version of TLS.
func startRADIUS(ns *namespace, client, users, tls string) *freeradius {
	ns.t.Helper()
	if _, err := exec.LookPath("freeradius"); err != nil {
		ns.t.Skip("needs freeradius (Debian: freeradius)")
	}
	dir := filepath.Join(ns.dir, "raddb")
	ns.write("raddb/users", users)
	ns.write("raddb/dictionary", "$INCLUDE /usr/share/freeradius/dictionary\n")
	ns.write("raddb/radiusd.conf", fmt.Sprintf(`
prefix = /usr
libdir = /usr/lib/freeradius
raddbdir = %[1]s
db_dir = %[1]s
run_dir = %[1]s
logdir = %[1]s
pidfile = %[1]s/freeradius.pid
max_request_time = 10
cleanup_delay = 5
max_requests = 1024
hostname_lookups = no
log {
	destination = stdout
	auth = yes
}
security {
	max_attributes = 200
	reject_delay = 0
	status_server = no
}
proxy_requests = no
client gateway {
	ipaddr = %[2]s
	secret = "%[3]s"
	require_message_authenticator = yes
}
thread pool {
	start_servers = 1
	max_servers = 4
	min_spare_servers = 1
	max_spare_servers = 4
	max_requests_per_server = 0
}
modules {
	files {
		filename = %[1]s/users
	}
	pap {
	}
	mschap {
	}
	detail {
		filename = %[1]s/detail
		permissions = 0600
	}
	eap {
		default_eap_type = md5
		timer_expire = 60
		max_sessions = 1024
		tls-config main {
			private_key_file = %[4]s
			certificate_file = %[5]s
			ca_file = %[6]s
			tls_min_version = "1.2"
			tls_max_version = "%[7]s"
			ecdh_curve = ""
		}
		md5 {
		}
		gtc {
			auth_type = PAP
		}
		mschapv2 {
		}
		tls {
			tls = main
		}
		ttls {
			tls = main
			default_eap_type = mschapv2
			use_tunneled_reply = yes
			virtual_server = "inner"
		}
		peap {
			tls = main
			default_eap_type = mschapv2
			use_tunneled_reply = yes
			virtual_server = "inner"
		}
	}
}
server default {
	listen {
		type = auth
		ipaddr = *
		port = 1812
	}
	listen {
		type = acct
		ipaddr = *
		port = 1813
	}
	authorize {
		eap {
			ok = return
		}
		files
		pap
	}
	authenticate {
		Auth-Type PAP {
			pap
		}
		Auth-Type MS-CHAP {
			mschap
		}
		eap
	}
	accounting {
		detail
	}
}
server inner {
	authorize {
		mschap
		eap {
			ok = return
		}
		files
		pap
	}
	authenticate {
		Auth-Type PAP {
			pap
		}
		Auth-Type MS-CHAP {
			mschap
		}
		eap
	}
	post-auth {
		update outer.session-state {
			User-Name := "%%{User-Name}"
		}
		update reply {
			User-Name := "%%{User-Name}"
		}
	}
}
`, dir, client, radiusSecret, shared.pki.key("ecdsa", radiusID), shared.pki.cert("ecdsa", radiusID), shared.pki.ca(), tls))
	r := &freeradius{ns: ns}
	r.proc = ns.spawn("freeradius", nil, "freeradius", "-X", "-d", dir)
	r.proc.says("Ready to process requests")
	return r
}

// record waits for an accounting record of a session that has all of some texts, and
// returns it.
func (r *freeradius) record(texts ...string) string {
	r.ns.t.Helper()
	var found string
	until(r.ns.t, "an accounting record with "+strings.Join(texts, ", "), func() bool {
		b, err := os.ReadFile(filepath.Join(r.ns.dir, "raddb", "detail"))
		if err != nil {
			return false
		}
		for record := range strings.SplitSeq(string(b), "\n\n") {
			all := true
			for _, text := range texts {
				all = all && strings.Contains(record, text)
			}
			if all {
				found = record
				return true
			}
		}
		return false
	})
	return found
}

// attribute reads an attribute of a record.
func attribute(t testing.TB, record, name string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^\s*` + name + ` = "?([^"\n]*)"?$`).FindStringSubmatch(record)
	if m == nil {
		t.Fatalf("no %s in\n%s", name, record)
	}
	return m[1]
}

// radclient sends a packet of some attributes and returns what it says.
func (r *freeradius) radclient(to, kind, attributes string) string {
	r.ns.t.Helper()
	path := r.ns.write("packet", attributes)
	out, _ := r.ns.try("radclient", "-x", "-t", "2", "-r", "1", "-f", path, to, kind, radiusSecret) // it fails on a NAK
	return out
}
