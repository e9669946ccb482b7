package suite

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"testing"
)

// kinds are all ciphers that are built, by the keywords of an ESP proposal.
var kinds = func() []string {
	all := []string{"chacha20poly1305"}
	for _, bits := range []string{"128", "192", "256"} {
		for _, mode := range []string{"gcm16", "gcm12", "gcm8"} {
			all = append(all, "aes"+bits+mode)
		}
		for _, mode := range []string{"", "ctr"} {
			for _, integ := range []string{"sha256", "sha384", "sha512", "sha1"} {
				all = append(all, "aes"+bits+mode+"-"+integ)
			}
		}
	}
	return all
}()

// keyOf returns n octets that differ.
func keyOf(n int) []byte {
	key := make([]byte, n)
	for i := range key {
		key[i] = byte(i*7 + n)
	}
	return key
}

// newPair returns two ciphers with the same keys.
func newPair(t testing.TB, kind string) (seal, open Cipher) {
	t.Helper()
	s, err := parse(t, ProtocolESP, kind+"-noesn")[0].Suite()
	if err != nil {
		t.Fatal(err)
	}
	encr, integ, err := s.KeyLens()
	if err != nil {
		t.Fatal(err)
	}
	var pair [2]Cipher
	for i := range pair {
		if pair[i], err = NewCipher(s.Encr, s.Integ, keyOf(encr), keyOf(integ)); err != nil {
			t.Fatal(err)
		}
	}
	return pair[0], pair[1]
}

// packet lays out a packet with head octets of head and n of text.
func packet(c Cipher, head, n int) (pkt, text []byte) {
	pkt = make([]byte, head+c.IVLen()+n+c.ICVLen())
	for i := range pkt {
		pkt[i] = byte(i)
	}
	return pkt, bytes.Clone(pkt[head+c.IVLen() : len(pkt)-c.ICVLen()])
}

func TestCipherRoundTrip(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			seal, open := newPair(t, kind)
			for _, tt := range []struct {
				head int
				esn  ESN
			}{{8, ESN{}}, {8, ESN{On: true, High: 1}}, {32, ESN{}}, {0, ESN{}}, {1000, ESN{}}} {
				for n := 0; n <= 20*seal.BlockLen()+48; n += seal.BlockLen() {
					pkt, text := packet(seal, tt.head, n)
					head := bytes.Clone(pkt[:tt.head])
					// Octets behind the packet belong to the next one of the slab.
					slab := append(bytes.Clone(pkt), "next packet"...)
					pkt = slab[:len(pkt)]
					seal.Seal(pkt, tt.head, uint64(n), tt.esn)
					if !bytes.Equal(pkt[:tt.head], head) || string(slab[len(pkt):]) != "next packet" {
						t.Fatal("sealing wrote outside of its octets")
					}
					if n >= 16 && bytes.Contains(pkt[tt.head:], text) {
						t.Fatal("text is not encrypted")
					}
					got, err := open.Open(pkt, tt.head, tt.esn)
					if err != nil || !bytes.Equal(got, text) {
						t.Fatalf("head %d, text %d, %+v: %x, %v; want %x", tt.head, n, tt.esn, got, err, text)
					}
					if len(got) != 0 && &got[0] != &pkt[tt.head+open.IVLen()] {
						t.Fatal("text is not a part of the packet")
					}
				}
			}
		})
	}
}

// Every bit of a packet counts, and so does the high half of the sequence number.
func TestCipherRefusesEveryChange(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			seal, open := newPair(t, kind)
			for _, esn := range []ESN{{}, {On: true, High: 7}} {
				sealed, _ := packet(seal, 8, 48)
				seal.Seal(sealed, 8, 42, esn)
				try := func(what string, pkt []byte, head int, esn ESN, want error) {
					t.Helper()
					if text, err := open.Open(pkt, head, esn); err != want {
						t.Fatalf("%s: %x, %v; want %v", what, text, err, want)
					}
				}
				for bit := range len(sealed) * 8 {
					pkt := bytes.Clone(sealed)
					pkt[bit/8] ^= 1 << (bit % 8)
					try(fmt.Sprintf("bit %d", bit), pkt, 8, esn, ErrICV)
				}
				try("other high half", bytes.Clone(sealed), 8, ESN{On: true, High: 8}, ErrICV)
				try("other kind of number", bytes.Clone(sealed), 8, ESN{On: !esn.On, High: esn.High}, ErrICV)
				for n := range sealed {
					text, err := open.Open(bytes.Clone(sealed[:n]), 8, esn)
					if err == nil {
						t.Fatalf("truncated to %d octets: %x", n, text)
					}
					if n < 8+open.IVLen()+open.ICVLen() && err != ErrLength {
						t.Fatalf("truncated to %d octets: %v", n, err)
					}
				}
				try("negative head", bytes.Clone(sealed), -1, ESN{}, ErrLength)
				try("head behind the end", bytes.Clone(sealed), len(sealed)+1, ESN{}, ErrLength)
				// It was a good packet all the time.
				try("no change", bytes.Clone(sealed), 8, esn, nil)
			}
			pkt, _ := packet(seal, 4, 48)
			if _, err := open.Open(pkt, 4, ESN{On: true}); err != ErrLength {
				t.Errorf("extended number in a head that is not ESP's: %v", err)
			}
		})
	}
}

