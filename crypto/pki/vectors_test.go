package pki

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// vectors opens the folder of vectors that nobody in the project wrote.
func vectors(tb testing.TB) *os.Root {
	tb.Helper()
	dir := os.Getenv("MARTLET_VECTORS")
	if dir == "" {
		dir = "../../../shared/vectors"
	} else if !filepath.IsAbs(dir) {
		dir = filepath.Join("../..", dir) // from the module's root
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		tb.Skipf("no vectors: %v (set MARTLET_VECTORS)", err)
	}
	tb.Cleanup(func() { root.Close() })
	return root
}

func readVector(tb testing.TB, root *os.Root, name string) []byte {
	tb.Helper()
	b, err := root.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// gunzip opens a compressed file of the vectors.
func gunzip(tb testing.TB, root *os.Root, name string) io.Reader {
	tb.Helper()
	f, err := root.Open(name)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { f.Close() })
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	return z
}

func readJSON(tb testing.TB, root *os.Root, name string, into any) {
	tb.Helper()
	if err := json.NewDecoder(gunzip(tb, root, name)).Decode(into); err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
}

// untar gives the regular files of an archive.
func untar(tb testing.TB, root *os.Root, name string) map[string][]byte {
	tb.Helper()
	files := map[string][]byte{}
	archive := tar.NewReader(gunzip(tb, root, name))
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			tb.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		b, err := io.ReadAll(archive)
		if err != nil {
			tb.Fatal(err)
		}
		files[h.Name] = b
	}
	if len(files) == 0 {
		tb.Fatalf("%s is empty", name)
	}
	return files
}
