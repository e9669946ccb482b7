package suite

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"slices"
	"testing"
)

// checkAEAD runs one vector through a Cipher: nonce is salt and IV, aad the head,
// and ct ends with the ICV.
func checkAEAD(t *testing.T, encr Transform, key, nonce, aad, text, ct []byte, valid bool) {
	t.Helper()
	c, err := NewCipher(encr, Transform{}, slices.Concat(key, nonce[:4]), nil)
	if err != nil {
		t.Fatal(err)
	}
	sealed := slices.Concat(aad, nonce[4:], ct)
	pkt := slices.Concat(aad, make([]byte, 8), text, make([]byte, c.ICVLen()))
	c.Seal(pkt, len(aad), binary.BigEndian.Uint64(nonce[4:]), ESN{})
	if bytes.Equal(pkt, sealed) != valid {
		t.Errorf("sealed %x, vector (valid: %v) %x", pkt, valid, sealed)
	}
	got, err := c.Open(bytes.Clone(sealed), len(aad), ESN{})
	if (err == nil) != valid || valid && !bytes.Equal(got, text) {
		t.Errorf("opened %x, %v; want %x, valid: %v", got, err, text, valid)
	}
}

func TestWycheproofAEAD(t *testing.T) {
	for _, tt := range []struct {
		name        string
		transform   func(keyBits int) Transform
		all, direct int // of direct the nonce has 12 octets, as ours
	}{
		{"aes_gcm", func(bits int) Transform { return Transform{TypeEncr, EncrAESGCM16, uint16(bits)} }, 316, 197},
		{"chacha20_poly1305", func(int) Transform { return Transform{TypeEncr, EncrChaCha20Poly1305, 0} }, 325, 316},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := readJSON[wycheproof](t, "wycheproof/"+tt.name+"_test.json.gz")
			all, direct := 0, 0
			for _, g := range file.TestGroups {
				for _, v := range g.Tests {
					all++
					ct, valid := slices.Concat(v.CT, v.Tag), v.Result == "valid"
					switch {
					case g.TagSize != 128:
						t.Fatalf("case %d: tag of %d bits", v.TcID, g.TagSize)
					case g.IVSize == 96:
						direct++
						checkAEAD(t, tt.transform(g.KeySize), v.Key, v.IV, v.AAD, v.Msg, ct, valid)
					case tt.name == "aes_gcm" && g.IVSize > 0:
						// Not a nonce of ESP's: the primitive below, alone.
						block, err := aes.NewCipher(v.Key)
						if err != nil {
							t.Fatal(err)
						}
						gcm, err := cipher.NewGCMWithNonceSize(block, g.IVSize/8)
						if err != nil {
							t.Fatal(err)
						}
						got, err := gcm.Open(nil, v.IV, ct, v.AAD)
						if (err == nil) != valid || valid && !bytes.Equal(got, v.Msg) {
							t.Errorf("case %d: %x, %v; want %x, valid: %v", v.TcID, got, err, v.Msg, valid)
						}
					case valid:
						t.Errorf("case %d (%s): valid with a nonce of %d bits, not run", v.TcID, v.Comment, g.IVSize)
					}
					if t.Failed() {
						t.Fatalf("case %d: %s", v.TcID, v.Comment)
					}
				}
			}
			if all != file.NumberOfTests || all != tt.all || direct != tt.direct {
				t.Errorf("%d cases in all, %d through a Cipher; want %d, %d", all, direct, tt.all, tt.direct)
			}
		})
	}
}

func TestStrongswanAEAD(t *testing.T) {
	file := readJSON[strongswan](t, strongswanFile)
	n := 0
	for _, family := range []string{"aes_gcm", "chacha20poly1305"} {
		for _, v := range file.Vectors[family] {
			n++
			t.Run(v.Name, func(t *testing.T) {
				encr := Transform{TypeEncr, EncrChaCha20Poly1305, 0}
				if id := map[string]uint16{
					"ENCR_AES_GCM_ICV16": EncrAESGCM16, "ENCR_AES_GCM_ICV12": EncrAESGCM12, "ENCR_AES_GCM_ICV8": EncrAESGCM8,
				}[v.Alg]; id != 0 {
					encr = Transform{TypeEncr, id, uint16(len(v.Key)-4) * 8}
				}
				key, salt := v.Key[:len(v.Key)-4], v.Key[len(v.Key)-4:]
				checkAEAD(t, encr, key, slices.Concat(salt, v.IV), v.AData, v.Plain, v.Cipher, true)
				bad := bytes.Clone(v.Cipher)
				bad[len(bad)-1] ^= 1
				checkAEAD(t, encr, key, slices.Concat(salt, v.IV), v.AData, v.Plain, bad, false)
			})
		}
	}
	if n != 25 {
		t.Errorf("%d cases, want 25", n)
	}
}

