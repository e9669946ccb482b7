package dns

import (
	"os"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// startSystemBus starts a D-Bus as the system's, with the policies of the packages that are there.
func startSystemBus(t *testing.T) *dbus.Conn {
	t.Helper()
	if err := os.MkdirAll("/run/dbus", 0o755); err != nil {
		t.Fatal(err)
	}
	var conn *dbus.Conn
	start(t, func() (ready bool) {
		var err error
		conn, err = dbus.ConnectSystemBus()
		return err == nil
	}, "dbus-daemon", "--system", "--nofork", "--nopidfile", "--nosyslog")
	t.Cleanup(func() { _ = conn.Close() }) // the bus ends with the process
	return conn
}

// startRealResolved starts systemd-resolved, which knows no resolvers yet.
func startRealResolved(t *testing.T, conn *dbus.Conn) *daemon {
	t.Helper()
	if err := os.MkdirAll("/run/systemd", 0o755); err != nil {
		t.Fatal(err)
	}
	return start(t, func() bool { return running(conn, resolvedName) }, "/usr/lib/systemd/systemd-resolved")
}

// resolvedSays is what systemd-resolved has of a link.
func resolvedSays(t *testing.T, what, link string) string {
	t.Helper()
	_, says, _ := strings.Cut(execute(t, "", "resolvectl", "--no-pager", what, link), link+"):")
	return what + ": " + strings.TrimSpace(says) + "\n"
}

// resolvedState is what it has of the tunnel.
func resolvedState(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, what := range []string{"dns", "domain", "default-route", "llmnr", "mdns", "dnsovertls"} {
		b.WriteString(resolvedSays(t, what, tunnelLink))
	}
	return b.String()
}

const (
	resolvedAll = `dns: 10.1.0.53 fd00:1::53
domain: corp.example ~.
default-route: yes
llmnr: no
mdns: no
dnsovertls: no
`
	resolvedSplit = `dns: 10.1.0.53 fd00:1::53
domain: corp.example eu.corp.example ~lab.example
default-route: no
llmnr: no
mdns: no
dnsovertls: no
`
)

func TestRealResolved(t *testing.T) {
	inRoot(t, []string{"dbus", "systemd-resolved", "libnss-resolve"}, func(t *testing.T) {
		networkUp(t)
		tunnelUp(t)
		conn := startSystemBus(t)
		resolved := startRealResolved(t, conn)
		execute(t, "", "resolvectl", "dns", networkLink, "192.0.2.53")
		owner := realOwner{manner: mannerResolved, splits: true, state: resolvedState, all: resolvedAll, split: resolvedSplit}

		linkTo(t, "../run/systemd/resolve/stub-resolv.conf")
		for _, test := range []struct{ name, conf, hosts string }{
			{"asked by its address", "stub-resolv.conf", "files dns"},
			{"asked by nsswitch.conf", "resolv.conf", "files resolve [!UNAVAIL=return] dns"},
		} {
			t.Run(test.name, func(t *testing.T) {
				linkTo(t, "../run/systemd/resolve/"+test.conf)
				put(t, "/etc/nsswitch.conf", "passwd: files\nhosts: "+test.hosts+"\n")
				owner.try(t)
			})
		}

		linkTo(t, "../run/systemd/resolve/stub-resolv.conf")
		put(t, "/etc/nsswitch.conf", "passwd: files\nhosts: files dns\n")
		t.Run("another link has a domain", func(t *testing.T) {
			execute(t, "", "resolvectl", "domain", networkLink, "~lan")
			const warning = "names in some domains do not go to the resolvers of the tunnel"
			p := owner.setter(t)
			p.set(ofTunnel(split()))
			if strings.Contains(p.said(), warning) {
				t.Error("a person is told of domains of others, and not all names were to go into the tunnel")
			}
			p.set(ofTunnel(everything()))
			if !strings.Contains(p.said(), warning) {
				t.Errorf("a person is not told of domains of others:\n%s", p.said())
			}
			wantAddresses(t, "all names", map[string]string{"www.example.org": inside, "printer.lan": outside})
			p.close()
			execute(t, "", "resolvectl", "domain", networkLink, "")
		})
		t.Run("started again", func(t *testing.T) {
			before := resolvedState(t)
			p := owner.setter(t)
			p.set(ofTunnel(split()))
			resolved.kill(t)
			startRealResolved(t, conn)
			execute(t, "", "resolvectl", "dns", networkLink, "192.0.2.53")
			until(func() bool { return resolvedState(t) == resolvedSplit })
			owner.wantSplit(t, "started again", p)
			p.kill()
			owner.recover(t, before)
		})
	})
}
