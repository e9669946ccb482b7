package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// decodeOnly is what is read of a text and a Source, before anything is checked as a whole.
func decodeOnly(t *testing.T, s *Source, text string) (*Config, Errors) {
	t.Helper()
	f := newFaults("test.toml", "")
	root, ok := readTOML([]byte(text), f)
	if !ok {
		t.Fatalf("%v in %s", f.err(), text)
	}
	strangers := s.cover(root, f)
	c := &Config{}
	d := &decoder{faults: f, env: s.lookup, asked: map[string]bool{}}
	d.table(reflect.ValueOf(c).Elem(), root, "")
	f.strangers(strangers, d.asked, root)
	return c, f.errs
}

// at returns what a Config has at a path; the zero Value if a table is not there.
func at(c *Config, path []string) reflect.Value {
	v := reflect.ValueOf(c).Elem()
	for _, key := range path {
		if v.Kind() == reflect.Map {
			if v = v.MapIndex(reflect.ValueOf(key)); !v.IsValid() {
				return v
			}
			v = v.Elem()
			continue
		}
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("toml") == key {
				v = v.Field(i)
				break
			}
		}
	}
	return v
}

// samples are values of a type: one as a file has it, one for a variable and one for a flag, each of
// these with what it is in a file.
func samples(t reflect.Type) (file string, variable, flag [2]string) {
	switch typeName(t) {
	case "true or false":
		return "true", [2]string{"false", "false"}, [2]string{"true", "true"}
	case "integer":
		return "11", [2]string{"12", "12"}, [2]string{"13", "13"}
	case "duration":
		return `"11s"`, [2]string{"12s", `"12s"`}, [2]string{"13s", `"13s"`}
	case "string":
		return `"a"`, [2]string{"b", `"b"`}, [2]string{"c", `"c"`}
	case "secret":
		return `"a"`, [2]string{"b", `"b"`}, [2]string{"env:C", `"c"`}
	case "address":
		return `"192.0.2.1"`, [2]string{"192.0.2.2", `"192.0.2.2"`}, [2]string{"192.0.2.3", `"192.0.2.3"`}
	}
	// Lists, and routes.
	return `["192.0.2.1"]`, [2]string{"192.0.2.2, 192.0.2.3", `["192.0.2.2", "192.0.2.3"]`}, [2]string{`["192.0.2.4"]`, `["192.0.2.4"]`}
}

// TestEveryKeyCanBeSetByAVariableAndAFlag goes through the tables of the reference: each key lands
// where it belongs, and a flag counts more than a variable, which counts more than the file.
func TestEveryKeyCanBeSetByAVariableAndAFlag(t *testing.T) {
	n := 0
	for _, section := range tables() {
		for _, header := range section.headers {
			for field := range section.typ.Fields() {
				key := field.Tag.Get("toml")
				if key != "" && key != "-" && !isTable(field.Type) {
					n++
					checkKey(t, header+"."+key, field.Type)
				}
			}
		}
	}
	if n < 150 {
		t.Errorf("only %d keys", n)
	}
}

// checkKey sets a key, whose path has NAME for names, in each way.
func checkKey(t *testing.T, key string, typ reflect.Type) {
	t.Helper()
	path, made := strings.ReplaceAll(key, "NAME", "a-1"), strings.ReplaceAll(key, "NAME", "a_1")
	name := "MARTLET_" + inCapitals(path)
	file, variable, flag := samples(typ)
	text := path + " = " + file
	env, set := []string{"C=c", name + "=" + variable[0]}, []string{path + "=" + flag[0]}
	for _, c := range []struct {
		s              Source
		text, at, want string
	}{
		{Source{Env: env}, text, path, variable[1]},
		{Source{Env: env, Set: set}, text, path, flag[1]},
		{Source{Env: env}, "", made, variable[1]},
		{Source{Env: env, Set: set}, "", path, flag[1]},
	} {
		got, _ := decodeOnly(t, &c.s, c.text)
		want, _ := decodeOnly(t, &Source{}, c.at+" = "+c.want)
		if g, w := shown(at(got, strings.Split(c.at, "."))), shown(at(want, strings.Split(c.at, "."))); g != w {
			t.Errorf("%s is %s with %q and %q over %q, want %s", c.at, g, c.s.Env, c.s.Set, c.text, w)
		}
	}
	if typ != typeOf[Secret]() {
		return
	}
	// In a file of its own.
	inFile := filepath.Join(t.TempDir(), "secret")
	write(t, inFile, "in a file\n", 0o600)
	c, errs := decodeOnly(t, &Source{Env: []string{name + "_FILE=" + inFile}}, text)
	if got := shown(at(c, strings.Split(path, "."))); errs != nil || got != "in a file" {
		t.Errorf("%s_FILE: %q, %v", name, got, errs)
	}
	if !holdsSecret(name) || holdsSecret(name+"_FILE") {
		t.Errorf("%s is not known to hold a secret, or _FILE is", name)
	}
}