func TestCipherLengths(t *testing.T) {
	for kind, want := range map[string][5]int{ // IV, ICV, block, encryption key, integrity key
		"aes128gcm16":      {8, 16, 1, 20, 0},
		"aes192gcm12":      {8, 12, 1, 28, 0},
		"aes256gcm8":       {8, 8, 1, 36, 0},
		"chacha20poly1305": {8, 16, 1, 36, 0},
		"aes128-sha1":      {16, 12, 16, 16, 20},
		"aes256-sha256":    {16, 16, 16, 32, 32},
		"aes192ctr-sha384": {8, 24, 1, 28, 48},
		"aes256ctr-sha512": {8, 32, 1, 36, 64},
	} {
		c, _ := newPair(t, kind)
		s, err := parse(t, ProtocolESP, kind+"-noesn")[0].Suite()
		if err != nil {
			t.Fatal(err)
		}
		encr, integ, err := s.KeyLens()
		if got := [5]int{c.IVLen(), c.ICVLen(), c.BlockLen(), encr, integ}; got != want || err != nil {
			t.Errorf("%s: got %v, %v; want %v", kind, got, err, want)
		}
	}
}

func TestNewCipherErrors(t *testing.T) {
	gcm := Transform{TypeEncr, EncrAESGCM16, 256}
	cbc := Transform{TypeEncr, EncrAESCBC, 256}
	sha := Transform{TypeInteg, IntegHMACSHA2_256_128, 0}
	for name, tt := range map[string]struct {
		encr, integ   Transform
		encrN, integN int
	}{
		"nothing":                {},
		"key too short":          {encr: gcm, encrN: 35},
		"key too long":           {encr: gcm, encrN: 37},
		"AEAD with integrity":    {encr: gcm, integ: sha, encrN: 36, integN: 32},
		"AEAD with a key for it": {encr: gcm, encrN: 36, integN: 32},
		"no integrity":           {encr: cbc, encrN: 32},
		"integrity key short":    {encr: cbc, integ: sha, encrN: 32, integN: 31},
		"other key length":       {encr: Transform{TypeEncr, EncrAESGCM16, 512}, encrN: 68},
		"no key length":          {encr: Transform{TypeEncr, EncrAESGCM16, 0}, encrN: 36},
		"ChaCha20 with one":      {encr: Transform{TypeEncr, EncrChaCha20Poly1305, 256}, encrN: 36},
		"3DES":                   {encr: Transform{TypeEncr, Encr3DES, 0}, integ: sha, encrN: 24, integN: 32},
		"NULL":                   {encr: Transform{TypeEncr, EncrNULL, 0}, integ: sha, integN: 32},
		"integrity as cipher":    {encr: sha, integ: sha, encrN: 32, integN: 32},
		"MD5":                    {encr: cbc, integ: Transform{TypeInteg, 1, 0}, encrN: 32, integN: 16},
	} {
		if c, err := NewCipher(tt.encr, tt.integ, keyOf(tt.encrN), keyOf(tt.integN)); err == nil {
			t.Errorf("%s: got %T", name, c)
		}
	}
}

// The IV on the wire: counter modes send the number, CBC one that nobody can tell.
func TestCipherIV(t *testing.T) {
	for _, kind := range kinds {
		seal, other := newPair(t, kind)
		a, _ := packet(seal, 8, 32)
		b, _ := packet(seal, 8, 32)
		seal.Seal(a, 8, 0x0102030405060708, ESN{})
		other.Seal(b, 8, 0x0102030405060708, ESN{})
		iv := a[8 : 8+seal.IVLen()]
		if seal.BlockLen() == 1 {
			if got := binary.BigEndian.Uint64(iv); got != 0x0102030405060708 {
				t.Errorf("%s: IV %#x", kind, got)
			}
			continue
		}
		if bytes.Equal(iv, b[8:8+seal.IVLen()]) {
			t.Errorf("%s: two ciphers make the same IV %x", kind, iv)
		}
		seen := map[string]bool{}
		for n := range uint64(1000) {
			seal.Seal(a, 8, n, ESN{})
			seen[string(iv)] = true
		}
		if len(seen) != 1000 {
			t.Errorf("%s: %d different IVs of 1000", kind, len(seen))
		}
	}
}

