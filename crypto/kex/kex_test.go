package kex

import (
	"bytes"
	"crypto/ecdh"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"martlet/crypto/suite"
)

// methods are all that is supported, with the length of the initiator's value, of the
// secret and of the responder's value.
var methods = []struct {
	id                    uint16
	public, secret, reply int
}{
	{suite.KEX25519, 32, 32, 32},
	{suite.KEECP256, 64, 32, 64},
	{suite.KEECP384, 96, 48, 96},
	{suite.KEECP521, 132, 66, 132},
	{suite.KEMODP1024, 128, 128, 128},
	{suite.KEMODP1536, 192, 192, 192},
	{suite.KEMODP2048, 256, 256, 256},
	{suite.KEMODP3072, 384, 384, 384},
	{suite.KEMODP4096, 512, 512, 512},
	{suite.KEMODP6144, 768, 768, 768},
	{suite.KEMODP8192, 1024, 1024, 1024},
	{suite.KEMLKEM768, 1184, 32, 1088},
	{suite.KEMLKEM1024, 1568, 32, 1568},
}

func TestExchange(t *testing.T) {
	for _, m := range methods {
		t.Run(suite.KEName(m.id), func(t *testing.T) {
			i, err := Generate(m.id)
			if err != nil {
				t.Fatal(err)
			}
			if i.Method() != m.id || len(i.Public()) != m.public || PublicLen(m.id) != m.public || ReplyLen(m.id) != m.reply || !Supported(m.id) {
				t.Errorf("method %d, %d octets, PublicLen %d, ReplyLen %d; want %d, %d, %d", i.Method(), len(i.Public()), PublicLen(m.id), ReplyLen(m.id), m.id, m.public, m.reply)
			}
			public, secret, err := Respond(m.id, i.Public())
			if err != nil {
				t.Fatal(err)
			}
			got, err := i.Finish(public)
			if err != nil {
				t.Fatal(err)
			}
			if len(public) != m.reply || len(secret) != m.secret || !bytes.Equal(got, secret) {
				t.Errorf("public %d octets, secrets %x and %x", len(public), got, secret)
			}
			other, _, err := Respond(m.id, i.Public())
			if err != nil || bytes.Equal(other, public) {
				t.Errorf("two exchanges send the same value, %v", err)
			}
		})
	}
}

// What the word list of package suite promises is there, and only that.
func TestSupportedIsWhatSuiteParses(t *testing.T) {
	for id := range uint16(64) {
		if id == suite.KENone {
			continue
		}
		_, err := suite.ParseProposal(suite.ProtocolESP, "aes256gcm16-"+suite.KEName(id))
		if (err == nil) != Supported(id) {
			t.Errorf("%s: supported %v, reading it: %v", suite.KEName(id), Supported(id), err)
		}
	}
}

func TestSlow(t *testing.T) {
	for _, m := range methods {
		want := m.id >= suite.KEMODP3072 && m.id <= suite.KEMODP8192
		if got := Slow(m.id); got != want {
			t.Errorf("%s: %v, want %v", suite.KEName(m.id), got, want)
		}
	}
}

// Row 10 of the threat history (CVE-2014-9221): every group number there is, and
// every wrong length of those that are known.
func TestRow10EveryGroupNumber(t *testing.T) {
	for id := range 1 << 16 {
		method := uint16(id)
		n := PublicLen(method)
		if Supported(method) != (n != 0) {
			t.Fatalf("%d: supported, but of length %d", method, n)
		}
		if n != 0 {
			continue
		}
		if _, err := Generate(method); err == nil {
			t.Errorf("Generate(%d) works", method)
		}
		for _, n := range []int{0, 1, 32, 256} {
			if _, _, err := Respond(method, make([]byte, n)); err == nil {
				t.Errorf("Respond(%d) works with %d octets", method, n)
			}
		}
	}
	for _, m := range methods {
		i, err := Generate(m.id)
		if err != nil {
			t.Fatal(err)
		}
		long := append(slices.Clone(i.Public()), 0)
		for n := range long {
			if n != m.public {
				if _, _, err := Respond(m.id, long[:n]); err == nil {
					t.Errorf("%s: Respond takes %d octets", suite.KEName(m.id), n)
				}
			}
			if n == m.reply {
				continue
			}
			if _, err := i.Finish(long[:n]); err == nil {
				t.Errorf("%s: Finish takes %d octets", suite.KEName(m.id), n)
			}
		}
		for _, bad := range [][]byte{nil, long, append([]byte{0}, i.Public()...), append([]byte{4}, i.Public()...), make([]byte, 65535)} {
			if _, _, err := Respond(m.id, bad); err == nil {
				t.Errorf("%s: Respond takes %d octets", suite.KEName(m.id), len(bad))
			}
		}
	}
}

