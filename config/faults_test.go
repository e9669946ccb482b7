package config

import (
	"errors"
	"strings"
	"testing"
)

// change replaces a part of siteToSite.
func change(t *testing.T, old, with string) string {
	t.Helper()
	if !strings.Contains(siteToSite, old) {
		t.Fatalf("siteToSite has no %q", old)
	}
	return strings.Replace(siteToSite, old, with, 1)
}

// TestFaults has one fault of each kind; key and a part of the text must be found, and
// nothing else said.
func TestFaults(t *testing.T) {
	const remote = `remote = ["192.0.2.2"]`
	more := func(text string) string { return siteToSite + text }
	conn := func(text string) string { return change(t, remote, remote+"\n"+text) }
	only := func(text string) string { return change(t, remote, text) }
	child := func(text string) string { return more(text) }
	for name, tt := range map[string]struct{ text, key, reason string }{
		"unknown table":           {more("[conection.x]\n"), "conection", "unknown key (hint: did you mean connection?)"},
		"misspelt request":        {strings.Replace(conn(`reqest = ["ipv4"]`), "10.2.0.0/16", "0.0.0.0/0", 1), "connection.branch.reqest", "did you mean request"},
		"unknown key":             {conn(`loval.x = 1`), "connection.branch.loval", "did you mean local"},
		"key of another table":    {conn(`log_level = "info"`), "connection.branch.log_level", "belongs in [node]"},
		"key of strongSwan":       {child(`esp_proposals = ["aes256gcm16"]`), "connection.branch.child.lan.esp_proposals", "it is called proposals here"},
		"nonsense key":            {conn(`zzzzzzzzzz = 1`), "connection.branch.zzzzzzzzzz", "config reference"},
		"key without name":        {more("[pool]\naddresses = [\"10.0.0.0/24\"]\n"), "pool.addresses", "begin with [pool.NAME]"},
		"table is a string":       {more("node = 1\n"), "connection.branch.child.lan.node", "unknown key"},
		"node is a string":        {"node = \"x\"\n" + siteToSite, "node", "expected a table, got a string"},
		"connection is a list":    {"connection = []\n", "connection", "expected tables with names"},
		"list of tables":          {siteToSite + "[[pool]]\n", "pool", "one pair of brackets"},
		"bool is a string":        {conn(`masquerade = "yes"`), "connection.branch.masquerade", "expected true or false, got a string"},
		"string is a bool":        {"[node]\ndevice = true\n", "node.device", "expected a string, got true or false (hint: put quotes around it)"},
		"string is empty":         {"[node]\ndevice = \"\"\n", "node.device", "the text is empty"},
		"list is empty":           {only(`remote = []`), "connection.branch.remote", "the list is empty"},
		"list of numbers":         {only(`remote = [1]`), "connection.branch.remote[0]", "expected a string, got an integer"},
		"number is a fraction":    {"[node]\nmtu = 1.5\n", "node.mtu", "expected an integer, got a fraction"},
		"number is a date":        {"[node]\nmtu = 2020-01-01\n", "node.mtu", "expected an integer, got a date or time"},
		"number is negative":      {"[node]\nnat_port = -1\n", "node.nat_port", "expected a number from 0 to 65535, got -1"},
		"number overflows":        {"[node]\nmtu = 99999999999999999999\n", "node.mtu", "too large"},
		"number too small":        {"[node]\nmtu = 100\n", "node.mtu", "expected 0 or 576 to 65535, got 100"},
		"replay window zero":      {child(`replay_window = 0`), "connection.branch.child.lan.replay_window", "expected 64 to 65536, got 0"},
		"fragment size":           {conn(`fragment_size = 100`), "connection.branch.fragment_size", "expected -1 or 0 or 256 to 65507"},
		"table of the system":     {"[node]\ntable = 254\n", "node.table", "expected 1 to 252"},
		"address":                 {"[node]\nlisten = [\"localhost\"]\n", "node.listen[0]", `expected an IP address, got "localhost"`},
		"address twice":           {"[node]\nlisten = [\"::1\", \"0::1\"]\n", "node.listen[1]", "listed twice"},
		"device name":             {"[node]\ndevice = \"a/b\"\n", "node.device", "no name for a device"},
		"log level":               {"[node]\nlog_level = \"chatty\"\n", "node.log_level", "unknown level"},
		"profile":                 {"[node]\nprofile = \"tiny\"\n", "node.profile", "unknown profile"},
		"ports collide":           {"[node]\nike_port = 4500\n", "node.ike_port", "as nat_port"},
		"long socket path":        {"[node]\ncontrol = \"/" + strings.Repeat("x", 120) + "\"\n", "node.control", "a socket's may have 103"},
		"duration":                {conn(`liveness = "soon"`), "connection.branch.liveness", "expected a duration"},
		"life before rekey":       {conn("rekey = \"1h\"\nlifetime = \"50m\""), "connection.branch.lifetime", "leave it out for 1h6m0s"},
		"child's life":            {child("lifetime = \"1h\""), "connection.branch.child.lan.lifetime", "is over before"},
		"negative duration":       {conn(`liveness = "-3s"`), "connection.branch.liveness", "expected a duration"},
		"post-quantum word":       {conn(`post_quantum = "yes"`), "connection.branch.post_quantum", "unknown word"},
		"legacy word":             {conn(`legacy = "windows"`), "connection.branch.legacy", "unknown word"},
		"legacy or post-quantum":  {conn("post_quantum = \"require\"\nlegacy = \"old-cloud\""), "connection.branch.legacy", "know no ML-KEM"},
		"post-quantum or not":     {conn("post_quantum = \"require\"\nproposals = [\"default\", \"aes256-sha256-x25519\"]"), "connection.branch.proposals", "can do without ML-KEM"},
		"PPK without secret":      {more("[connection.branch.ppk.k1]\n"), "connection.branch.ppk.k1.secret", "is missing"},
		"PPK demanded":            {conn(`ppk_required = true`), "connection.branch.ppk_required", "no key is configured"},
		"two PPKs to name":        {more("[connection.branch.ppk.k1]\nsecret = \"" + psk + "\"\n[connection.branch.ppk.k2]\nsecret = \"" + psk + "\"\n"), "connection.branch.ppk", "there are several keys"},
		"PPK as in strongSwan":    {conn(`ppk_id = "k1"`), "connection.branch.ppk_id", "it is called ppk here"},
		"prefix":                  {conn(`from = ["x"]`), "connection.branch.from[0]", "expected a prefix"},
		"prefix with host bits":   {conn(`from = ["192.0.2.1/24"]`), "connection.branch.from[0]", "write 192.0.2.0/24"},
		"remote is a prefix":      {only(`remote = ["192.0.2.0/24"]`), "connection.branch.remote[0]", "write it as from"},
		"remote with a port":      {only(`remote = ["vpn.example.com:4500"]`), "connection.branch.remote[0]", "write the port as port"},
		"remote address and port": {only(`remote = ["192.0.2.1:4500"]`), "connection.branch.remote[0]", "write the port as port"},
		"remote is no name":       {only(`remote = ["vpn example"]`), "connection.branch.remote[0]", "neither an address nor a host name"},
		"remote is half a number": {only(`remote = ["192.0.2"]`), "connection.branch.remote[0]", "neither an address nor a host name"},
		"remote is anybody":       {only(`remote = ["%any"]`), "connection.branch.remote[0]", "leave remote out"},
		"remote is unspecified":   {only(`remote = ["0.0.0.0"]`), "connection.branch.remote[0]", "leave remote out"},
		"remote twice":            {only(`remote = ["a.example", "A.example"]`), "connection.branch.remote[1]", "listed twice"},
		"port without remote":     {only(`port = 4500`), "connection.branch.port", "has no remote"},
		"request without remote":  {only(`request = ["ipv4"]`), "connection.branch.request", "has no remote"},
		"request of what":         {conn(`request = ["ipv5"]`), "connection.branch.request[0]", "unknown family"},
		"pool unknown":            {conn(`pool = ["v4"]`), "connection.branch.pool[0]", "add [pool.v4]"},
		"pool and request":        {conn("pool = [\"v4\"]\nrequest = [\"ipv4\"]") + "[pool.v4]\naddresses = [\"10.9.0.0/24\"]\n", "connection.branch.pool", "cannot hand out addresses"},
		"pool without addresses":  {more("[pool.v4]\n"), "pool.v4", "addresses are missing"},
		"pool of two families":    {more("[pool.v4]\naddresses = [\"10.9.0.0/24\", \"fd00::/64\"]\n"), "pool.v4.addresses[1]", "one family"},
		"pools overlap":           {more("[pool.a]\naddresses = [\"10.9.0.0/24\"]\n[pool.b]\naddresses = [\"10.9.0.9\"]\n"), "pool.b.addresses", "overlaps 10.9.0.2-10.9.0.254 of pool a"},
		"dns without pool":        {conn(`dns = ["10.1.0.1"]`), "connection.branch.dns", "has no pool"},
		"routes are a word":       {conn(`routes = "all"`), "connection.branch.routes", `expected "selectors", "none"`},
		"routes are a prefix":     {conn(`routes = "10.0.0.0/8"`), "connection.branch.routes", "put brackets around it"},
		"routes are empty":        {conn(`routes = []`), "connection.branch.routes", `write "none"`},
		"routes are a number":     {conn(`routes = 1`), "connection.branch.routes", `expected "selectors", "none" or a list of prefixes`},
		"default route":           {change(t, `remote = ["10.2.0.0/16"]`, `remote = ["0.0.0.0/0"]`), "connection.branch.routes", "the default route would go into the tunnel"},
		"default route of IPv6":   {change(t, `remote = ["10.2.0.0/16"]`, `remote = ["10.0.0.0/8", "::/0"]`), "connection.branch.routes", "the default route would go into the tunnel"},
		"weak name misspelt":      {conn(`proposals = ["aes128-sha1"]`), "connection.branch.proposals[0]", "key exchange group"},
		"ESP proposal":            {child(`proposals = ["aes256gcm16-prfsha256"]`), "connection.branch.child.lan.proposals[0]", "belongs in an IKE proposal"},
		"selector":                {change(t, "10.2.0.0/16", "10.2.0.0/40"), "connection.branch.child.lan.remote[0]", "expected a prefix"},
		"selector backwards":      {change(t, "10.2.0.0/16", "10.2.0.9-10.2.0.1"), "connection.branch.child.lan.remote[0]", "ends before it begins"},
		"selector of families":    {change(t, "10.2.0.0/16", "10.2.0.1-fd00::1"), "connection.branch.child.lan.remote[0]", "different families"},
		"selector bracket":        {change(t, "10.2.0.0/16", "10.2.0.0/16[tcp"), "connection.branch.child.lan.remote[0]", "closing bracket"},
		"selector protocol":       {change(t, "10.2.0.0/16", "10.2.0.0/16[tpc]"), "connection.branch.child.lan.remote[0]", "unknown protocol"},
		"selector port":           {change(t, "10.2.0.0/16", "10.2.0.0/16[tcp/http]"), "connection.branch.child.lan.remote[0]", "expected a port"},
		"selector ports":          {change(t, "10.2.0.0/16", "10.2.0.0/16[tcp/9-1]"), "connection.branch.child.lan.remote[0]", "expected a port"},
		"selector type":           {change(t, "10.2.0.0/16", "10.2.0.0/16[icmp/300]"), "connection.branch.child.lan.remote[0]", "ICMP type"},
		"dynamic with port":       {change(t, "10.2.0.0/16", "dynamic[tcp/1]"), "connection.branch.child.lan.remote[0]", "takes no protocol"},
		"no family in common":     {change(t, "10.2.0.0/16", "fd00::/8"), "connection.branch.child.lan", "no family in common"},
		"name of a connection":    {strings.ReplaceAll(siteToSite, "connection.branch", `connection."a b"`), `connection."a b"`, "is no name"},
		"auth is missing":         {change(t, `auth = "psk"`, ""), "connection.branch.local.auth", "is missing"},
		"auth misspelt":           {change(t, `auth = "psk"`, `auht = "psk"`), "connection.branch.local.auht", "did you mean auth"},
		"auth unknown":            {change(t, `auth = "psk"`, `auth = "ikev1"`), "connection.branch.local.auth", `unknown method "ikev1"`},
		"secret is missing":       {change(t, `secret = "`+psk+`"`, ""), "connection.branch.local.secret", "is missing"},
		"secret is empty":         {change(t, psk, ""), "connection.branch.local.secret", "is empty"},
		"secret is a number":      {change(t, `"`+psk+`"`, "12345678"), "connection.branch.local.secret", "expected a string"},
		"secret with space":       {change(t, psk, psk+" "), "connection.branch.local.secret", "white space"},
		"secret file not there":   {change(t, psk, "file:none"), "connection.branch.local.secret", "does not exist"},
		"secret variable":         {change(t, psk, "env:NONE"), "connection.branch.local.secret", `no variable "NONE"`},
		"secrets differ":          {change(t, `id = "branch.example.com"`, `secret = "another`+psk+`"`), "connection.branch.peer.secret", "differs"},
		"id":                      {change(t, "hq.example.com", "ipv4:192.0.2.999"), "connection.branch.local.id", "192.0.2.999"},
		"id is anybody":           {change(t, "hq.example.com", "%any"), "connection.branch.local.id", "stands for anybody"},
		"id is a pattern":         {change(t, "hq.example.com", "*.example.com"), "connection.branch.local.id", "is a pattern"},
		"cert with psk":           {change(t, `auth = "psk"`, "auth = \"psk\"\ncert = [\"x.pem\"]"), "connection.branch.local.cert", "no meaning"},
		"conflict": {
			siteToSite + strings.ReplaceAll(siteToSite, "connection.branch", "connection.other"), "connection.other",
			"is for the same peers as connection branch",
		},
		"syntax":           {change(t, `"192.0.2.2"`, `192.0.2.2`), "", "expected ',' or ']'"},
		"syntax of header": {more("[pool.v4\n"), "", "close table name"},
		"text unquoted":    {change(t, `"psk"`, "psk"), "", "text stands in quotes"},
		"leading zero":     {"[node]\nmtu = 01400\n", "", "leading zero"},
		"key twice":        {change(t, `auth = "psk"`, "auth = \"psk\"\nauth = \"psk\""), "connection.branch.local.auth", "is given twice, first on line"},
		"value and table":  {change(t, `[connection.branch.local]`, "local = {}\n[connection.branch.local]"), "connection.branch.local", "twice"},
		"inline and table": {change(t, `[connection.branch.child.lan]`, "[connection.branch.child]\nlan = {}\n[connection.branch.child.lan]"), "connection.branch.child.lan", "twice"},
		"dotted elsewhere": {change(t, `[connection.branch.child.lan]`, "[connection]\nbranch.port = 1\n[connection.branch.child.lan]"), "connection.branch", "twice"},
		"not UTF-8":        {siteToSite + "# \xff\n", "", "UTF-8"},
		"nested":           {conn("x = " + strings.Repeat("[", 40) + strings.Repeat("]", 40)), "connection.branch.x" + strings.Repeat("[0]", maxDepth), "nested"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("test.toml", []byte(tt.text), t.TempDir(), nil)
			var all Errors
			if !errors.As(err, &all) {
				t.Fatalf("no fault found: %v", err)
			}
			if e := all[0]; e.Key != tt.key || !strings.Contains(e.Error(), tt.reason) {
				t.Errorf("got:  %v\nwant: %s: … %s", e, tt.key, tt.reason)
			}
			if len(all) > 1 {
				t.Errorf("one fault is told as %d:\n%v", len(all), err)
			}
			if all[0].File != "test.toml" || all[0].Line == 0 || all[0].Column == 0 {
				t.Errorf("without a place: %+v", all[0])
			}
		})
	}
}

