package suite

import (
	"fmt"
	"slices"
	"strconv"
)

// keyword is one word of strongSwan's proposal grammar. Where several words stand
// for one transform, the first is the one that is printed. A word with a refusal
// is known and not implemented: it is read so that the person gets the reason.
type keyword struct {
	name    string
	t       Transform
	refusal string
}

// Why a known algorithm is not there.
const (
	refusedWeak    = "refused because it is broken"
	refusedSweet32 = "refused because its blocks of 64 bits leak text in long sessions (Sweet32)"
	refusedNULL    = "refused because it does not encrypt"
	refusedRare    = "not implemented"
	refusedMLKEM   = "not implemented: mlkem768 costs hardly more"
)

// keywords is ordered so that the first word with a typed prefix is the best
// suggestion for it. It is never written to, and has all its words written out, so that
// the start of a program does nothing for it.
var keywords = []keyword{
	{"aes256", Transform{TypeEncr, EncrAESCBC, 256}, ""},
	{"aes192", Transform{TypeEncr, EncrAESCBC, 192}, ""},
	{"aes128", Transform{TypeEncr, EncrAESCBC, 128}, ""},
	{"aes256gcm16", Transform{TypeEncr, EncrAESGCM16, 256}, ""},
	{"aes192gcm16", Transform{TypeEncr, EncrAESGCM16, 192}, ""},
	{"aes128gcm16", Transform{TypeEncr, EncrAESGCM16, 128}, ""},
	{"aes256gcm128", Transform{TypeEncr, EncrAESGCM16, 256}, ""},
	{"aes192gcm128", Transform{TypeEncr, EncrAESGCM16, 192}, ""},
	{"aes128gcm128", Transform{TypeEncr, EncrAESGCM16, 128}, ""},
	{"aes256gcm12", Transform{TypeEncr, EncrAESGCM12, 256}, ""},
	{"aes192gcm12", Transform{TypeEncr, EncrAESGCM12, 192}, ""},
	{"aes128gcm12", Transform{TypeEncr, EncrAESGCM12, 128}, ""},
	{"aes256gcm96", Transform{TypeEncr, EncrAESGCM12, 256}, ""},
	{"aes192gcm96", Transform{TypeEncr, EncrAESGCM12, 192}, ""},
	{"aes128gcm96", Transform{TypeEncr, EncrAESGCM12, 128}, ""},
	{"aes256gcm8", Transform{TypeEncr, EncrAESGCM8, 256}, ""},
	{"aes192gcm8", Transform{TypeEncr, EncrAESGCM8, 192}, ""},
	{"aes128gcm8", Transform{TypeEncr, EncrAESGCM8, 128}, ""},
	{"aes256gcm64", Transform{TypeEncr, EncrAESGCM8, 256}, ""},
	{"aes192gcm64", Transform{TypeEncr, EncrAESGCM8, 192}, ""},
	{"aes128gcm64", Transform{TypeEncr, EncrAESGCM8, 128}, ""},
	{"aes256ctr", Transform{TypeEncr, EncrAESCTR, 256}, ""},
	{"aes192ctr", Transform{TypeEncr, EncrAESCTR, 192}, ""},
	{"aes128ctr", Transform{TypeEncr, EncrAESCTR, 128}, ""},
	{"aes256gcm16iiv", Transform{TypeEncr, EncrAESGCM16IIV, 256}, ""},
	{"aes192gcm16iiv", Transform{TypeEncr, EncrAESGCM16IIV, 192}, ""},
	{"aes128gcm16iiv", Transform{TypeEncr, EncrAESGCM16IIV, 128}, ""},

	{"aes", Transform{TypeEncr, EncrAESCBC, 128}, ""},
	{"chacha20poly1305", Transform{TypeEncr, EncrChaCha20Poly1305, 0}, ""},
	{"chacha20poly1305iiv", Transform{TypeEncr, EncrChaCha20Poly1305IIV, 0}, ""},
	{"3des", Transform{TypeEncr, Encr3DES, 0}, refusedSweet32},
	{"des", Transform{TypeEncr, 2, 0}, refusedWeak},
	{"null", Transform{TypeEncr, EncrNULL, 0}, refusedNULL},
	{"cast128", Transform{TypeEncr, 6, 128}, refusedSweet32},
	{"blowfish128", Transform{TypeEncr, 7, 128}, refusedSweet32},
	{"camellia128", Transform{TypeEncr, 23, 128}, refusedRare},
	{"camellia192", Transform{TypeEncr, 23, 192}, refusedRare},
	{"camellia256", Transform{TypeEncr, 23, 256}, refusedRare},

	{"aes256ccm16", Transform{TypeEncr, 16, 256}, refusedRare},
	{"aes192ccm16", Transform{TypeEncr, 16, 192}, refusedRare},
	{"aes128ccm16", Transform{TypeEncr, 16, 128}, refusedRare},
	{"aes256ccm128", Transform{TypeEncr, 16, 256}, refusedRare},
	{"aes192ccm128", Transform{TypeEncr, 16, 192}, refusedRare},
	{"aes128ccm128", Transform{TypeEncr, 16, 128}, refusedRare},
	{"aes256ccm12", Transform{TypeEncr, 15, 256}, refusedRare},
	{"aes192ccm12", Transform{TypeEncr, 15, 192}, refusedRare},
	{"aes128ccm12", Transform{TypeEncr, 15, 128}, refusedRare},
	{"aes256ccm96", Transform{TypeEncr, 15, 256}, refusedRare},
	{"aes192ccm96", Transform{TypeEncr, 15, 192}, refusedRare},
	{"aes128ccm96", Transform{TypeEncr, 15, 128}, refusedRare},
	{"aes256ccm8", Transform{TypeEncr, 14, 256}, refusedRare},
	{"aes192ccm8", Transform{TypeEncr, 14, 192}, refusedRare},
	{"aes128ccm8", Transform{TypeEncr, 14, 128}, refusedRare},
	{"aes256ccm64", Transform{TypeEncr, 14, 256}, refusedRare},
	{"aes192ccm64", Transform{TypeEncr, 14, 192}, refusedRare},
	{"aes128ccm64", Transform{TypeEncr, 14, 128}, refusedRare},
	{"aes256gmac", Transform{TypeEncr, 21, 256}, refusedNULL},
	{"aes192gmac", Transform{TypeEncr, 21, 192}, refusedNULL},
	{"aes128gmac", Transform{TypeEncr, 21, 128}, refusedNULL},

	{"sha256", Transform{TypeInteg, IntegHMACSHA2_256_128, 0}, ""},
	{"sha2_256", Transform{TypeInteg, IntegHMACSHA2_256_128, 0}, ""},
	{"sha384", Transform{TypeInteg, IntegHMACSHA2_384_192, 0}, ""},
	{"sha2_384", Transform{TypeInteg, IntegHMACSHA2_384_192, 0}, ""},
	{"sha512", Transform{TypeInteg, IntegHMACSHA2_512_256, 0}, ""},
	{"sha2_512", Transform{TypeInteg, IntegHMACSHA2_512_256, 0}, ""},
	{"sha1", Transform{TypeInteg, IntegHMACSHA1_96, 0}, ""},
	{"sha", Transform{TypeInteg, IntegHMACSHA1_96, 0}, ""},
	{"md5", Transform{TypeInteg, 1, 0}, refusedWeak},
	{"aesxcbc", Transform{TypeInteg, 5, 0}, refusedRare},
	{"aescmac", Transform{TypeInteg, 8, 0}, refusedRare},

	{"prfsha256", Transform{TypePRF, PRFHMACSHA256, 0}, ""},
	{"prfsha384", Transform{TypePRF, PRFHMACSHA384, 0}, ""},
	{"prfsha512", Transform{TypePRF, PRFHMACSHA512, 0}, ""},
	{"prfsha1", Transform{TypePRF, PRFHMACSHA1, 0}, ""},
	{"prfmd5", Transform{TypePRF, 1, 0}, refusedWeak},
	{"prfaesxcbc", Transform{TypePRF, 4, 0}, refusedRare},
	{"prfaescmac", Transform{TypePRF, 8, 0}, refusedRare},

	{"x25519", Transform{TypeKE, KEX25519, 0}, ""},
	{"curve25519", Transform{TypeKE, KEX25519, 0}, ""},
	{"ecp256", Transform{TypeKE, KEECP256, 0}, ""},
	{"ecp384", Transform{TypeKE, KEECP384, 0}, ""},
	{"ecp521", Transform{TypeKE, KEECP521, 0}, ""},
	{"modp2048", Transform{TypeKE, KEMODP2048, 0}, ""},
	{"modp3072", Transform{TypeKE, KEMODP3072, 0}, ""},
	{"modp4096", Transform{TypeKE, KEMODP4096, 0}, ""},
	{"modp1536", Transform{TypeKE, KEMODP1536, 0}, ""},
	{"modp1024", Transform{TypeKE, KEMODP1024, 0}, ""},
	{"modpnone", Transform{TypeKE, KENone, 0}, ""},
	{"modp768", Transform{TypeKE, KEMODP768, 0}, refusedWeak},
	{"modp6144", Transform{TypeKE, KEMODP6144, 0}, ""},
	{"modp8192", Transform{TypeKE, KEMODP8192, 0}, ""},
	{"modp1024s160", Transform{TypeKE, 22, 0}, refusedWeak},
	{"modp2048s224", Transform{TypeKE, 23, 0}, "refused because the group has small subgroups (RFC 8247 §2.4)"},
	{"modp2048s256", Transform{TypeKE, 24, 0}, "refused because the group has small subgroups (RFC 8247 §2.4)"},
	{"ecp192", Transform{TypeKE, 25, 0}, refusedWeak},
	{"ecp224", Transform{TypeKE, 26, 0}, refusedRare},
	{"ecp224bp", Transform{TypeKE, 27, 0}, refusedRare},
	{"ecp256bp", Transform{TypeKE, 28, 0}, refusedRare},
	{"ecp384bp", Transform{TypeKE, 29, 0}, refusedRare},
	{"ecp512bp", Transform{TypeKE, 30, 0}, refusedRare},
	{"x448", Transform{TypeKE, KEX448, 0}, refusedRare},
	{"curve448", Transform{TypeKE, KEX448, 0}, refusedRare},
	{"mlkem512", Transform{TypeKE, KEMLKEM512, 0}, refusedMLKEM},
	{"mlkem768", Transform{TypeKE, KEMLKEM768, 0}, ""},
	{"mlkem1024", Transform{TypeKE, KEMLKEM1024, 0}, ""},

	{"esn", Transform{TypeESN, ESNYes, 0}, ""},
	{"noesn", Transform{TypeESN, ESNNo, 0}, ""},
}

