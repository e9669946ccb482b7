package config

import (
	"fmt"
	"reflect"
	"slices"
	"sync"

	"martlet/crypto/suite"
)

// unknown notes a key that no field has, with the one that was probably meant.
func (f *faults) unknown(t reflect.Type, at position, path, key string) {
	meant, hint := suggest(t, path, key)
	f.addAt(at, join(path, key), "unknown key", hint)
	if meant != "" {
		f.spoilt[join(path, meant)] = true
	}
}

// suggest says what a key in a table of type t should have been, and which key of the
// same table that is.
func suggest(t reflect.Type, path, key string) (meant, hint string) {
	keys := keysOf(t)
	if renamed, ok := foreign()[key]; ok {
		if slices.Contains(keys, renamed.key) {
			return renamed.key, fmt.Sprintf("it is called %s here", renamed.key)
		}
		return "", renamed.say
	}
	if best, least := nearest(key, keys); least <= 1+len(key)/4 {
		return best, fmt.Sprintf("did you mean %s?", best)
	}
	if where := tableOf(key); where != "" {
		return "", fmt.Sprintf("%s belongs in %s", key, where)
	}
	if path == "" {
		return "", "the tables are [node], [connection.NAME], [pool.NAME], [user.NAME], [radius], [proxy.NAME], [forward.NAME], [dns] and [userspace]"
	}
	return "", "`martlet config reference` lists the keys"
}

// foreign are keys as other programs call them: strongSwan's swanctl.conf above all.
var foreign = sync.OnceValue(func() map[string]struct{ key, say string } {
	return map[string]struct{ key, say string }{
		"remote_addrs":  {"remote", "that is remote in [connection.NAME]"},
		"remote_port":   {"port", "that is port in [connection.NAME]"},
		"vips":          {"request", `that is request = ["ipv4", "ipv6"] in [connection.NAME]`},
		"pools":         {"pool", "that is pool in [connection.NAME]"},
		"addrs":         {"addresses", "that is addresses in [pool.NAME]"},
		"dpd_delay":     {"liveness", "that is liveness in [connection.NAME]"},
		"local_ts":      {"local", "that is local in [connection.NAME.child.NAME]"},
		"remote_ts":     {"remote", "that is remote in [connection.NAME.child.NAME]"},
		"esp_proposals": {"proposals", "that is proposals in [connection.NAME.child.NAME]"},
		"children":      {"child", "that is [connection.NAME.child.NAME]"},
		"certs":         {"cert", "that is cert in [connection.NAME.local]"},
		"cacerts":       {"ca", "that is ca in [connection.NAME.peer]"},
		"eap_identity":  {"eap_id", "that is user in [connection.NAME.local]"},
		"aaa_id":        {"eap_server", "that is eap_server in [connection.NAME.local]"},
		"ppk_id":        {"ppk", "that is the NAME of [connection.NAME.ppk.NAME]"},
		"psk":           {"secret", "that is secret in [connection.NAME.local]"},
		"connections":   {"connection", "the table is [connection.NAME]"},
		"version":       {"", "leave it out: only IKEv2 is spoken"},
		"encap":         {"", "leave it out: ESP is always in UDP"},
		"fragmentation": {"", "leave it out, or set fragment_size in [connection.NAME]"},
		"secrets":       {"", "a secret stands in [connection.NAME.local], as secret"},
		"keylog":        {"key_log", "that is key_log in [node]"},
		"username":      {"user", "that is user in [connection.NAME.local] or [proxy.NAME]"},
		"socks5":        {"proxy", "the table is [proxy.NAME]"},
		"http_proxy":    {"proxy", "the table is [proxy.NAME]"},
		"port_forward":  {"forward", "the table is [forward.NAME]"},
		"local_forward": {"forward", "that is local in [forward.NAME]"},
		"nameservers":   {"tunnel_servers", "that is tunnel_servers in [dns], or dns in [connection.NAME]"},
		"split_dns":     {"tunnel", "that is tunnel in [dns], or domains in [connection.NAME]"},
		"metrics":       {"monitor", "that is monitor in [node]"},
	}
})

// tableOf names the table that has a key, as a header; empty if none has.
func tableOf(key string) string {
	for _, t := range tables() {
		if slices.Contains(keysOf(t.typ), key) {
			return "[" + t.headers[0] + "]"
		}
	}
	return ""
}

// section is a table of the file: its headers, the type that it fills and the fields
// of which it is the value.
type section struct {
	headers []string
	typ     reflect.Type
	fields  []string
}

// tables returns the tables of a file in the order of the reference.
func tables() []section {
	return []section{
		{[]string{"node"}, typeOf[Node](), []string{"Config.Node"}},
		{[]string{"connection.NAME"}, typeOf[Connection](), []string{"Config.Connections"}},
		{[]string{"connection.NAME.local", "connection.NAME.peer", "connection.NAME.local2", "connection.NAME.peer2"}, typeOf[Auth](), []string{"Connection.Local", "Connection.Peer", "Connection.Local2", "Connection.Peer2"}},
		{[]string{"connection.NAME.child.NAME"}, typeOf[Child](), []string{"Connection.Children"}},
		{[]string{"connection.NAME.ppk.NAME"}, typeOf[PPK](), []string{"Connection.PPKs"}},
		{[]string{"pool.NAME"}, typeOf[Pool](), []string{"Config.Pools"}},
		{[]string{"user.NAME"}, typeOf[User](), []string{"Config.Users"}},
		{[]string{"radius"}, typeOf[RADIUS](), []string{"Config.RADIUS"}},
		{[]string{"radius.server.NAME"}, typeOf[RADIUSServer](), []string{"RADIUS.Servers"}},
		{[]string{"proxy.NAME"}, typeOf[Proxy](), []string{"Config.Proxies"}},
		{[]string{"forward.NAME"}, typeOf[Forward](), []string{"Config.Forwards"}},
		{[]string{"dns"}, typeOf[DNS](), []string{"Config.DNS"}},
		{[]string{"userspace"}, typeOf[Userspace](), []string{"Config.Userspace"}},
	}
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for _, f := range reflect.VisibleFields(t) {
		if key := f.Tag.Get("toml"); key != "" && key != "-" {
			keys = append(keys, key)
		}
	}
	return keys
}

// nearest returns the word with the fewest changed letters, and how many they are;
// the number is large if there are no words.
func nearest(word string, words []string) (best string, least int) {
	const most = 40 // longer words are not compared: keys are short
	least = most
	if len(word) >= most {
		return "", least
	}
	for _, w := range words {
		if n := suite.Distance(word, w, least); n < least {
			best, least = w, n
		}
	}
	return best, least
}