// TestSyntaxFaultsGoOn: several broken lines are all told, and what is right around them is
// read.
func TestSyntaxFaultsGoOn(t *testing.T) {
	_, err := Parse("", []byte(`[node]
device = martlet0
mtu 1400
bogus = 1
[connection.x
remote = "ignored, as its table is not known"
[pool.v4]
adresses = ["10.0.0.0/24"]
log_level = "unterminated
`), "", nil)
	var all Errors
	if !errors.As(err, &all) {
		t.Fatal(err)
	}
	var lines []int
	for _, e := range all {
		lines = append(lines, e.Line)
	}
	want := []int{2, 3, 4, 5, 8, 9}
	if len(lines) != len(want) {
		t.Fatalf("faults on lines %v, want %v:\n%v", lines, want, err)
	}
	for i := range want {
		if lines[i] != want[i] {
			t.Fatalf("faults on lines %v, want %v:\n%v", lines, want, err)
		}
	}
}

func TestManyFaultsAreBounded(t *testing.T) {
	var b strings.Builder
	for range maxFaults + 10 {
		b.WriteString("[x]\n")
	}
	_, err := Parse("", []byte(b.String()), "", nil)
	var all Errors
	if !errors.As(err, &all) || len(all) != maxFaults+1 || !strings.Contains(all[maxFaults].Reason, "10 more") {
		t.Errorf("%d faults, the last %v", len(all), all[len(all)-1])
	}
}