// String returns the protocol's name in RFC 7296.
func (p Protocol) String() string {
	switch p {
	case ProtocolNone:
		return "none"
	case ProtocolIKE:
		return "IKE"
	case ProtocolAH:
		return "AH"
	case ProtocolESP:
		return "ESP"
	}
	return "protocol=" + strconv.Itoa(int(p))
}

// String returns a short lower-case name, as the RFC abbreviates the type.
func (t TransformType) String() string {
	switch t {
	case TypeEncr:
		return "encr"
	case TypePRF:
		return "prf"
	case TypeInteg:
		return "integ"
	case TypeKE:
		return "ke"
	case TypeESN:
		return "esn"
	}
	if t.IsAddKE() {
		return "ke" + strconv.Itoa(int(t-TypeAddKE1)+1)
	}
	return "type" + strconv.Itoa(int(t))
}

// String returns strongSwan's keyword, such as aes256gcm16, prfsha256 or ke1_mlkem768,
// and type=number for a transform that has none; a key length follows a slash.
func (t Transform) String() string {
	if t.Type.IsAddKE() {
		name := Transform{TypeKE, t.ID, t.KeyLen}.String()
		if t.ID == KENone && t.KeyLen == 0 {
			name = "none"
		}
		return t.Type.String() + "_" + name
	}
	for _, k := range keywords {
		if k.t == t {
			return k.name
		}
	}
	if t == (Transform{Type: TypeInteg}) {
		return "none"
	}
	if t.KeyLen != 0 {
		return fmt.Sprintf("%v=%d/%d", t.Type, t.ID, t.KeyLen)
	}
	return fmt.Sprintf("%v=%d", t.Type, t.ID)
}

