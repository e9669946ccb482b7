package suite

import "slices"

// Legacy names peers whose defaults are out of date, and who get in by name only.
type Legacy uint8

const (
	LegacyNone Legacy = iota
	// LegacyWindows is Windows as it is installed: MODP-1024, and SHA-1 in ESP.
	LegacyWindows
	// LegacyCloud is Azure with its stock policies: MODP-1024, and SHA-1 in both.
	LegacyCloud
)

// IKE returns the proposals for an IKE SA that such peers need beside the defaults, none for
// LegacyNone. The caller owns them.
func (l Legacy) IKE() []Proposal {
	switch l {
	case LegacyWindows:
		return []Proposal{legacyIKE(
			[]Transform{{TypePRF, PRFHMACSHA384, 0}, {TypePRF, PRFHMACSHA256, 0}, {TypePRF, PRFHMACSHA1, 0}},
			[]Transform{{TypeInteg, IntegHMACSHA2_384_192, 0}, {TypeInteg, IntegHMACSHA2_256_128, 0}, {TypeInteg, IntegHMACSHA1_96, 0}},
		)}
	case LegacyCloud:
		return []Proposal{legacyIKE(
			[]Transform{{TypePRF, PRFHMACSHA256, 0}, {TypePRF, PRFHMACSHA1, 0}},
			[]Transform{{TypeInteg, IntegHMACSHA2_256_128, 0}, {TypeInteg, IntegHMACSHA1_96, 0}},
		)}
	case LegacyNone:
	}
	return nil
}

func legacyIKE(prfs, integs []Transform) Proposal {
	return Proposal{ProtocolIKE, slices.Concat(cbcs(), prfs, integs, []Transform{{TypeKE, KEMODP1024, 0}})}
}

// ESP returns the proposals for a Child SA that such peers need beside the defaults, none for
// LegacyNone. The caller owns them.
func (l Legacy) ESP() []Proposal {
	var integs []Transform
	switch l {
	case LegacyWindows:
		integs = []Transform{{TypeInteg, IntegHMACSHA1_96, 0}}
	case LegacyCloud:
		integs = []Transform{{TypeInteg, IntegHMACSHA2_256_128, 0}, {TypeInteg, IntegHMACSHA1_96, 0}}
	case LegacyNone:
		return nil
	}
	kes := []Transform{{TypeKE, KEMODP2048, 0}, {TypeKE, KENone, 0}}
	return []Proposal{{ProtocolESP, slices.Concat(cbcs(), integs, kes, bothESN)}}
}