// refuses wants both roles to refuse a value.
func refuses(t *testing.T, method uint16, name string, value []byte) {
	t.Helper()
	if _, secret, err := Respond(method, value); err == nil {
		t.Errorf("%s: responder takes %s: secret %x", suite.KEName(method), name, secret)
	}
	i, err := Generate(method)
	if err != nil {
		t.Fatal(err)
	}
	if secret, err := i.Finish(value); err == nil {
		t.Errorf("%s: initiator takes %s: secret %x", suite.KEName(method), name, secret)
	}
}

// Row 53 of the threat history (CVE-2017-11185, CVE-2023-41913 and others):
// degenerate public values of MODP groups.
func TestRow53DegenerateMODP(t *testing.T) {
	for _, m := range methods {
		g, ok := modpGroupOf(m.id)
		if !ok {
			continue
		}
		p, _ := new(big.Int).SetString(g.prime, 16)
		for name, v := range map[string]*big.Int{
			"0": big.NewInt(0), "1": big.NewInt(1),
			"p-1": new(big.Int).Sub(p, big.NewInt(1)), "p": p, "p+1": new(big.Int).Add(p, big.NewInt(1)),
			"all ones": new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), uint(m.public*8)), big.NewInt(1)),
		} {
			refuses(t, m.id, name, v.FillBytes(make([]byte, m.public)))
		}
		for name, v := range map[string]*big.Int{"2": big.NewInt(2), "p-2": new(big.Int).Sub(p, big.NewInt(2))} {
			if _, _, err := Respond(m.id, v.FillBytes(make([]byte, m.public))); err != nil {
				t.Errorf("%s: responder refuses %s: %v", suite.KEName(m.id), name, err)
			}
		}
	}
}

// Row 53: ECP points off the curve, at infinity, with coordinates that are not
// reduced, or of another curve.
func TestRow53DegenerateECP(t *testing.T) {
	fields := map[uint16]string{
		suite.KEECP256: "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
		suite.KEECP384: "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffff",
		suite.KEECP521: "1ff" + string(bytes.Repeat([]byte("f"), 128)),
	}
	for method, digits := range fields {
		p, _ := new(big.Int).SetString(digits, 16)
		n := PublicLen(method) / 2
		i, err := Generate(method)
		if err != nil {
			t.Fatal(err)
		}
		good := i.Public()
		change := func(f func([]byte)) []byte {
			v := slices.Clone(good)
			f(v)
			return v
		}
		refuses(t, method, "infinity", make([]byte, 2*n))
		refuses(t, method, "all ones", bytes.Repeat([]byte{0xff}, 2*n))
		refuses(t, method, "a changed x", change(func(v []byte) { v[n-1] ^= 1 }))
		refuses(t, method, "a changed y", change(func(v []byte) { v[2*n-1] ^= 1 }))
		refuses(t, method, "x swapped with y", append(slices.Clone(good[n:]), good[:n]...))
		refuses(t, method, "x = p", change(func(v []byte) { p.FillBytes(v[:n]) }))
		refuses(t, method, "x + p, or x without y", change(func(v []byte) {
			x := new(big.Int).SetBytes(v[:n])
			if x.Add(x, p); x.BitLen() <= n*8 {
				x.FillBytes(v[:n])
			} else {
				clear(v[n:])
			}
		}))
	}
}

// Row 53: points of small order on Curve25519 and its twist, also not reduced, and
// with the bit that is ignored.
func TestRow53DegenerateX25519(t *testing.T) {
	for _, digits := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
		"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
	} {
		value, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		refuses(t, suite.KEX25519, digits, value)
		value[31] |= 0x80
		refuses(t, suite.KEX25519, digits+" with the high bit", value)
	}
}

