package ike

import (
	"encoding/binary"
	"fmt"
	"slices"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// IKEKeys are the keys of an IKE SA (RFC 7296 §2.14): D makes child keys, Ai and Ar
// authenticate messages (empty beside an AEAD), Ei and Er encrypt them (with salt),
// Pi and Pr go into AUTH. i is the original initiator's direction, r the other's.
type IKEKeys struct{ D, Ai, Ar, Ei, Er, Pi, Pr suite.Secret }

// SKEYSEED is the seed of the first keys of an IKE SA: prf(Ni | Nr, g^ir)
// (RFC 7296 §2.14).
func SKEYSEED(prf suite.PRF, ni, nr, shared []byte) suite.Secret {
	key := make([]byte, 0, len(ni)+len(nr))
	return prf.Sum(append(append(key, ni...), nr...), shared)
}

// RekeyedSKEYSEED is the seed of the keys of an IKE SA that replaces another:
// prf(SK_d (old), g^ir | Ni | Nr) with the PRF of the old one (RFC 7296 §2.18), then the
// secrets of the additional key exchanges in their order (RFC 9370 §2.2.4). A further key
// exchange in IKE_INTERMEDIATE has the same form (RFC 9370 §2.2.2).
func RekeyedSKEYSEED(old suite.PRF, d suite.Secret, ni, nr, shared []byte, more ...[]byte) suite.Secret {
	return old.Sum(d, append([][]byte{shared, ni, nr}, more...)...)
}

// DeriveIKE makes the keys of an IKE SA of suite s:
// prf+(SKEYSEED, Ni | Nr | SPIi | SPIr) cut into SK_d, SK_ai, SK_ar, SK_ei, SK_er,
// SK_pi and SK_pr (RFC 7296 §2.14).
func DeriveIKE(s suite.Suite, seed suite.Secret, ni, nr []byte, spii, spir message.SPI) (IKEKeys, error) {
	prf, err := suite.NewPRF(s.PRF)
	if err != nil {
		return IKEKeys{}, fmt.Errorf("ike: keys of the IKE SA: %w", err)
	}
	encr, integ, err := s.KeyLens()
	if err != nil {
		return IKEKeys{}, fmt.Errorf("ike: keys of the IKE SA: %w", err)
	}
	material := make([]byte, 0, len(ni)+len(nr)+16)
	material = append(append(material, ni...), nr...)
	material = binary.BigEndian.AppendUint64(material, uint64(spii))
	material = binary.BigEndian.AppendUint64(material, uint64(spir))
	n := prf.KeyLen()
	stream := suite.PRFPlus(prf, seed, material, 3*n+2*integ+2*encr)
	take := func(n int) suite.Secret {
		k := stream[:n:n]
		stream = stream[n:]
		return k
	}
	return IKEKeys{
		D: take(n), Ai: take(integ), Ar: take(integ), Ei: take(encr), Er: take(encr), Pi: take(n), Pr: take(n),
	}, nil
}

// DeriveChild makes the keys of a child SA pair of suite s: KEYMAT is prf+(SK_d,
// Ni | Nr), or prf+(SK_d, g^ir | Ni | Nr) where a key exchange was part of
// CREATE_CHILD_SA; shared is empty otherwise. The secrets of additional key exchanges
// follow, in their order (RFC 9370 §2.2.4). i is the direction of what the initiator of
// this exchange sends (RFC 7296 §2.17). prf is the IKE SA's.
func DeriveChild(prf suite.PRF, d suite.Secret, s suite.Suite, shared, ni, nr []byte, more ...[]byte) (i, r ChildKeys, err error) {
	encr, integ, err := s.KeyLens()
	if err != nil {
		return ChildKeys{}, ChildKeys{}, fmt.Errorf("ike: keys of the child SA: %w", err)
	}
	material := slices.Concat(shared, ni, nr, slices.Concat(more...))
	stream := suite.PRFPlus(prf, d, material, 2*(encr+integ))
	take := func(n int) suite.Secret {
		k := stream[:n:n]
		stream = stream[n:]
		return k
	}
	i = ChildKeys{Encr: take(encr), Integ: take(integ)}
	r = ChildKeys{Encr: take(encr), Integ: take(integ)}
	return i, r, nil
}
