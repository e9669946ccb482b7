package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sourceRoot is the module's root.
func sourceRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", "..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// copySource copies the source, without what git keeps, into a folder of another name.
func copySource(t *testing.T, name string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), name)
	entries, err := os.ReadDir(sourceRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		from, to := filepath.Join(sourceRoot(t), e.Name()), filepath.Join(to, e.Name())
		switch {
		case e.IsDir() && e.Name() != ".git":
			err = os.CopyFS(to, os.DirFS(from))
		case e.Type().IsRegular() && e.Name() != ".git":
			var text []byte
			if text, err = os.ReadFile(from); err == nil {
				err = errors.Join(os.MkdirAll(filepath.Dir(to), 0o700), os.WriteFile(to, text, 0o600))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// maxProgram is how many octets the program for linux/amd64 may have, as is promised. The profile, with
// which no test builds, adds nothing to that.
const maxProgram = 18_000_000

// entry is one in an archive.
type entry struct {
	mode   fs.FileMode
	date   time.Time
	octets []byte
}

// TestRelease: the same source in two folders makes the same octets; in the archives is what
// belongs there, and the bill of materials lists what the program says that it is made of.
func TestRelease(t *testing.T) {
	date := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	both := []target{{"linux", "amd64"}, {"windows", "amd64"}}
	var made []map[string][]byte
	for _, name := range []string{"one", "another"} {
		// The profile would have every package compiled once more.
		r := &release{root: copySource(t, name), version: "1.2.3", date: date, flags: []string{"-pgo=off"}}
		folder := filepath.Join(t.TempDir(), "out")
		if err := r.make(t.Context(), folder, both); err != nil {
			t.Fatal(err)
		}
		files := map[string][]byte{}
		entries, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if files[e.Name()], err = os.ReadFile(filepath.Join(folder, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
		made = append(made, files)
	}
	var sums strings.Builder
	for _, name := range []string{
		"martlet-1.2.3-linux-amd64.cdx.json", "martlet-1.2.3-linux-amd64.tar.gz",
		"martlet-1.2.3-windows-amd64.cdx.json", "martlet-1.2.3-windows-amd64.zip",
	} {
		if len(made[0][name]) == 0 || !bytes.Equal(made[0][name], made[1][name]) {
			t.Errorf("%s has %d octets in one folder and others, %d, in another", name, len(made[0][name]), len(made[1][name]))
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(made[0][name]), name)
	}
	if diff := cmp.Diff(sums.String(), string(made[0]["SHA256SUMS"])); diff != "" || len(made[0]) != 5 {
		t.Errorf("%d files: %s", len(made[0]), diff)
	}
	for _, target := range both {
		name := "martlet-1.2.3-" + target.name()
		var entries map[string]entry
		if target.os == "windows" {
			entries = unzip(t, made[0][name+".zip"])
		} else {
			entries = untar(t, made[0][name+".tar.gz"])
		}
		checkArchive(t, name, target, date, entries)
		if n := len(entries[name+"/"+target.program()].octets); target.os == "linux" && n > maxProgram {
			t.Errorf("the program for %s has %d octets, and %d at most are wanted: go tool nm -size -sort size tells of what; a list of structs that "+
				"sort.Slice sorts, not slices.SortFunc, has 15 KB less", target.name(), n, maxProgram)
		}
		program, err := buildinfo.Read(bytes.NewReader(entries[name+"/"+target.program()].octets))
		if err != nil {
			t.Fatal(err)
		}
		checkBill(t, program, made[0][name+".cdx.json"])
		notices := string(entries[name+"/THIRD-PARTY-NOTICES.txt"].octets)
		for _, m := range program.Deps {
			if !strings.Contains(notices, "\n"+m.Path+" "+m.Version+" (") {
				t.Errorf("%s: the notices have no %s", name, m.Path)
			}
		}
	}
}

func checkArchive(t *testing.T, name string, target target, date time.Time, entries map[string]entry) {
	t.Helper()
	for _, want := range []string{
		"", "README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", "THIRD-PARTY-NOTICES.txt", target.program(), "man/", "man/martlet.1", "man/martlet.toml.5",
		"completions/", "completions/martlet.bash", "completions/_martlet", "completions/martlet.fish", "completions/martlet.ps1",
		"dist/", "dist/kubernetes.yaml",
	} {
		e, ok := entries[name+"/"+want]
		mode := fs.FileMode(0o644)
		switch {
		case want == "" || strings.HasSuffix(want, "/"):
			mode = fs.ModeDir | 0o755
		case want == target.program():
			mode = 0o755
		}
		if !ok || e.mode != mode || !e.date.Equal(date) || mode.IsRegular() && len(e.octets) == 0 {
			t.Errorf("%s/%s: there %v, mode %v, want %v, of %v, %d octets", name, want, ok, e.mode, mode, e.date, len(e.octets))
		}
	}
	for have := range entries {
		if !strings.HasPrefix(have, name+"/") || slices.Contains(needSource, filepath.Base(have)) {
			t.Errorf("%s has %s", name, have)
		}
	}
}

func checkBill(t *testing.T, program *buildinfo.BuildInfo, text []byte) {
	t.Helper()
	var b bill
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	want, have := []string{standardLibrary + " " + strings.TrimPrefix(program.GoVersion, "go")}, []string{}
	for _, m := range program.Deps {
		want = append(want, m.Path+" "+m.Version)
	}
	for _, c := range b.Components {
		have = append(have, c.Name+" "+c.Version)
		if len(c.Licences) == 0 || c.PURL != "pkg:golang/"+c.Name+"@"+c.Version {
			t.Errorf("%s has the licences %v and the URL %s", c.Name, c.Licences, c.PURL)
		}
	}
	slices.Sort(want)
	slices.Sort(have)
	if diff := cmp.Diff(want, have); diff != "" || len(want) < 15 {
		t.Errorf("%d modules: %s", len(want), diff)
	}
	if n := len(b.Dependencies); n != len(want)+1 || len(b.Dependencies[0].DependsOn) != len(want) {
		t.Errorf("%d dependencies", n)
	}
}

func untar(t *testing.T, archive []byte) map[string]entry {
	t.Helper()
	gz, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	entries := map[string]entry{}
	for r := tar.NewReader(gz); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		octets, err := io.ReadAll(r)
		if err != nil || h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" {
			t.Errorf("%s: %v, belongs to %d:%d %q:%q", h.Name, err, h.Uid, h.Gid, h.Uname, h.Gname)
		}
		entries[h.Name] = entry{h.FileInfo().Mode(), h.ModTime, octets}
	}
}

func unzip(t *testing.T, archive []byte) map[string]entry {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	entries := map[string]entry{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		octets, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		entries[f.Name] = entry{f.Mode(), f.Modified, octets}
	}
	return entries
}

// TestSameFlags: the image and what the bench measures are built as a release is.
func TestSameFlags(t *testing.T) {
	for name, want := range map[string][]string{
		"cmd/martlet/dist/rootfs": {"<cmd/martlet/dist/release/flags.txt\n", ` go build "${flags[@]}" -ldflags "` + linkFlags + " -X martlet.Version="},
		"test/bench/build.go":     {`"cmd", "martlet", "dist", "release", "flags.txt"`, fmt.Sprintf(`strings.Fields(string(flags)), []string{"-ldflags", %q`, linkFlags)},
	} {
		text, err := os.ReadFile(filepath.Join(sourceRoot(t), filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(string(text), w) {
				t.Errorf("%s does not have %s", name, w)
			}
		}
	}
}

// TestFlags: each package for which it is said whether functions are inlined is one of the program.
func TestFlags(t *testing.T) {
	packages, err := output(t.Context(), sourceRoot(t), target{"linux", "amd64"}.env(), "go", "list", "-deps", "./cmd/martlet")
	if err != nil {
		t.Fatal(err)
	}
	said := 0
	for _, f := range buildFlags {
		pattern, ok := strings.CutPrefix(f, "-gcflags=")
		if !ok || pattern == "all=-l" {
			continue
		}
		said++
		pattern, ok = strings.CutSuffix(strings.TrimSuffix(pattern, "-l"), "=")
		folder, below := strings.CutSuffix(pattern, "/...")
		there := slices.ContainsFunc(strings.Fields(packages), func(p string) bool { return p == folder || below && strings.HasPrefix(p, folder+"/") })
		if !ok || !there {
			t.Errorf("%s is for no package of the program", f)
		}
	}
	if said == 0 {
		t.Error("nothing is inlined at all")
	}
}

// TestNoHTTP2: the programs are built without HTTP/2, so none of it may be wanted by name. The
// library's HTTPClient asks for it where the program that embeds it has it.
func TestNoHTTP2(t *testing.T) {
	packages, err := output(t.Context(), sourceRoot(t), host().env(), "go", "list", "-deps", "./cmd/martlet")
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(packages) {
		if strings.Contains(name, "x/net/http2") && !strings.HasPrefix(name, "vendor/") {
			t.Errorf("the program has %s", name)
		}
	}
	var wanted []string
	err = filepath.WalkDir(sourceRoot(t), func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(p) != ".go" || strings.HasSuffix(p, "_test.go") {
			return err
		}
		text, err := os.ReadFile(p)
		if bytes.Contains(text, []byte("HTTP2:")) || bytes.Contains(text, []byte("SetHTTP2(")) {
			wanted = append(wanted, e.Name())
		}
		return err
	})
	if err != nil || !slices.Equal(wanted, []string{"dial.go"}) {
		t.Errorf("HTTP/2 is wanted in %v (%v), and only dial.go may", wanted, err)
	}
}