// ACVP has half of its cases with nonces of 15 octets and tags of 4, which no ESP
// cipher has: they check the primitive, sealed whole and truncated.
func TestACVPGCM(t *testing.T) {
	file := readJSON[struct {
		TestGroups []struct {
			KeyLen, IVLen, TagLen int
			Tests                 []struct {
				TcID                      int
				TestPassed                *bool
				Key, IV, AAD, PT, CT, Tag octets
			}
		}
	}](t, "nist-cavp-misc/acvp-ACVP-AES-GCM-1.0.internalProjection.json.gz")
	n := 0
	for _, g := range file.TestGroups {
		for _, v := range g.Tests {
			n++
			valid := v.TestPassed == nil || *v.TestPassed
			ct := slices.Concat(v.CT, v.Tag)
			if g.IVLen == 96 && g.TagLen == 128 {
				if valid || v.PT != nil {
					checkAEAD(t, Transform{TypeEncr, EncrAESGCM16, uint16(g.KeyLen)}, v.Key, v.IV, v.AAD, v.PT, ct, valid)
				}
				continue
			}
			block, err := aes.NewCipher(v.Key)
			if err != nil {
				t.Fatal(err)
			}
			gcm, err := cipher.NewGCMWithNonceSize(block, g.IVLen/8)
			if err != nil {
				t.Fatal(err)
			}
			got := gcm.Seal(nil, v.IV, v.PT, v.AAD)[:len(v.PT)+g.TagLen/8]
			if bytes.Equal(got, ct) != valid {
				t.Errorf("case %d: %x, want %x, valid: %v", v.TcID, got, ct, valid)
			}
		}
	}
	if n != 60 {
		t.Errorf("%d cases, want 60", n)
	}
}

// The vectors have no MAC; it is put around them. The IV of CBC is ours alone when
// we seal, so there the way back is taken.
func TestStrongswanCBCAndCTR(t *testing.T) {
	file := readJSON[strongswan](t, strongswanFile)
	integ, mackey := Transform{TypeInteg, IntegHMACSHA2_256_128, 0}, keyOf(32)
	n := 0
	for family, id := range map[string]uint16{"aes_cbc": EncrAESCBC, "aes_ctr": EncrAESCTR} {
		for _, v := range file.Vectors[family] {
			n++
			t.Run(v.Name, func(t *testing.T) {
				keyLen := len(v.Key)
				if id == EncrAESCTR {
					keyLen -= 4
				}
				c, err := NewCipher(Transform{TypeEncr, id, uint16(keyLen) * 8}, integ, v.Key, mackey)
				if err != nil {
					t.Fatal(err)
				}
				pkt := slices.Concat([]byte("spi+seq!"), v.IV, v.Cipher, make([]byte, 16))
				m, err := newMAC(integ, mackey)
				if err != nil {
					t.Fatal(err)
				}
				m.seal(pkt, ESN{})
				if id == EncrAESCTR {
					ours := slices.Concat([]byte("spi+seq!"), make([]byte, 8), v.Plain, make([]byte, 16))
					c.Seal(ours, 8, binary.BigEndian.Uint64(v.IV), ESN{})
					if !bytes.Equal(ours, pkt) {
						t.Errorf("sealed %x, want %x", ours, pkt)
					}
				}
				if got, err := c.Open(pkt, 8, ESN{}); err != nil || !bytes.Equal(got, v.Plain) {
					t.Errorf("opened %x, %v; want %x", got, err, v.Plain)
				}
			})
		}
	}
	if n != 15 {
		t.Errorf("%d cases, want 15", n)
	}
}
