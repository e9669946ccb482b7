package ike

import "martlet/crypto/suite"

// Post-quantum pre-shared keys (RFC 8784 §3).

// MixPPK makes a pre-shared key part of the keys of an IKE SA: SK_d, SK_pi and SK_pr
// become prf+(PPK, of them); the others stay (RFC 8784 §3).
func MixPPK(prf suite.PRF, ppk suite.Secret, k IKEKeys) IKEKeys {
	mix := func(key suite.Secret) suite.Secret { return suite.PRFPlus(prf, ppk, key, prf.KeyLen()) }
	k.D, k.Pi, k.Pr = mix(k.D), mix(k.Pi), mix(k.Pr)
	return k
}
