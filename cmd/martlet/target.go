package main

import (
	"os"
	"strconv"
	"strings"
)

// target is a gateway that is named on the command line in place of a configuration, as in
// alice@vpn.example.com.
type target struct {
	user string // empty: a person is asked
	host string
}

// parseTarget reads USER@HOST, or HOST where no file could name a connection. Names of users may
// have an @ themselves.
func parseTarget(word, file string) (target, bool) {
	at := strings.LastIndexByte(word, '@')
	host := strings.TrimSuffix(strings.TrimPrefix(word[at+1:], "["), "]")
	named := file != "" || os.Getenv("MARTLET_CONFIG") != ""
	if host == "" || at == 0 || named || at < 0 && !strings.ContainsAny(host, ".:") {
		return target{}, false
	}
	return target{user: word[:max(at, 0)], host: host}, true
}

// connection is what the connection is called.
func (t target) connection() string {
	if strings.Contains(t.host, ":") {
		return "gateway"
	}
	return t.host
}

// settings are the keys of a road warrior's connection: the gateway proves its name by a
// certificate of an authority that this system trusts, we log in by a name and a password, and all
// traffic goes through the tunnel.
func (t target) settings(passwordFile string) []setting {
	table := "connection." + t.connection()
	if strings.Contains(t.connection(), ".") {
		table = "connection." + strconv.Quote(t.connection())
	}
	out := []setting{
		{t.host, table + ".remote", t.host},
		{t.host, table + ".request", "ipv4,ipv6"},
		{t.host, table + ".local.auth", "eap"},
		{t.host, table + ".peer.auth", "cert"},
		{t.host, table + ".peer.ca", "system"},
	}
	if t.user != "" {
		out = append(out, setting{t.user + "@" + t.host, table + ".local.user", t.user})
	}
	if passwordFile != "" {
		out = append(out, setting{"--password-file", table + ".local.secret", "file:" + passwordFile})
	}
	return out
}