// shown writes a value of a Config, secrets too.
func shown(v reflect.Value) string {
	if !v.IsValid() {
		return "not there"
	}
	if s, ok := v.Interface().(Secret); ok {
		return string(s.Value)
	}
	return fmt.Sprint(v)
}

// TestNamesInVariables: which table a name in a variable stands for.
func TestNamesInVariables(t *testing.T) {
	for _, c := range []struct {
		about, file string
		set, env    []string
		want        string // the path that has port 7
	}{
		{"new", "", nil, []string{"CONNECTION_OFFICE_PORT"}, "office"},
		{"new, with _", "", nil, []string{"CONNECTION_MY_OFFICE_PORT"}, "my_office"},
		{"of the file", "[connection.Office]\n", nil, []string{"CONNECTION_OFFICE_PORT"}, "Office"},
		{"of the file with -", "[connection.my-office]\n", nil, []string{"CONNECTION_MY_OFFICE_PORT"}, "my-office"},
		{"of the file with .", "[connection.\"alice@vpn.example\"]\n", nil, []string{"CONNECTION_ALICE_VPN_EXAMPLE_PORT"}, "alice@vpn.example"},
		{"of a flag", "", []string{"connection.my-office.masquerade=true"}, []string{"CONNECTION_MY_OFFICE_PORT"}, "my-office"},
		{"of an empty table", "[connection]\nmy-office = {}\n", nil, []string{"CONNECTION_MY_OFFICE_PORT"}, "my-office"},
		{"beside another one", "[connection.my]\n", nil, []string{"CONNECTION_MY_OFFICE_PORT"}, "my_office"},
		{"as a key is called", "", nil, []string{"CONNECTION_LOCAL_PORT"}, "local"},
		{"twice as a key is called", "", nil, []string{"CONNECTION_LOCAL_LOCAL_PORT"}, ""}, // local_port of local
	} {
		s := &Source{Set: c.set}
		for _, name := range c.env {
			s.Env = append(s.Env, "MARTLET_"+name+"=7")
		}
		got, errs := decodeOnly(t, s, c.file)
		if c.want == "" {
			if conn := got.Connections["local"]; conn == nil || conn.LocalPort != 7 {
				t.Errorf("%s: %v %v", c.about, errs, got.Connections)
			}
			continue
		}
		if conn := got.Connections[c.want]; errs != nil || conn == nil || conn.Port != 7 {
			t.Errorf("%s: %v, %v", c.about, errs, got.Connections)
		}
	}
}