// The primes are what their definition says.
func TestPrimes(t *testing.T) {
	// 2^8192 * pi by Machin's formula.
	const guard, bits = 64, 8192
	one := new(big.Int).Lsh(big.NewInt(1), bits+guard)
	arctan := func(x int64) *big.Int {
		term := new(big.Int).Div(one, big.NewInt(x))
		sum := new(big.Int).Set(term)
		for n := int64(3); term.Sign() != 0; n += 2 {
			term.Div(term, big.NewInt(x*x))
			part := new(big.Int).Div(term, big.NewInt(n))
			if n%4 == 3 {
				part.Neg(part)
			}
			sum.Add(sum, part)
		}
		return sum
	}
	pi := new(big.Int).Mul(arctan(5), big.NewInt(4))
	pi.Sub(pi, arctan(239)).Mul(pi, big.NewInt(4)).Rsh(pi, guard)

	for method, tt := range map[uint16]struct {
		bits uint
		c    int64
	}{
		suite.KEMODP1024: {1024, 129093},
		suite.KEMODP1536: {1536, 741804},
		suite.KEMODP2048: {2048, 124476},
		suite.KEMODP3072: {3072, 1690314},
		suite.KEMODP4096: {4096, 240904},
		suite.KEMODP6144: {6144, 929484},
		suite.KEMODP8192: {8192, 4743158},
	} {
		power := func(n uint) *big.Int { return new(big.Int).Lsh(big.NewInt(1), n) }
		want := new(big.Int).Rsh(pi, bits-(tt.bits-130))
		want.Add(want, big.NewInt(tt.c)).Lsh(want, 64)
		want.Add(want, power(tt.bits)).Sub(want, power(tt.bits-64)).Sub(want, big.NewInt(1))
		g, _ := modpGroupOf(method)
		if got := fmt.Sprintf("%X", want); got != g.prime {
			t.Errorf("%s: prime is %s, want %s", suite.KEName(method), g.prime, got)
		}
		// Beyond, the check takes seconds; RFC 3526 gives the same c.
		if tt.bits <= 4096 && !(want.ProbablyPrime(1) && new(big.Int).Rsh(want, 1).ProbablyPrime(1)) {
			t.Errorf("%s: not a safe prime", suite.KEName(method))
		}
	}
}

// A secret keeps its leading zeros (RFC 7296 §2.14): looked for with exponents one
// after another, against big.Int.
func TestMODPSecretIsPadded(t *testing.T) {
	g, _ := modpGroupOf(suite.KEMODP1024)
	p, _ := new(big.Int).SetString(g.prime, 16)
	peer := big.NewInt(3)
	for e := int64(2); ; e++ {
		want := new(big.Int).Exp(peer, big.NewInt(e), p)
		if e > 1000 && want.BitLen() > 1016 {
			continue
		}
		pair, err := g.pair(big.NewInt(e).Bytes())
		if err != nil {
			t.Fatal(err)
		}
		got, err := pair.shared(peer.FillBytes(make([]byte, 128)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want.FillBytes(make([]byte, 128))) {
			t.Fatalf("3^%d = %x, want %x", e, got, want)
		}
		if e > 1000 {
			return
		}
	}
}

func FuzzRespond(f *testing.F) {
	for _, m := range methods {
		i, err := Generate(m.id)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.id, i.Public())
		f.Add(m.id, make([]byte, m.public))
	}
	f.Fuzz(func(t *testing.T, method uint16, peer []byte) {
		if Slow(method) {
			return // the same code as the shorter groups
		}
		public, secret, err := Respond(method, peer)
		if err != nil {
			if public != nil || secret != nil {
				t.Errorf("error %v with %x and %x", err, public, secret)
			}
			return
		}
		if len(public) != ReplyLen(method) || len(secret) == 0 || !slices.ContainsFunc(secret, func(b byte) bool { return b != 0 }) {
			t.Errorf("public %x, secret %x", public, secret)
		}
	})
}

func BenchmarkExchange(b *testing.B) {
	for _, m := range methods {
		b.Run(suite.KEName(m.id), func(b *testing.B) {
			i, err := Generate(m.id)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, _, err := Respond(m.id, i.Public()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// withKey returns the initiator of a curve with a given private key.
func withKey(t *testing.T, method uint16, private []byte) Initiator {
	t.Helper()
	curve, ok := curveOf(method)
	if !ok {
		g, ok := modpGroupOf(method)
		if !ok {
			t.Fatalf("%s is not supported", suite.KEName(method))
		}
		pair, err := g.pair(private)
		if err != nil {
			t.Fatal(err)
		}
		return initiator{method, pair}
	}
	// Vectors write private keys with any number of leading zeros.
	n := map[ecdh.Curve]int{ecdh.X25519(): 32, ecdh.P256(): 32, ecdh.P384(): 48, ecdh.P521(): 66}[curve]
	if method != suite.KEX25519 {
		private = new(big.Int).SetBytes(private).FillBytes(make([]byte, n))
	}
	key, err := curve.NewPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return initiator{method, newCurvePair(key)}
}
