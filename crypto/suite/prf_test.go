package suite

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// NIST's CAVP cases for the key derivation of IKEv2 (RFC 7296 §2.14, §2.17, §2.18).
// IKEv2 has no PRF on SHA-224, but the construction is the same.
func TestCAVPIKEv2KDF(t *testing.T) {
	prfs := map[string]PRF{
		"SHA-1":   hmacPRF{sha1.New, sha1.Size},
		"SHA-224": hmacPRF{sha256.New224, sha256.Size224},
		"SHA-256": hmacPRF{sha256.New, sha256.Size},
		"SHA-384": hmacPRF{sha512.New384, sha512.Size384},
		"SHA-512": hmacPRF{sha512.New, sha512.Size},
	}
	var prf PRF
	var dkmLen, childLen, done int
	value := map[string][]byte{}
	lines := bufio.NewScanner(vectors(t, "nist-cavp-ikev2/ikev2.rsp"))
	lines.Buffer(nil, 1<<16)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			name, bits, found := strings.Cut(strings.Trim(line, "[]"), " = ")
			if !found {
				prf = prfs[name]
				continue
			}
			n, err := strconv.Atoi(bits)
			if err != nil {
				t.Fatal(err)
			}
			switch name {
			case "DKM length":
				dkmLen = n / 8
			case "Child SA DKM length":
				childLen = n / 8
			}
			continue
		}
		name, digits, found := strings.Cut(line, " = ")
		if !found || name == "COUNT" {
			continue
		}
		b, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		value[name] = b
		if name != "SKEYSEED(Rekey)" {
			continue
		}
		done++
		nonces := slices.Concat(value["Ni"], value["Nr"])
		skeyseed := prf.Sum(nonces, value["g^ir"])
		dkm := PRFPlus(prf, skeyseed, slices.Concat(nonces, value["SPIi"], value["SPIr"]), dkmLen)
		skD := dkm[:prf.KeyLen()]
		fresh := value["g^ir (new)"]
		for label, got := range map[string][]byte{
			"SKEYSEED":          skeyseed,
			"DKM":               dkm,
			"DKM(Child SA)":     PRFPlus(prf, skD, nonces, childLen),
			"DKM(Child SA D-H)": PRFPlus(prf, skD, slices.Concat(fresh, nonces), childLen),
			"SKEYSEED(Rekey)":   prf.Sum(skD, fresh, nonces),
		} {
			if !bytes.Equal(got, value[label]) {
				t.Errorf("case %d: %s = %x, want %x", done, label, got, value[label])
			}
		}
		clear(value)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if done != 280 {
		t.Errorf("%d cases, want 280", done)
	}
}

func TestWycheproofHMAC(t *testing.T) {
	for _, tt := range []struct {
		name       string
		prf, integ uint16
		all        int
	}{
		{"sha1", PRFHMACSHA1, IntegHMACSHA1_96, 170},
		{"sha256", PRFHMACSHA256, IntegHMACSHA2_256_128, 174},
		{"sha384", PRFHMACSHA384, IntegHMACSHA2_384_192, 174},
		{"sha512", PRFHMACSHA512, IntegHMACSHA2_512_256, 174},
	} {
		t.Run(tt.name, func(t *testing.T) {
			prf, err := NewPRF(Transform{TypePRF, tt.prf, 0})
			if err != nil {
				t.Fatal(err)
			}
			file := readJSON[wycheproof](t, "wycheproof/hmac_"+tt.name+"_test.json.gz")
			all := 0
			for _, g := range file.TestGroups {
				for _, v := range g.Tests {
					all++
					valid := v.Result == "valid"
					if got := prf.Sum(v.Key, v.Msg)[:g.TagSize/8]; bytes.Equal(got, v.Tag) != valid {
						t.Errorf("case %d (%s): %x, want %x, valid: %v", v.TcID, v.Comment, got, v.Tag, valid)
					}
					// The integrity algorithm takes keys of any length here, as HMAC does.
					m, err := newMAC(Transform{TypeInteg, tt.integ, 0}, v.Key)
					if err != nil {
						t.Fatal(err)
					}
					tag := v.Tag
					if len(tag) < m.icvLen {
						continue
					}
					// A full tag that is wrong only behind the truncation is right.
					want := valid || bytes.Equal(tag[:m.icvLen], prf.Sum(v.Key, v.Msg)[:m.icvLen])
					if got := m.open(slices.Concat(v.Msg, tag[:m.icvLen]), ESN{}); got != want {
						t.Errorf("case %d (%s): truncated to %d octets: %v, want %v", v.TcID, v.Comment, m.icvLen, got, want)
					}
				}
			}
			if all != file.NumberOfTests || all != tt.all {
				t.Errorf("%d cases, want %d", all, tt.all)
			}
		})
	}
}