// TestSeveralReadings: a variable that can be read in several ways is read with the fewest new
// names, then with the shortest first one; where both stay it is a fault that says both.
func TestSeveralReadings(t *testing.T) {
	const name = "MARTLET_CONNECTION_A_CHILD_B_PROPOSALS"
	for _, c := range []struct {
		about, file string
		env         []string
		want        string
	}{
		{"nothing is there", "", nil, "connection.a.child.b.proposals"},
		{"the long name is there", "[connection.a_child_b]\n", nil, "connection.a_child_b.proposals"},
		{"the long name is there with -", "[connection.a-child-b]\n", nil, "connection.a-child-b.proposals"},
		{"the short name is there", "[connection.a]\n", nil, "connection.a.child.b.proposals"},
		{"both are there in part", "[connection.a]\n[connection.a-child-b]\n", nil, "connection.a-child-b.proposals"},
		{"the long name is another variable's", "", []string{"MARTLET_CONNECTION_A_CHILD_B_LOCAL_AUTH=psk"}, "connection.a_child_b.proposals"},
		{"the short name is another variable's", "", []string{"MARTLET_CONNECTION_A_CHILD_B_TFC=0"}, "connection.a.child.b.proposals"},
	} {
		got, errs := decodeOnly(t, &Source{Env: append(c.env, name+"=x")}, c.file)
		v := at(got, strings.Split(c.want, "."))
		if errs != nil || !v.IsValid() || fmt.Sprint(v) != "[x]" {
			t.Errorf("%s: %v, %v", c.about, errs, got.Connections)
		}
	}
	for file, want := range map[string]string{
		"[connection.a.child.b]\n[connection.a_child_b]\n": "may be connection.a.child.b.proposals or connection.a_child_b.proposals",
		"[connection.A.child.b]\n[connection.a.child.b]\n": "may be connection.A.child.b.proposals or connection.a.child.b.proposals",
		"[connection.A]\n[connection.a]\n":                 "may be connection.A.child.b.proposals or connection.a.child.b.proposals",
	} {
		_, errs := decodeOnly(t, &Source{Env: []string{name + "=x"}}, file)
		if len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), "environment "+name+": "+want) || !strings.Contains(errs[0].Hint, "--set") {
			t.Errorf("%q: %v, want %s", file, errs, want)
		}
	}
}

// TestStrangers: what a variable that is no key is told to have meant.
func TestStrangers(t *testing.T) {
	for name, want := range map[string]string{
		"NODE_MTUU":                      "node.mtuu: unknown key (hint: did you mean mtu?)",
		"node_mtu":                       "node.mtu: variables of keys have capitals only (hint: MARTLET_NODE_MTU)",
		"NOD_MTU":                        "nod: unknown key (hint: did you mean node?)",
		"NODE":                           "node: is a table and no key",
		"NODE_":                          "node_: unknown key (hint: did you mean node?)",
		"":                               `"": unknown key (hint: the tables are`,
		"CONECTION_OFFICE_REMOTE":        "conection: unknown key (hint: did you mean connection?)",
		"CONNECTION_OFFICE":              "connection.office: is a table and no key",
		"CONNECTION_MY_OFFICE":           "connection.my_office: is a table and no key",
		"CONNECTION_OFFICE_LOCAL":        "connection.office.local: is a table and no key",
		"CONNECTION_OFFICE_CHILD_NET":    "connection.office.child.net: is a table and no key",
		"CONNECTION_MY_OFFICE_REMOT":     "connection.my-office.remot: unknown key (hint: did you mean remote?)",
		"CONNECTION_NEW_ONE_REMOT":       "connection.new_one.remot: unknown key (hint: did you mean remote?)",
		"CONNECTION_OFFICE_LOACL_SECRET": "connection.office.loacl: unknown key (hint: did you mean local?)",
		"CONNECTION_OFFICE_LOCAL_PSK":    "connection.office.local.psk: unknown key (hint: it is called secret here)",
		"CONNECTION_OFFICE_LOCAL_SECERT": "connection.office.local.secert: unknown key (hint: did you mean secret?)",
		"CONNECTION_OFFICE_REMOTE_FILE":  "connection.office.remote: only keys that hold a secret can be given as …_FILE (hint: set MARTLET_CONNECTION_OFFICE_REMOTE)",
		"CONNECTION_OFFICE_LOG_LEVEL":    "connection.office.log_level: unknown key (hint: log_level belongs in [node])",
		"SOCKS5_MAIN_LISTEN":             "socks5_main_listen: unknown key",
		"SERVICE_HOST_NAME":              "service_host_name: unknown key",
		"NODE_PORT":                      "node.port: unknown key",
		strings.Repeat("A_", 200):        strings.Repeat("a_", 200) + ": unknown key",
	} {
		_, errs := decodeOnly(t, &Source{Env: []string{"MARTLET_" + name + "=1" + psk}}, "[connection.my-office]\n")
		if len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), "environment MARTLET_"+name+": "+want) {
			t.Errorf("%s: %v, want %s", name, errs, want)
		} else if strings.Contains(errs[0].Error(), psk) {
			t.Errorf("%s shows its value: %v", name, errs)
		}
	}
	// A name is shown so that it cannot be more than a line.
	if _, errs := decodeOnly(t, &Source{Env: []string{"MARTLET_A\nB=1"}}, ""); len(errs) != 1 || errs[0].File != `environment "MARTLET_A\nB"` {
		t.Errorf("%v", errs)
	}
	// What was meant is not told to be missing.
	_, err := (&Source{Env: []string{
		"MARTLET_CONNECTION_A_REMOTE=a.example", "MARTLET_CONNECTION_A_LOCAL_AUTH=psk", "MARTLET_CONNECTION_A_PEER_AUTH=psk", "MARTLET_CONNECTION_A_LOCAL_SECERT=x",
	}}).Load()
	if all, ok := errors.AsType[Errors](err); !ok || len(all) != 1 {
		t.Errorf("one misspelt variable: %v", err)
	}
}

