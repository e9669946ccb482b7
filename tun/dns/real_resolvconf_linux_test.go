package dns

import (
	"os"
	"testing"
)

// Debian's resolvconf leaves the resolvers of the network behind ours: those are asked when ours
// do not answer, and a person is told.
func TestRealDebianResolvconf(t *testing.T) {
	inRoot(t, []string{"resolvconf"}, func(t *testing.T) {
		networkUp(t)
		tunnelUp(t)
		if err := os.MkdirAll("/run/resolvconf/interface", 0o755); err != nil {
			t.Fatal(err)
		}
		linkTo(t, "../run/resolvconf/resolv.conf")
		execute(t, "", "resolvconf", "--enable-updates")
		execute(t, "nameserver 192.0.2.53\nsearch lan\n", "resolvconf", "-a", networkLink+".dhclient")
		realOwner{
			manner: mannerDebian,
			state:  resolvConfLines,
			all:    "nameserver 10.1.0.53\nnameserver fd00:1::53\nnameserver 192.0.2.53\nsearch corp.example lan\n",
			split:  "nameserver 10.1.0.53\nnameserver fd00:1::53\nnameserver 192.0.2.53\nsearch corp.example eu.corp.example lan\n",
			warns:  "other servers than its own are asked as well",
		}.try(t)
		wantLinkTo(t, "../run/resolvconf/resolv.conf")
	})
}

func TestRealOpenresolv(t *testing.T) {
	inRoot(t, []string{"openresolv"}, func(t *testing.T) {
		networkUp(t)
		tunnelUp(t)
		execute(t, "nameserver 192.0.2.53\nsearch lan\n", "resolvconf", "-a", networkLink+".dhclient")
		realOwner{
			manner: mannerOpenresolv,
			state:  resolvConfLines,
			all:    "search corp.example\nnameserver 10.1.0.53\nnameserver fd00:1::53\n",
			split:  "search corp.example eu.corp.example\nnameserver 10.1.0.53\nnameserver fd00:1::53\n",
		}.try(t)
	})
}

// Before dnsmasq, openresolv can have only some names asked of the tunnel.
func TestRealOpenresolvBeforeDnsmasq(t *testing.T) {
	inRoot(t, []string{"openresolv", "dnsmasq-base"}, func(t *testing.T) {
		networkUp(t)
		tunnelUp(t)
		const folder = "/run/dnsmasq"
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		// dnsmasq reads its configuration when it starts, and there is no systemd to start it anew.
		put(t, "/etc/resolvconf.conf", `name_servers=127.0.0.1
dnsmasq_conf=/run/dnsmasq/servers.conf
dnsmasq_resolv=/run/dnsmasq/resolv.conf
dnsmasq_restart='/usr/local/sbin/restart-dnsmasq'
`)
		const restart = `#!/bin/sh
[ ! -e /run/dnsmasq/pid ] || kill $(cat /run/dnsmasq/pid)
until dnsmasq --conf-file=/run/dnsmasq/servers.conf --resolv-file=/run/dnsmasq/resolv.conf --pid-file=/run/dnsmasq/pid \
	--listen-address=127.0.0.1 --bind-interfaces --user=root
do :; done # the address is free when the one before has ended
`
		if err := os.WriteFile("/usr/local/sbin/restart-dnsmasq", []byte(restart), 0o755); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
		execute(t, "nameserver 192.0.2.53\nsearch lan\n", "resolvconf", "-a", networkLink+".dhclient")
		state := func(t *testing.T) string {
			t.Helper()
			return resolvConfLines(t) + "resolv.conf of dnsmasq:\n" + lines(get(t, folder+"/resolv.conf")) + "its servers:\n" + lines(get(t, folder+"/servers.conf"))
		}
		realOwner{
			manner: mannerLocal,
			splits: true,
			state:  state,
			all: `search corp.example
nameserver 127.0.0.1
resolv.conf of dnsmasq:
nameserver 10.1.0.53
nameserver fd00:1::53
its servers:
server=/corp.example/10.1.0.53
server=/corp.example/fd00:1::53
`,
			split: `search corp.example eu.corp.example lab.example lan
nameserver 127.0.0.1
resolv.conf of dnsmasq:
nameserver 192.0.2.53
its servers:
server=/corp.example/10.1.0.53
server=/corp.example/fd00:1::53
server=/eu.corp.example/10.1.0.53
server=/eu.corp.example/fd00:1::53
server=/lab.example/10.1.0.53
server=/lab.example/fd00:1::53
server=/lan/192.0.2.53
`,
		}.try(t)
	})
}