func TestStrongswanPRFAndHMAC(t *testing.T) {
	ids := map[string]Transform{
		"PRF_HMAC_SHA1":          {TypePRF, PRFHMACSHA1, 0},
		"PRF_HMAC_SHA2_256":      {TypePRF, PRFHMACSHA256, 0},
		"PRF_HMAC_SHA2_384":      {TypePRF, PRFHMACSHA384, 0},
		"PRF_HMAC_SHA2_512":      {TypePRF, PRFHMACSHA512, 0},
		"AUTH_HMAC_SHA1_96":      {TypeInteg, IntegHMACSHA1_96, 0},
		"AUTH_HMAC_SHA2_256_128": {TypeInteg, IntegHMACSHA2_256_128, 0},
		"AUTH_HMAC_SHA2_384_192": {TypeInteg, IntegHMACSHA2_384_192, 0},
		"AUTH_HMAC_SHA2_512_256": {TypeInteg, IntegHMACSHA2_512_256, 0},
	}
	// HMAC-SHA1 with ICVs of 128 and 160 bits is not an algorithm of ESP in IKEv2, but
	// what we have is theirs truncated.
	longer := map[string]int{"AUTH_HMAC_SHA1_128": 16, "AUTH_HMAC_SHA1_160": 20}
	for name := range longer {
		ids[name] = ids["AUTH_HMAC_SHA1_96"]
	}
	file := readJSON[strongswan](t, strongswanFile)
	n := map[string]int{}
	for _, family := range []string{"kdf_prf", "kdf_prf_plus", "sha1_hmac", "sha2_hmac"} {
		for _, v := range file.Vectors[family] {
			name := v.Alg
			if v.PRF != "" {
				name = v.PRF
			}
			id, ok := ids[name]
			if !ok {
				t.Errorf("%s: algorithm %s is not known to the test", v.Name, name)
				continue
			}
			n[family]++
			t.Run(v.Name, func(t *testing.T) {
				if id.Type == TypeInteg {
					m, err := newMAC(id, v.Key)
					if err != nil {
						t.Fatal(err)
					}
					if n := longer[name]; n != 0 {
						m.icvLen = n
					}
					// One vector for 96 bits goes on with octets that belong to nothing.
					if got := m.icv(v.Data, ESN{}); !bytes.Equal(got, v.MAC[:m.icvLen]) {
						t.Errorf("got %x, want %x", got, v.MAC)
					}
					return
				}
				prf, err := NewPRF(id)
				if err != nil {
					t.Fatal(err)
				}
				var got []byte
				switch family {
				case "kdf_prf":
					// Key is g^ir, salt the nonces: SKEYSEED (RFC 7296 §2.14).
					got = prf.Sum(v.Salt, v.Key)
				case "kdf_prf_plus":
					got = PRFPlus(prf, v.Key, v.Salt, len(v.Out))
				default:
					got = prf.Sum(v.Key, v.Seed)
				}
				if !bytes.Equal(got, v.Out) {
					t.Errorf("got %x, want %x", got, v.Out)
				}
			})
		}
	}
	want := map[string]int{"kdf_prf": 6, "kdf_prf_plus": 7, "sha1_hmac": 12, "sha2_hmac": 24}
	if diff := cmp.Diff(want, n); diff != "" {
		t.Errorf("cases (-want +got):\n%s", diff)
	}
}

func TestPRF(t *testing.T) {
	for id, size := range map[uint16]int{PRFHMACSHA1: 20, PRFHMACSHA256: 32, PRFHMACSHA384: 48, PRFHMACSHA512: 64} {
		p, err := NewPRF(Transform{TypePRF, id, 0})
		if err != nil {
			t.Fatal(err)
		}
		if p.Size() != size || p.KeyLen() != size {
			t.Errorf("%d: size %d, key %d; want %d", id, p.Size(), p.KeyLen(), size)
		}
		if a, b := p.Sum([]byte("k"), []byte("ab"), nil, []byte("c")), p.Sum([]byte("k"), []byte("abc")); !bytes.Equal(a, b) {
			t.Errorf("%d: parts give %x, the whole %x", id, a, b)
		}
		long := PRFPlus(p, []byte("k"), []byte("s"), 255*size)
		for _, n := range []int{0, 1, size, size + 1, 255 * size} {
			if got := PRFPlus(p, []byte("k"), []byte("s"), n); !bytes.Equal(got, long[:n]) {
				t.Errorf("%d: prf+ of %d octets is not a part of the longest", id, n)
			}
		}
	}
	for _, bad := range []Transform{{TypePRF, 1, 0}, {TypePRF, PRFHMACSHA256, 128}, {TypeInteg, PRFHMACSHA256, 0}, {}} {
		if p, err := NewPRF(bad); err == nil {
			t.Errorf("%v gives %v", bad, p)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("prf+ of 256 blocks does not stop the program")
		}
	}()
	p, _ := NewPRF(Transform{TypePRF, PRFHMACSHA256, 0})
	PRFPlus(p, nil, nil, 255*32+1)
}

func TestSecretIsRedacted(t *testing.T) {
	s := Secret("canary")
	encoded, err := json.Marshal(map[string]any{"s": s, "p": &s, "in": []Secret{s}})
	if err != nil {
		t.Fatal(err)
	}
	out := string(encoded)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%08b", "%c"} {
		out += "\n" + fmt.Sprintf(verb, s) + fmt.Sprintf(verb, struct{ S Secret }{s}) + fmt.Sprintf(verb, []Secret{s})
	}
	out += s.String() + s.GoString()
	for _, leak := range []string{"canary", "63616e617279", "99 97", "63, 0x61", "01100011", "Y2FuYXJ5"} {
		if strings.Contains(strings.ToLower(out), strings.ToLower(leak)) {
			t.Errorf("%q is in\n%s", leak, out)
		}
	}
	if got := fmt.Sprint(s); got != "[redacted]" {
		t.Errorf("prints %q", got)
	}
	if text, err := s.MarshalText(); err != nil || string(text) != "[redacted]" {
		t.Errorf("text %q, %v", text, err)
	}
}