// TestNotOurs: variables that begin as ours and are no keys are let alone.
func TestNotOurs(t *testing.T) {
	for _, entry := range []string{
		"MARTLET_CONFIG=/etc/martlet.toml", "MARTLET_LONG=1", "MARTLET_TEST_DIR=x", "MARTLETS=1", "martlet_node_mtu=x",
		"MARTLET_NODE_MTU=", "MARTLET_WHATEVER=", // empty
		// A Service called martlet, and one called martlet-gw, as Kubernetes tells of them.
		"MARTLET_SERVICE_HOST=10.96.0.7", "MARTLET_SERVICE_PORT=500", "MARTLET_SERVICE_PORT_IKE=500", "MARTLET_PORT=udp://10.96.0.7:500",
		"MARTLET_PORT_500_UDP=udp://10.96.0.7:500", "MARTLET_PORT_500_UDP_PROTO=udp", "MARTLET_PORT_500_UDP_PORT=500", "MARTLET_PORT_500_UDP_ADDR=10.96.0.7",
		"MARTLET_GW_SERVICE_HOST=fd00::7", "MARTLET_GW_PORT=tcp://[fd00::7]:443", "MARTLET_GW_PORT_443_TCP_ADDR=fd00::7",
	} {
		if _, err := (&Source{File: file(t, siteToSite), Env: []string{entry}}).Load(); err != nil {
			t.Errorf("%s: %v", entry, err)
		}
	}
	// What a secret of the file names is no stranger, however it is called.
	path := file(t, change(t, `"`+psk+`"`, `"env:MARTLET_PSK"`))
	if _, err := (&Source{File: path, Env: []string{"MARTLET_PSK=" + psk}}).Load(); err != nil {
		t.Error(err)
	}
	if _, err := (&Source{File: path, Env: []string{"MARTLET_PSK=" + psk, "MARTLET_PKS=x"}}).Load(); err == nil {
		t.Error("beside it a misspelt one is let through")
	}
}

// TestOwnVariablesAreKnown: every variable that the module's own code asks for is either a key or in
// the list of those that are none.
func TestOwnVariablesAreKnown(t *testing.T) {
	asks := regexp.MustCompile(`(?:Getenv|LookupEnv)\("(MARTLET_\w+)"\)`)
	n := 0
	err := filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		text, err := os.ReadFile(path)
		for _, found := range asks.FindAllStringSubmatch(string(text), -1) {
			n++
			// Children of tests read no configuration.
			rest, mayBe := keyVariable(found[1])
			if mayBe && readings(rest, nil) == nil && !strings.HasSuffix(rest, "_CHILD") {
				t.Errorf("%s asks for %s, which would be a fault in a configuration", path, found[1])
			}
		}
		return err
	})
	if err != nil || n < 5 {
		t.Errorf("%d found, %v", n, err)
	}
}