// KEName returns the keyword of a key exchange method (transform type 4), such as
// x25519, and ke=number for one that has none.
func KEName(method uint16) string {
	return Transform{Type: TypeKE, ID: method}.String()
}

// implemented says whether NewCipher, NewPRF and package kex know t.
func (t Transform) implemented() bool {
	if t.Type.IsAddKE() {
		t.Type = TypeKE
	}
	return slices.ContainsFunc(keywords, func(k keyword) bool { return k.t == t && k.refusal == "" })
}

// aead says whether an encryption algorithm authenticates by itself, and therefore
// goes without an integrity algorithm (RFC 5282 §8, RFC 4106 §8, RFC 7634 §4).
func aead(encr uint16) bool {
	switch encr {
	case 14, 15, 16, EncrAESGCM8, EncrAESGCM12, EncrAESGCM16, 21, 25, 26, 27, EncrChaCha20Poly1305:
		return true
	}
	return implicitIV(encr)
}

// implicitIV says whether an encryption algorithm takes its IV from the sequence number of
// ESP (RFC 8750 §3).
func implicitIV(encr uint16) bool {
	return encr == EncrAESGCM16IIV || encr == EncrChaCha20Poly1305IIV
}

// prfOf returns the PRF on the hash of an integrity algorithm, and zero where
// there is none.
func prfOf(integ uint16) Transform {
	switch integ {
	case IntegHMACSHA1_96:
		return Transform{Type: TypePRF, ID: PRFHMACSHA1}
	case IntegHMACSHA2_256_128:
		return Transform{Type: TypePRF, ID: PRFHMACSHA256}
	case IntegHMACSHA2_384_192:
		return Transform{Type: TypePRF, ID: PRFHMACSHA384}
	case IntegHMACSHA2_512_256:
		return Transform{Type: TypePRF, ID: PRFHMACSHA512}
	}
	return Transform{}
}