func TestWarnings(t *testing.T) {
	for name, tt := range map[string]struct{ text, key, says string }{
		"short secret":      {change(t, psk, "hunter2"), "connection.branch.local.secret", "can be guessed offline"},
		"long digits":       {change(t, psk, "12345678901234567890"), "connection.branch.local.secret", "bits of randomness"},
		"one letter":        {change(t, psk, strings.Repeat("a", 64)), "connection.branch.local.secret", "bits of randomness"},
		"weak IKE proposal": {change(t, "[connection.branch.local]", "proposals = [\"aes128-sha1-modp1024\"]\n[connection.branch.local]"), "connection.branch.proposals[0]", "modp1024"},
		"weak ESP proposal": {siteToSite + `proposals = ["aes128-sha1"]`, "connection.branch.child.lan.proposals[0]", "SHA-1"},
		"pool not used":     {siteToSite + "[pool.p]\naddresses = [\"10.9.0.0/24\"]\n", "pool.p", "no connection names"},
	} {
		t.Run(name, func(t *testing.T) {
			c := mustParse(t, tt.text)
			if len(c.Warnings) == 0 {
				t.Fatal("no warning")
			}
			found := false
			for _, w := range c.Warnings {
				found = found || w.Key == tt.key && strings.Contains(w.Text, tt.says) && w.Line > 0
			}
			if !found {
				t.Errorf("warnings %v, want one of %s that says %q", c.Warnings, tt.key, tt.says)
			}
		})
	}
}
