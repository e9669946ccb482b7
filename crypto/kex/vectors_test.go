package kex

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"martlet/crypto/suite"
)

// vectors opens a file of the vectors folder, unpacked, or skips the test where the
// folder is absent.
func vectors(t *testing.T, name string) io.Reader {
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

func readJSON[T any](t *testing.T, name string) T {
	t.Helper()
	var v T
	if err := json.NewDecoder(vectors(t, name)).Decode(&v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

// wycheproof is what we use of a file of Wycheproof.
type wycheproof struct {
	NumberOfTests int
	TestGroups    []struct {
		Tests []struct {
			TcID                    int
			Comment, Result         string
			Flags                   []string
			Public, Private, Shared octets
		}
	}
}

// The cases marked acceptable are decided so: compressed points are refused, since
// IKE has no place for their form (RFC 5903 §7); for X25519, secrets of zeros are
// refused (RFC 8031 §3.2), and public values on the twist or not reduced are taken,
// as RFC 7748 §5 wants.
func TestWycheproofECDH(t *testing.T) {
	for _, tt := range []struct {
		file   string
		method uint16
		all    int
	}{
		{"ecdh_secp256r1_ecpoint", suite.KEECP256, 355},
		{"ecdh_secp384r1_ecpoint", suite.KEECP384, 790},
		{"ecdh_secp521r1_ecpoint", suite.KEECP521, 661},
		{"x25519", suite.KEX25519, 518},
	} {
		t.Run(tt.file, func(t *testing.T) {
			t.Parallel()
			file := readJSON[wycheproof](t, "wycheproof/"+tt.file+"_test.json.gz")
			all := 0
			for _, g := range file.TestGroups {
				for _, v := range g.Tests {
					all++
					valid := v.Result == "valid"
					wire := []byte(v.Public)
					if tt.method == suite.KEX25519 {
						valid = !slices.Contains(v.Flags, "ZeroSharedSecret")
					} else if len(wire) != 0 && wire[0] == uncompressed {
						wire = wire[1:]
					}
					got, err := withKey(t, tt.method, v.Private).Finish(wire)
					if (err == nil) != valid || valid && !bytes.Equal(got, v.Shared) {
						t.Errorf("case %d (%s, %s %q): %x, %v; want %x", v.TcID, v.Comment, v.Result, v.Flags, got, err, v.Shared)
					}
				}
			}
			if all != tt.all || all != file.NumberOfTests {
				t.Errorf("%d cases, want %d", all, tt.all)
			}
		})
	}
}

func TestStrongswanKeyExchange(t *testing.T) {
	methods := map[string]uint16{
		"MODP_1024_BIT": suite.KEMODP1024, "MODP_1536_BIT": suite.KEMODP1536, "MODP_2048_BIT": suite.KEMODP2048,
		"MODP_3072_BIT": suite.KEMODP3072, "MODP_4096_BIT": suite.KEMODP4096,
		"MODP_6144_BIT": suite.KEMODP6144, "MODP_8192_BIT": suite.KEMODP8192,
		"ECP_256_BIT": suite.KEECP256, "ECP_384_BIT": suite.KEECP384, "ECP_521_BIT": suite.KEECP521,
		"CURVE_25519": suite.KEX25519,
	}
	file := readJSON[struct {
		Vectors map[string][]struct {
			Name, Method string
			Seed, Shared octets
			PubI         octets `json:"pub_i"`
			PubR         octets `json:"pub_r"`
		}
	}](t, "primitives/strongswan_test_vectors.json")
	n := 0
	for _, family := range []string{"modp", "ecp", "curve25519"} {
		for _, v := range file.Vectors[family] {
			method, ok := methods[v.Method]
			if !ok {
				if Supported(map[string]uint16{
					"MODP_768_BIT": suite.KEMODP768, "ECP_192_BIT": 25, "ECP_224_BIT": 26,
				}[v.Method]) {
					t.Errorf("%s is supported and not tested", v.Method)
				}
				continue
			}
			n++
			t.Run(v.Name, func(t *testing.T) {
				// The seed is both private keys, the initiator's first.
				half := len(v.Seed) / 2
				i, r := withKey(t, method, v.Seed[:half]), withKey(t, method, v.Seed[half:])
				if !bytes.Equal(i.Public(), v.PubI) || !bytes.Equal(r.Public(), v.PubR) {
					t.Errorf("public values %x, %x; want %x, %x", i.Public(), r.Public(), v.PubI, v.PubR)
				}
				for _, side := range []struct {
					i    Initiator
					peer []byte
				}{{i, v.PubR}, {r, v.PubI}} {
					if got, err := side.i.Finish(side.peer); err != nil || !bytes.Equal(got, v.Shared) {
						t.Errorf("secret %x, %v; want %x", got, err, v.Shared)
					}
				}
			})
		}
	}
	if n != 12 {
		t.Errorf("%d cases, want 12", n)
	}
}

// NIST's primitive test of the cofactor Diffie-Hellman on P-256, P-384 and P-521.
func TestCAVPECDH(t *testing.T) {
	methods := map[string]uint16{"[P-256]": suite.KEECP256, "[P-384]": suite.KEECP384, "[P-521]": suite.KEECP521}
	var method uint16
	n := map[uint16]int{}
	value := map[string][]byte{}
	lines := bufio.NewScanner(vectors(t, "nist-cavp-misc/KAS_ECC_CDH_PrimitiveTest.txt.gz"))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			method = methods[line]
			continue
		}
		name, digits, found := strings.Cut(line, " = ")
		if !found || name == "COUNT" || method == 0 {
			continue
		}
		b, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		value[name] = b
		if name != "ZIUT" {
			continue
		}
		n[method]++
		// The file writes coordinates in whole words of 32 bits.
		point := func(x, y string) []byte {
			size := PublicLen(method) / 2
			return slices.Concat(value[x][len(value[x])-size:], value[y][len(value[y])-size:])
		}
		pair := withKey(t, method, value["dIUT"])
		if want := point("QIUTx", "QIUTy"); !bytes.Equal(pair.Public(), want) {
			t.Errorf("%s, case %d: public %x, want %x", suite.KEName(method), n[method], pair.Public(), want)
		}
		got, err := pair.Finish(point("QCAVSx", "QCAVSy"))
		if err != nil || !bytes.Equal(got, b) {
			t.Errorf("%s, case %d: %x, %v; want %x", suite.KEName(method), n[method], got, err, b)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	for name, method := range methods {
		if n[method] != 25 {
			t.Errorf("%s: %d cases, want 25", name, n[method])
		}
	}
}
