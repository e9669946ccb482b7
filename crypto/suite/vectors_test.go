package suite

import (
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// vectors opens a file of the vectors folder, unpacked, or skips the test where the
// folder is absent.
func vectors(t testing.TB, name string) io.Reader {
	t.Helper()
	dir := os.Getenv("MARTLET_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "vectors")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no test vectors: %v (set MARTLET_VECTORS)", err)
	}
	f, err := os.Open(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if !strings.HasSuffix(name, ".gz") {
		return f
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// octets is a string of hexadecimal digits in JSON, with or without "hex:" in front.
type octets []byte

func (o *octets) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	b, err := hex.DecodeString(strings.TrimPrefix(s, "hex:"))
	*o = b
	return err
}

// wycheproof is what we use of a file of Wycheproof.
type wycheproof struct {
	NumberOfTests int
	TestGroups    []struct {
		IVSize, KeySize, TagSize int
		Tests                    []struct {
			TcID                       int
			Comment, Result            string
			Key, IV, AAD, Msg, CT, Tag octets
		}
	}
}

func readJSON[T any](t testing.TB, name string) T {
	t.Helper()
	var v T
	if err := json.NewDecoder(vectors(t, name)).Decode(&v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

// strongswan is what we use of strongSwan's vectors, by family.
type strongswan struct {
	Vectors map[string][]struct {
		Name, Alg                  string
		PRF                        string `json:"arg.prf"`
		Key, IV, AData             octets
		Plain, Cipher              octets
		Seed, Out, Salt, Data, MAC octets
	}
}

const strongswanFile = "primitives/strongswan_test_vectors.json"