// CBC and CTR against the standard library's modes.
func TestCipherAgainstStandardModes(t *testing.T) {
	for _, n := range []int{0, 16, 160, 1408} {
		key := keyOf(32)
		block, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		integ, mackey := Transform{TypeInteg, IntegHMACSHA2_256_128, 0}, keyOf(32)

		c, err := NewCipher(Transform{TypeEncr, EncrAESCBC, 256}, integ, key, mackey)
		if err != nil {
			t.Fatal(err)
		}
		pkt, text := packet(c, 8, n)
		c.Seal(pkt, 8, 9, ESN{})
		got := bytes.Clone(pkt[24 : len(pkt)-16])
		cipher.NewCBCDecrypter(block, pkt[8:24]).CryptBlocks(got, got)
		if !bytes.Equal(got, text) {
			t.Errorf("CBC, %d octets: %x, want %x", n, got, text)
		}

		c, err = NewCipher(Transform{TypeEncr, EncrAESCTR, 256}, integ, append(bytes.Clone(key), "salt"...), mackey)
		if err != nil {
			t.Fatal(err)
		}
		pkt, text = packet(c, 8, n+5)
		c.Seal(pkt, 8, 9, ESN{})
		got = bytes.Clone(pkt[16 : len(pkt)-16])
		counter := append([]byte("salt"), pkt[8:16]...)
		cipher.NewCTR(block, append(counter, 0, 0, 0, 1)).XORKeyStream(got, got)
		if !bytes.Equal(got, text) {
			t.Errorf("CTR, %d octets: %x, want %x", n, got, text)
		}
	}
}

// The packet path makes no garbage, good packet or bad.
func TestCipherDoesNotAllocate(t *testing.T) {
	for _, kind := range kinds {
		for _, esn := range []ESN{{}, {On: true, High: 3}} {
			seal, open := newPair(t, kind)
			pkt, _ := packet(seal, 8, 1408)
			var iv uint64
			seal.Seal(pkt, 8, iv, esn) // memory that grows with the largest packet
			if _, err := open.Open(pkt, 8, esn); err != nil {
				t.Fatal(err)
			}
			n := testing.AllocsPerRun(100, func() {
				iv++
				seal.Seal(pkt, 8, iv, esn)
				if _, err := open.Open(pkt, 8, esn); err != nil {
					t.Fatal(err)
				}
			})
			if n != 0 {
				t.Errorf("%s, %+v: %v allocations for a packet sealed and opened", kind, esn, n)
			}
			seal.Seal(pkt, 8, iv, esn)
			pkt[len(pkt)-1] ^= 1
			n = testing.AllocsPerRun(100, func() {
				if _, err := open.Open(pkt, 8, esn); err == nil {
					t.Fatal("opened a forged packet")
				}
			})
			if n != 0 {
				t.Errorf("%s, %+v: %v allocations for a forged packet", kind, esn, n)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	for i, kind := range kinds {
		seal, _ := newPair(f, kind)
		pkt, _ := packet(seal, 8, 32)
		seal.Seal(pkt, 8, 5, ESN{On: i%2 == 0, High: 1})
		f.Add(uint8(i), pkt, 8, i%2 == 0)
	}
	f.Fuzz(func(t *testing.T, i uint8, pkt []byte, head int, esn bool) {
		seal, open := newPair(t, kinds[int(i)%len(kinds)])
		sealed := bytes.Clone(pkt)
		text, err := open.Open(pkt, head, ESN{On: esn, High: 1})
		if err != nil {
			return
		}
		// Whatever opens is what these keys seal.
		if seal.BlockLen() == 1 {
			seal.Seal(pkt, head, binary.BigEndian.Uint64(pkt[head:]), ESN{On: esn, High: 1})
			if !bytes.Equal(pkt, sealed) {
				t.Errorf("opened %x to %x, which seals to %x", sealed, text, pkt)
			}
		}
	})
}

func BenchmarkCipher(b *testing.B) {
	for _, kind := range []string{"aes128gcm16", "aes256gcm16", "aes256gcm8", "chacha20poly1305", "aes256-sha256", "aes256ctr-sha256"} {
		for _, n := range []int{64, 1400, 8900} {
			seal, open := newPair(b, kind)
			n -= n % seal.BlockLen()
			pkt, _ := packet(seal, 8, n)
			b.Run(fmt.Sprintf("%s/seal/%d", kind, n), func(b *testing.B) {
				b.SetBytes(int64(n))
				b.ReportAllocs()
				var iv uint64
				for b.Loop() {
					iv++
					seal.Seal(pkt, 8, iv, ESN{})
				}
			})
			b.Run(fmt.Sprintf("%s/open/%d", kind, n), func(b *testing.B) {
				seal.Seal(pkt, 8, 1, ESN{})
				work := bytes.Clone(pkt)
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					copy(work, pkt)
					if _, err := open.Open(work, 8, ESN{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkRawGCM is what the standard library needs for the same text: the measure
// for aes256gcm16 above.
func BenchmarkRawGCM(b *testing.B) {
	block, err := aes.NewCipher(keyOf(32))
	if err != nil {
		b.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{64, 1400, 8900} {
		text, nonce, head := make([]byte, n+16), make([]byte, 12), make([]byte, 8)
		b.Run(fmt.Sprintf("seal/%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				gcm.Seal(text[:0], nonce, text[:n], head)
			}
		})
		sealed := gcm.Seal(nil, nonce, make([]byte, n), head)
		b.Run(fmt.Sprintf("open/%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				copy(text, sealed)
				if _, err := gcm.Open(text[:0], nonce, text, head); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
