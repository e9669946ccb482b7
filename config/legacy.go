package config

import (
	"fmt"
	"slices"

	"martlet/crypto/suite"
)

// union appends to proposals those of more that are not there.
func union(proposals, more []suite.Proposal) []suite.Proposal {
	for _, p := range more {
		if !slices.ContainsFunc(proposals, func(q suite.Proposal) bool { return q.String() == p.String() }) {
			proposals = append(proposals, p)
		}
	}
	return proposals
}

// legacy is the word for package suite; it warns of what it lets in.
func (f *faults) legacy(l Legacy, pq suite.PostQuantum, key string) suite.Legacy {
	out := suite.LegacyNone
	switch l {
	case "":
		return out
	case LegacyWindows:
		out = suite.LegacyWindows
		f.warn(key, "lets peers in whose key exchange (modp1024) a state can break, and SHA-1 in ESP: whoever records the traffic may read it one day; set the Windows machines right with Set-VpnConnectionIPsecConfiguration, and remove the key")
	case LegacyCloud:
		out = suite.LegacyCloud
		f.warn(key, "lets peers in whose key exchange (modp1024) a state can break, and SHA-1: whoever records the traffic may read it one day; give the connection a custom IPsec policy in Azure, and remove the key")
	default:
		if !f.has(key) {
			f.add(key, fmt.Sprintf("unknown word %q", l), `"windows-default" or "old-cloud"`)
		}
		return out
	}
	if pq == suite.PostQuantumRequire {
		f.add(key, "such peers know no ML-KEM, and post_quantum is \"require\"", "remove one of the two")
		return suite.LegacyNone
	}
	return out
}
