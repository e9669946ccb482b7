package main

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"martlet/config/profile"
	"martlet/config/store"
)

// samples are the folders of profiles of other programs, each with what becomes of it.
func samples(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join("..", "..", "config", "profile", "testdata", "*-*"))
	if err != nil || len(found) < 20 {
		t.Fatalf("%d samples: %v", len(found), err)
	}
	return found
}

// fileOf is the profile among the files of a sample.
func fileOf(t *testing.T, folder string) string {
	t.Helper()
	for _, pattern := range []string{"*.mobileconfig", "*.sswan", "swanctl.conf", "ipsec.conf", "*.nmconnection", "*.onc", "*.pbk", "*.xml"} {
		if found, err := filepath.Glob(filepath.Join(folder, pattern)); err == nil && len(found) == 1 {
			return found[0]
		}
	}
	t.Fatalf("%s has no profile", folder)
	return ""
}

// martletIn runs a command of this program with the profiles in a folder.
func martletIn(t *testing.T, profiles string, args ...string) (stdout string, err error) {
	t.Helper()
	t.Setenv("MARTLET_PROFILES", profiles)
	var out bytes.Buffer
	root := newRoot(args)
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(io.Discard)
	_, err = root.ExecuteContextC(t.Context())
	return out.String(), err
}

// TestEachSampleBecomesAProfile: the configuration is the one that package profile has beside the
// sample, and what it belongs to is closed to others and in no output.
func TestEachSampleBecomesAProfile(t *testing.T) {
	for _, folder := range samples(t) {
		name := filepath.Base(folder)
		t.Run(name, func(t *testing.T) {
			profiles := filepath.Join(t.TempDir(), "profiles")
			file := fileOf(t, folder)
			dry, err := martletIn(t, profiles, "import", "--dry-run", file)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(profiles); err == nil {
				t.Error("--dry-run wrote")
			}
			said, err := martletIn(t, profiles, "import", file, "--name", name)
			if err != nil {
				t.Fatal(err)
			}
			first := name + " is imported from " + filepath.Base(file) + ": "
			if !strings.HasPrefix(said, first) || !strings.Contains(said, "\nNext:\n  ") {
				t.Errorf("said: %s", said)
			}
			p, err := (&store.Store{Folder: profiles}).Find(name)
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(p.Path())
			if err != nil {
				t.Fatal(err)
			}
			if dry != string(text) {
				t.Error("--dry-run prints another configuration")
			}
			want, err := os.ReadFile(filepath.Join(folder, "want.toml"))
			if err != nil {
				t.Fatal(err)
			}
			// What has absolute paths was imported there as if it stood in /etc.
			if string(text) != string(want) && !strings.Contains(said, "outside of the profile's folder") {
				t.Errorf("became\n%s", text)
			}
			_, err = martletIn(t, profiles, "check", name)
			if todo := strings.Contains(said, "To be done before it works:"); err != nil && !todo {
				t.Errorf("check: %v", err)
			}
			listed, err := martletIn(t, profiles, "list")
			if err != nil || !strings.HasPrefix(listed, name+" ") || !strings.Contains(listed, p.Origin.Format) {
				t.Errorf("list: %s, %v", listed, err)
			}
			shown, err := martletIn(t, profiles, "show", name)
			if err != nil {
				t.Fatal(err)
			}
			closed(t, p, said+shown+listed+dry)
		})
	}
}

// closed sees that nobody else can read what belongs to a profile, and that no secret was printed.
func closed(t *testing.T, p *store.Profile, printed string) {
	t.Helper()
	err := filepath.WalkDir(p.Folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the mode %v", path, info.Mode())
		}
		data, err := os.ReadFile(path)
		if filepath.Ext(path) == ".txt" && strings.Contains(printed, strings.TrimSpace(string(data))) {
			t.Errorf("what is in %s was printed", path)
		}
		if entry.IsDir() {
			err = nil
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestNameOf: what a file is called becomes a name that the store takes, or none.
// TestWhatIsWeakIsToldOnce: by the note or by the configuration's warning, for all tunnels that are alike.
func TestWhatIsWeakIsToldOnce(t *testing.T) {
	var out bytes.Buffer
	args := []string{"import", fileOf(t, filepath.Join("..", "..", "config", "profile", "testdata", "aws-vpn"))}
	t.Setenv("MARTLET_PROFILES", filepath.Join(t.TempDir(), "profiles"))
	root := newRoot(args)
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&out)
	if _, err := root.ExecuteContextC(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "Logjam"); n != 1 {
		t.Errorf("told %d times:\n%s", n, out.String())
	}
}

func TestNameOf(t *testing.T) {
	for file, want := range map[string]string{
		"office.mobileconfig": "office", "My Office (2).sswan": "My-Office--2", "swanctl.conf": "swanctl", "Büro.onc": "B-ro",
		"": "", ".conf": "", "...": "", strings.Repeat("a", 90) + ".pbk": strings.Repeat("a", 40), "con.toml.toml": "con-toml",
	} {
		got := nameOf(file)
		if got != want {
			t.Errorf("%q is called %q, want %q", file, got, want)
		}
		if got != "" && store.CheckName(got) != nil {
			t.Errorf("the store does not take %q", got)
		}
	}
}

// TestCheckKeepsThePlaceOutOfFaults: the folder in which a profile is tried is gone when its faults
// are read.
func TestCheckKeepsThePlaceOutOfFaults(t *testing.T) {
	text := []byte("[connection.a]\nremote = [\"192.0.2.1\"]\nlocal = { auth = \"psk\", secret = \"file:none.txt\" }\npeer.auth = \"psk\"\n")
	folder := t.TempDir()
	for _, needed := range []bool{false, true} {
		in := &imported{Contents: store.Contents{Text: text}, notes: []profile.Note{{Text: "the key is missing", Needed: needed}}}
		_, faults, err := in.check(folder)
		if needed != (err == nil) || needed != (len(faults) == 1) {
			t.Errorf("needed %v: faults %v, error %v", needed, faults, err)
		}
		if text := firstLine(map[bool]error{false: err, true: faults}[needed]); strings.Contains(text, folder) || !strings.Contains(text, "none.txt does not exist") {
			t.Error(text)
		}
	}
}
