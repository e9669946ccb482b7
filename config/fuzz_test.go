package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// FuzzParse: any text gives a Config that is complete, or faults with reasons.
func FuzzParse(f *testing.F) {
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "psk"), []byte(psk), 0o600); err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		"", siteToSite, roadWarrior, "[node]\nlisten = [\"::\"]\nmark = 0x10", "a.b = {c = [1, {d = 2}]}\n[[x]]\n", "x = '''\n",
		"[connection.a]\nlocal = {auth=\"psk\", secret=\"file:psk\"}\npeer.auth=\"psk\"\npool=[\"p\"]\n[pool.p]\naddresses=[\"fd00::/120\"]\n",
	} {
		f.Add([]byte(seed))
	}
	env := func(name string) (string, bool) { return psk, name == "PSK" }
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse("fuzz.toml", text, dir, env)
		if err != nil {
			checkFaults(t, err)
			return
		}
		for name, conn := range c.Connections {
			if conn.Name != name || len(conn.IKE) == 0 || len(conn.Children) == 0 || conn.Liveness == 0 {
				t.Errorf("connection %q is not complete: %+v", name, conn)
			}
			for _, child := range conn.Children {
				if len(child.ESP) == 0 || len(child.LocalTS) == 0 && !child.LocalIsDyn || len(child.RemoteTS) == 0 && !child.RemoteIsDyn {
					t.Errorf("child %q is not complete: %+v", child.Name, child)
				}
			}
		}
		for name, p := range c.Pools {
			if p.Name != name || len(p.Ranges) == 0 {
				t.Errorf("pool %q is not complete: %+v", name, p)
			}
		}
		if err := c.Complete(); err != nil {
			t.Errorf("once more: %v", err)
		}
	})
}

func checkFaults(t *testing.T, err error) {
	var all Errors
	if !errors.As(err, &all) || len(all) == 0 {
		t.Fatalf("not Errors: %v", err)
	}
	for _, e := range all {
		if e.Reason == "" || e.File != "fuzz.toml" {
			t.Errorf("a fault without reason or file: %+v", e)
		}
	}
}

// TestTruncated cuts a file at each octet.
func TestTruncated(t *testing.T) {
	for i := range len(siteToSite) {
		if _, err := Parse("fuzz.toml", []byte(siteToSite[:i]), "", nil); err != nil {
			checkFaults(t, err)
		}
	}
}

// FuzzSource: any variables and settings, a line each, over a file give a Config that is complete, or
// faults with reasons, none of which shows what may be a secret.
func FuzzSource(f *testing.F) {
	f.Add(siteToSite, strings.Join(office("MARTLET_CONNECTION_A_CHILD_B_PROPOSALS=default,x", "MARTLET_NODE_MTUU=1"), "\n"), "node.mtu=1400\nconnection.\"a=b\".local.secret=x")
	f.Add("[connection.a-b]\nport = 1\n[connection.a_b]\n", "MARTLET_CONNECTION_A_B_PORT=1\nMARTLET_USER_A_PASSWORD_FILE=/\nMARTLET_USER_A_PASSWORD=x", "connection.a-b.routes=[\"10.0.0.0/8\"]")
	f.Add("connection = 1", "MARTLET_RADIUS_SERVER_A_B_SECRET=env:X\nMARTLET_NODE_LISTEN=::,1.2.3.4\nX=1", "node=1\nnode.mtu.x=1\n=\na=b")
	f.Add("", "MARTLET_PORT=udp://x\nMARTLET_NODE_LISTEN=[[[\nMARTLET_CONNECTION_A_STRICT=yes", "dns.open=true # x\npool.a.addresses=10.0.0.0/24")
	dir := f.TempDir()
	const canary = "Kanarienvogel in place, 49 octets of it and more!"
	f.Fuzz(func(t *testing.T, text, env, set string) {
		s := &Source{Env: strings.Split(env, "\n"), Set: strings.Split(set, "\n")}
		for i, entry := range s.Env {
			name, _, _ := strings.Cut(entry, "=")
			rest, _ := keyVariable(name)
			if !slices.ContainsFunc(readings(rest, nil), func(r reading) bool { return r.typ != typeOf[Secret]() || r.inFile }) {
				s.Env[i] = name + "=" + canary
			}
		}
		for i, entry := range s.Set {
			path, val, ok := cutSetting(entry)
			switch t := typeAt(path); {
			case !ok:
				s.Set[i] = canary + strings.ReplaceAll(entry, "=", "")
			case t == nil || t == typeOf[Secret]():
				s.Set[i] = strings.TrimSuffix(entry, val) + canary
			}
		}
		c, err := s.parse(newFaults("fuzz.toml", dir), []byte(text), s.lookup, "")
		if err == nil {
			if err := c.Complete(); err != nil {
				t.Errorf("once more: %v", err)
			}
			return
		}
		var all Errors
		if !errors.As(err, &all) || len(all) == 0 {
			t.Fatalf("not Errors: %v", err)
		}
		for _, e := range all {
			if e.Reason == "" || e.File == "" {
				t.Errorf("a fault without reason or source: %+v", e)
			}
		}
		if strings.Contains(err.Error(), canary[:12]) {
			t.Errorf("a secret shows: %v", err)
		}
	})
}

// typeAt is the type of a key; nil if there is none.
func typeAt(path []string) reflect.Type {
	t := typeOf[Config]()
	for _, key := range path {
		switch {
		case t.Kind() == reflect.Map:
			t = t.Elem().Elem()
		case isTable(t):
			field, ok := fieldOf(t, key)
			if !ok {
				return nil
			}
			t = field.Type
		default:
			return nil
		}
	}
	return t
}
