package suite

import "slices"

// Role tells the two kinds of peers apart whose acceptable algorithms differ.
type Role uint8

const (
	// RolePeer is a client or a site-to-site peer: what we offer, and what
	// site-to-site accepts. AEAD only, SHA-2, 128 bits of security.
	RolePeer Role = iota
	// RoleDeviceGateway accepts the VPN clients built into operating systems, some
	// of which know no AEAD and no group above MODP-2048.
	RoleDeviceGateway
)

// PostQuantum says what is done against who records today and has a quantum computer
// later: whether an ML-KEM key exchange goes beside the first one (RFC 9370).
type PostQuantum uint8

const (
	// PostQuantumPrefer offers the exchange first, and the same without it in the same
	// message. Both are covered by AUTH, so that nobody on the way can choose.
	PostQuantumPrefer PostQuantum = iota
	// PostQuantumRequire has no IKE SA without it.
	PostQuantumRequire
	// PostQuantumOff does not know it.
	PostQuantumOff
)

// DefaultIKE returns the proposals for an IKE SA where nothing is configured, the
// best first. The caller owns them.
func DefaultIKE(r Role, pq PostQuantum) []Proposal {
	kes := keGroups(r)
	all := []Proposal{{
		Protocol:   ProtocolIKE,
		Transforms: slices.Concat(aeads(), sha2PRFs(), kes),
	}}
	if r == RoleDeviceGateway {
		all = append(all, Proposal{
			Protocol:   ProtocolIKE,
			Transforms: slices.Concat(cbcs(), sha2PRFs(), sha2Integs(), kes),
		})
	}
	switch pq {
	case PostQuantumPrefer:
		return append(hybrids(all), all...)
	case PostQuantumRequire:
		return hybrids(all)
	case PostQuantumOff:
	}
	return all
}

// hybrids gives proposals an ML-KEM exchange beside the first one.
func hybrids(of []Proposal) []Proposal {
	out := make([]Proposal, len(of))
	for i, p := range of {
		out[i] = Proposal{p.Protocol, append(slices.DeleteFunc(slices.Clone(p.Transforms), func(t Transform) bool {
			return t == Transform{Type: TypeKE}
		}), Transform{TypeAddKE1, KEMLKEM768, 0}, Transform{TypeAddKE1, KEMLKEM1024, 0})}
	}
	return out
}

// DefaultESP returns the proposals for a Child SA where nothing is configured, the
// best first. They do a key exchange where the peer likes one and go without where
// it does not; WithoutKE is for the Child SA of IKE_AUTH. A key exchange of an IKE SA
// protects its children too, so PostQuantumRequire asks no more than Prefer does. The
// caller owns them.
func DefaultESP(r Role, pq PostQuantum) []Proposal {
	kes := append(keGroups(r), Transform{Type: TypeKE, ID: KENone})
	all := []Proposal{{
		Protocol:   ProtocolESP,
		Transforms: slices.Concat(aeads(), kes, bothESN),
	}}
	if r == RoleDeviceGateway {
		all = append(all, Proposal{
			Protocol:   ProtocolESP,
			Transforms: slices.Concat(cbcs(), sha2Integs(), kes, bothESN),
		})
	}
	if pq != PostQuantumOff {
		return append(hybrids(all), all...)
	}
	return all
}

func aeads() []Transform {
	return []Transform{
		{TypeEncr, EncrAESGCM16, 256},
		{TypeEncr, EncrAESGCM16, 128},
		{TypeEncr, EncrChaCha20Poly1305, 0},
	}
}

func cbcs() []Transform {
	return []Transform{{TypeEncr, EncrAESCBC, 256}, {TypeEncr, EncrAESCBC, 128}}
}

func sha2PRFs() []Transform {
	return []Transform{{TypePRF, PRFHMACSHA256, 0}, {TypePRF, PRFHMACSHA384, 0}, {TypePRF, PRFHMACSHA512, 0}}
}

func sha2Integs() []Transform {
	return []Transform{
		{TypeInteg, IntegHMACSHA2_256_128, 0},
		{TypeInteg, IntegHMACSHA2_384_192, 0},
		{TypeInteg, IntegHMACSHA2_512_256, 0},
	}
}

func keGroups(r Role) []Transform {
	kes := []Transform{
		{TypeKE, KEX25519, 0},
		{TypeKE, KEECP256, 0},
		{TypeKE, KEECP384, 0},
		{TypeKE, KEECP521, 0},
		{TypeKE, KEMODP3072, 0},
		{TypeKE, KEMODP4096, 0},
	}
	if r == RoleDeviceGateway {
		kes = append(kes, Transform{TypeKE, KEMODP2048, 0})
	}
	return kes
}

// Weak returns one line for each algorithm of the proposal that is implemented and
// should not be used any more, and none where all is well. They are for warnings:
// a weak algorithm that somebody named works.
func (p Proposal) Weak() []string {
	var lines []string
	for _, t := range p.Transforms {
		if why := t.weak(); why != "" {
			lines = append(lines, t.String()+": "+why)
		}
	}
	return lines
}

// weak says why t should not be used, and nothing where it is good.
func (t Transform) weak() string {
	switch (Transform{Type: t.Type, ID: t.ID}) {
	case Transform{TypeEncr, Encr3DES, 0}:
		return "its blocks of 64 bits leak text in long sessions; use aes256gcm16"
	case Transform{TypeEncr, EncrNULL, 0}:
		return "nothing is encrypted; use aes256gcm16"
	case Transform{TypeEncr, EncrAESGCM8, 0}:
		return "an ICV of 64 bits can be forged after enough attempts; use gcm16"
	case Transform{TypeInteg, IntegHMACSHA1_96, 0}, Transform{TypePRF, PRFHMACSHA1, 0}:
		return "SHA-1 is out of date (RFC 8247 §2.3); use SHA-2"
	}
	if t.Type == TypeKE || t.Type.IsAddKE() {
		switch t.ID {
		case KEMODP768, KEMODP1024, 22:
			return "a group of 1024 bits or less can be broken by a state (Logjam); use x25519, or modp2048 at least"
		case KEMODP1536:
			return "a group of 1536 bits is below 112 bits of security; use x25519, or modp2048 at least"
		case 23, 24:
			return "a group with small subgroups; use x25519, or modp2048 at least"
		}
	}
	return ""
}
