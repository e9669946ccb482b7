package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// newStore is an empty one in a folder that is made with it.
func newStore(t *testing.T) *Store {
	t.Helper()
	return &Store{Folder: filepath.Join(t.TempDir(), "profiles")}
}

// good is a check that finds nothing.
func good(string) error { return nil }

func contents(text string) Contents {
	return Contents{
		Text: []byte(text), Files: map[string][]byte{"office-psk.txt": []byte("secret of " + text), "pki/ca.pem": []byte("ca of " + text)},
		Origin: Origin{File: "office.sswan", Format: "a format", Imported: time.Unix(1_800_000_000, 0).UTC()},
	}
}

func add(t *testing.T, s *Store, name, text string) {
	t.Helper()
	if err := s.Add(name, contents(text), true, good); err != nil {
		t.Fatal(err)
	}
}

// tree is what stands below a folder: modes of folders, modes and contents of files.
func tree(t *testing.T, folder string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == folder {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		text := info.Mode().String()
		if !entry.IsDir() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += " " + string(data)
		}
		out[filepath.ToSlash(rel)] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func wantError(t *testing.T, err error, what string) {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok || !strings.Contains(e.What+" "+e.Why+" "+e.Hint, what) {
		t.Errorf("got %v, want an error about %q", err, what)
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"office", "Office-2", "a", "vpn.example.com", "a_b_", "0", strings.Repeat("a", 64)} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{
		"", ".", "..", ".office", "-c", "a/b", `a\b`, "/etc", "a b", "a.", "a-", "büro", "a\x00", "a\n", "a:b", "a@b", "office.toml", "office.TOML", "*", strings.Repeat("a", 65),
	} {
		wantError(t, CheckName(name), "is no name for a profile")
	}
}

func TestAddFindRemove(t *testing.T) {
	s := newStore(t)
	if names, err := s.Names(); len(names) != 0 || err != nil {
		t.Fatal(names, err)
	}
	if _, err := s.Find("office"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	add(t, s, "office", "one")
	add(t, s, "branch", "two")
	origin := `{
  "file": "office.sswan",
  "format": "a format",
  "imported": "2027-01-15T08:00:00Z"
}
`
	want := map[string]string{}
	for name, text := range map[string]string{"office": "one", "branch": "two"} {
		want[name] = "drwx------"
		want[name+"/pki"] = "drwx------"
		want[name+"/martlet.toml"] = "-rw------- " + text
		want[name+"/origin.json"] = "-rw------- " + origin
		want[name+"/office-psk.txt"] = "-rw------- secret of " + text
		want[name+"/pki/ca.pem"] = "-rw------- ca of " + text
	}
	if diff := cmp.Diff(want, tree(t, s.Folder)); diff != "" && runtime.GOOS != "windows" {
		t.Error(diff)
	}
	if names, err := s.Names(); err != nil || !cmp.Equal(names, []string{"branch", "office"}) {
		t.Error(names, err)
	}
	p, err := s.Find("office")
	if err != nil {
		t.Fatal(err)
	}
	if p.Path() != filepath.Join(s.Folder, "office", "martlet.toml") || p.Origin != contents("").Origin {
		t.Errorf("%+v", p)
	}
	if files, err := p.Files(); err != nil || !cmp.Equal(files, []string{"office-psk.txt", filepath.Join("pki", "ca.pem")}) {
		t.Error(files, err)
	}
	if err := s.Remove("office"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("office"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if names, err := s.Names(); err != nil || !cmp.Equal(names, []string{"branch"}) {
		t.Error(names, err)
	}
	for name := range tree(t, s.Folder) {
		if !strings.HasPrefix(name, "branch") {
			t.Errorf("%s is left", name)
		}
	}
}

func TestAddReplacesOnlyByForceAndWhole(t *testing.T) {
	s := newStore(t)
	add(t, s, "office", "one")
	before := tree(t, s.Folder)
	wantError(t, s.Add("office", contents("two"), false, good), "there is a profile office already")
	if diff := cmp.Diff(before, tree(t, s.Folder)); diff != "" {
		t.Error(diff)
	}
	if err := s.Add("office", Contents{Text: []byte("two")}, true, good); err != nil {
		t.Fatal(err)
	}
	after := tree(t, s.Folder)
	if len(after) != 3 || !strings.HasSuffix(after["office/martlet.toml"], " two") {
		t.Errorf("there is %v", after)
	}
}

func TestAddChangesNothingWhereTheCheckFails(t *testing.T) {
	s := newStore(t)
	add(t, s, "office", "one")
	before := tree(t, s.Folder)
	bad := errors.New("a fault")
	for _, name := range []string{"office", "other"} {
		err := s.Add(name, contents("two"), true, func(folder string) error {
			if got := tree(t, folder); !strings.HasSuffix(got["martlet.toml"], " two") || got["pki/ca.pem"] == "" {
				t.Errorf("checked was %v", got)
			}
			return bad
		})
		if err != bad {
			t.Error(err)
		}
		if diff := cmp.Diff(before, tree(t, s.Folder)); diff != "" {
			t.Error(diff)
		}
	}
	if err := contents("two").Try(func(string) error { return bad }); err != bad {
		t.Error(err)
	}
}

func TestAddTakesNoFileOutsideOfTheProfile(t *testing.T) {
	for _, name := range []string{"../x", "/x", "a/../../x", configFile, originFile} {
		s := newStore(t)
		c := contents("one")
		c.Files = map[string][]byte{name: nil}
		wantError(t, s.Add("office", c, false, good), "cannot be written")
		if left := tree(t, s.Folder); len(left) > 0 {
			t.Errorf("%s: %v is left", name, left)
		}
	}
}

// TestCrash: wherever a crash comes while a profile is replaced or removed, it is there whole, old
// or new, or it is gone; and the next change removes what was left.
func TestCrash(t *testing.T) {
	rename := func(t *testing.T, s *Store, from, to string) {
		t.Helper()
		if err := os.Rename(filepath.Join(s.Folder, from), filepath.Join(s.Folder, to)); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		crash func(t *testing.T, s *Store)
		want  string // the profile that is there
	}{
		"while the new one is written": {func(t *testing.T, s *Store) {
			add(t, s, "other", "half")
			rename(t, s, "other", ".office.new=1")
		}, "one"},
		"when the old one is aside": {func(t *testing.T, s *Store) {
			add(t, s, "other", "two")
			rename(t, s, "other", ".office.new=1")
			rename(t, s, "office", ".office.old")
		}, "one"},
		"before the old one is gone": {func(t *testing.T, s *Store) {
			rename(t, s, "office", ".office.old")
			add(t, s, "other", "two")
			rename(t, s, "other", "office")
		}, "two"},
		"while it is removed": {func(t *testing.T, s *Store) {
			if err := os.Remove(filepath.Join(s.Folder, "office", configFile)); err != nil {
				t.Fatal(err)
			}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			add(t, s, "office", "one")
			test.crash(t, s)
			names, err := s.Names()
			if err != nil || len(names) != len(strings.Fields(test.want)) {
				t.Error(names, err)
			}
			if test.want != "" {
				p, err := s.Find("office")
				if err != nil {
					t.Fatal(err)
				}
				text, err := os.ReadFile(p.Path())
				if err != nil || string(text) != test.want {
					t.Errorf("%q, %v", text, err)
				}
			}
			if err := s.Add("office", Contents{Text: []byte("three")}, test.want != "", good); err != nil {
				t.Fatal(err)
			}
			if left := tree(t, s.Folder); len(left) != 3 {
				t.Errorf("there is %v", left)
			}
			if err := s.Remove("office"); err != nil || len(tree(t, s.Folder)) != 0 {
				t.Errorf("%v, there is %v", err, tree(t, s.Folder))
			}
		})
	}
}

func TestWhatOthersMayWriteToIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no modes")
	}
	mode := func(perm fs.FileMode, below ...string) func(*Store) error {
		return func(s *Store) error { return os.Chmod(filepath.Join(append([]string{s.Folder}, below...)...), perm) }
	}
	for name, test := range map[string]struct {
		spoil func(s *Store) error
		want  string
	}{
		"a store open to the group":  {mode(0o770), "group or others may write to it (mode 0770)"},
		"a store open to all":        {mode(0o777 | fs.ModeSticky), "(mode 0777)"},
		"a folder above open to all": {mode(0o777, ".."), "is writable by everybody"},
		"a profile":                  {mode(0o720, "office"), "(mode 0720)"},
		"its configuration":          {mode(0o622, "office", configFile), "(mode 0622)"},
		"a certificate":              {mode(0o602, "office", "pki", "ca.pem"), "chmod go-w "},
		"a link": {func(s *Store) error {
			return os.Symlink("/dev/null", filepath.Join(s.path("office"), "key.pem"))
		}, "it is a link"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			add(t, s, "office", "one")
			if err := test.spoil(s); err != nil {
				t.Fatal(err)
			}
			_, err := s.Find("office")
			wantError(t, err, test.want)
		})
	}
}

func TestWhatAnotherUserOwnsIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	s := newStore(t)
	add(t, s, "office", "one")
	if err := os.Chown(filepath.Join(s.path("office"), "office-psk.txt"), 1, 1); err != nil {
		t.Fatal(err)
	}
	_, err := s.Find("office")
	wantError(t, err, "belongs to another user (number 1)")
	if err := os.Chown(s.Folder, 1, 1); err != nil {
		t.Fatal(err)
	}
	_, err = s.Names()
	wantError(t, err, "belongs to another user")
	wantError(t, s.Add("other", contents("two"), false, good), "belongs to another user")
}

func TestOriginThatCannotBeRead(t *testing.T) {
	s := newStore(t)
	add(t, s, "office", "one")
	file := filepath.Join(s.path("office"), originFile)
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := s.Find("office")
	wantError(t, err, "where the profile office is from cannot be read")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if p, err := s.Find("office"); err != nil || p.Origin != (Origin{}) {
		t.Error(p, err)
	}
}
