package dns

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// resolverFolderOf reads the folder of suffixes of a host.
func resolverFolderOf(t *testing.T, root string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, resolverFolder))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		out[e.Name()] = get(t, filepath.Join(root, resolverFolder, e.Name()))
	}
	return out
}

// The folder is one of macOS; what is done with files is the same here.
func TestResolverFilesFollowTheDomains(t *testing.T) {
	root := t.TempDir()
	c := split()
	c.Device = "utun7"
	const file = "# martlet utun7\nnameserver 10.1.0.53\nnameserver fd00:1::53\n"
	write := func(c Config) {
		t.Helper()
		if err := writeResolverFiles(root, c); err != nil {
			t.Fatal(err)
		}
	}
	write(c)
	want := map[string]string{"corp.example": file, "lab.example": file}
	if diff := cmp.Diff(want, resolverFolderOf(t, root)); diff != "" {
		t.Error(diff)
	}
	other := Config{Device: "utun8", Servers: addrs("10.2.0.53"), Domains: []string{"else.example"}}
	write(other)
	put(t, filepath.Join(root, resolverFolder, "admin.example"), "nameserver 192.0.2.1\n")
	c.Domains = []string{"lab.example"}
	write(c)
	want = map[string]string{
		"lab.example":   file,
		"else.example":  "# martlet utun8\nnameserver 10.2.0.53\n",
		"admin.example": "nameserver 192.0.2.1\n",
	}
	if diff := cmp.Diff(want, resolverFolderOf(t, root)); diff != "" {
		t.Error(diff)
	}
	if err := removeResolverFiles(root, func(device, _ string) bool { return device == "utun7" }); err != nil {
		t.Error(err)
	}
	delete(want, "lab.example")
	if diff := cmp.Diff(want, resolverFolderOf(t, root)); diff != "" {
		t.Error(diff)
	}
	c.Domains = []string{"admin.example"}
	if err := writeResolverFiles(root, c); err == nil || !strings.Contains(err.Error(), "somebody else has the resolvers of this domain there; move the file away") {
		t.Errorf("%v", err)
	}
	if diff := cmp.Diff(want, resolverFolderOf(t, root)); diff != "" {
		t.Error(diff)
	}
}
