package profile

import (
	"net/netip"
	"slices"
	"strings"

	"martlet/config"
	"martlet/crypto/suite"
)

// choice is one algorithm of each kind, in the words of a system.
type choice struct {
	encryption string
	hash       string // for integrity, or with an AEAD for the PRF of IKE
	group      uint16 // 0 is no key exchange
	aead       bool
}

// choose finds the first proposal that a system can say with one algorithm of each kind: names are
// its words, of which those of integrity and PRF are the same, and groups what it knows, the best
// first.
func choose(all []suite.Proposal, names map[suite.Transform]string, groups []uint16) (choice, bool) {
	for _, p := range all {
		classic, ok := p.Classic()
		if !ok {
			continue
		}
		var out choice
		kes := classic.KEs()
		if i := slices.IndexFunc(groups, func(g uint16) bool { return slices.Contains(kes, g) }); i >= 0 {
			out.group = groups[i]
		} else if p.Protocol == suite.ProtocolIKE || len(kes) > 0 && !slices.Contains(kes, suite.KENone) {
			continue
		}
		for _, encr := range classic.Types(suite.TypeEncr) {
			if names[encr] == "" {
				continue
			}
			out.encryption = names[encr]
			out.aead = encr.ID != suite.EncrAESCBC
			if out.hash, ok = hash(classic, out.aead, names); ok {
				return out, true
			}
		}
	}
	return choice{}, false
}

// hash finds the one word that stands for integrity and PRF.
func hash(p suite.Proposal, aead bool, names map[suite.Transform]string) (string, bool) {
	isIKE := p.Protocol == suite.ProtocolIKE
	if aead && !isIKE {
		return "", true
	}
	prfs := p.Types(suite.TypePRF)
	if aead {
		i := slices.IndexFunc(prfs, func(t suite.Transform) bool { return names[t] != "" })
		if i < 0 {
			return "", false
		}
		return names[prfs[i]], true
	}
	for _, t := range p.Types(suite.TypeInteg) {
		if name := names[t]; name != "" && (!isIKE || slices.ContainsFunc(prfs, func(prf suite.Transform) bool { return names[prf] == name })) {
			return name, true
		}
	}
	return "", false
}

// chosen are the two suites of a client that offers one each.
func (x *exporter) chosen(child *config.Child, ikeNames, espNames map[suite.Transform]string, groups []uint16, can string) (ike, esp choice, err error) {
	x.carry("proposals", "child.proposals", "legacy", "post_quantum")
	ike, ok := choose(x.c.IKE, ikeNames, groups)
	if !ok {
		return ike, esp, x.cannot("none of the proposals of IKE can be said there", can)
	}
	// A key exchange of the child is best that of IKE, which both sides have.
	esp, ok = choose(child.ESP, espNames, append([]uint16{ike.group}, groups...))
	if !ok {
		return ike, esp, x.cannot("none of the proposals of child "+child.Name+" can be said there", can)
	}
	if len(x.c.IKE) > 1 || len(child.ESP) > 1 || len(x.c.IKE[0].Transforms) > 4 {
		x.note("proposals", "one suite is offered there, and not several: the gateway must take %s", strings.Join([]string{ike.encryption, ike.hash, suite.KEName(ike.group)}, ", "))
	}
	if x.c.PostQuantum == config.PostQuantumPrefer && slices.ContainsFunc(x.c.IKE, suite.Proposal.PostQuantum) {
		x.note("post_quantum", "not carried over: ML-KEM is not offered there, so that whoever records the traffic may read it one day with a quantum computer")
	}
	return ike, esp, nil
}

// only is the one child of a connection.
func (x *exporter) only() *config.Child {
	for _, child := range x.c.Children {
		return child
	}
	return nil
}

// keywords are proposals in strongSwan's keywords; none where its own are offered.
func (x *exporter) keywords(key string, list []string, parsed []suite.Proposal) []string {
	x.carry(key, "post_quantum", "legacy")
	isIKE := key == "proposals"
	var out []string
	switch {
	case isIKE && x.c.PostQuantum == config.PostQuantumRequire, x.c.Legacy != "":
		// Its defaults are other ones than what is meant.
		for _, p := range parsed {
			out = append(out, p.String())
		}
	case slices.Equal(list, []string{"default"}):
		if isIKE && x.c.PostQuantum == config.PostQuantumPrefer {
			x.note("post_quantum", "not carried over: strongSwan's own proposals are offered, which have no ML-KEM; from its version 6.0 on post_quantum = \"require\" writes them out")
		}
	default:
		out = list
	}
	if strings.Contains(strings.Join(out, " "), "mlkem") {
		x.note(key, "ML-KEM needs strongSwan 6.0 or later with the plugin ml (the app from 2.6.1 on), and older ones do not read the proposals")
	}
	return out
}

// destinations are what goes into the tunnel; full is everything of IPv4.
func (x *exporter) destinations() (list []netip.Prefix, full bool) {
	x.carry("routes", "child.remote")
	switch {
	case x.c.Routes.None:
		return nil, false
	case len(x.c.Routes.List) > 0:
		list = x.c.Routes.List
	default:
		list = x.selected()
	}
	return list, slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Bits() == 0 && p.Addr().Is4() })
}

// selected are the prefixes of the remote side of the children.
func (x *exporter) selected() []netip.Prefix {
	var out []netip.Prefix
	for _, child := range x.c.Children {
		if child.RemoteIsDyn {
			x.note("child.remote", "dynamic, the gateway's own address, is not carried over: it is called there as before")
		}
		for _, ts := range child.RemoteTS {
			p, err := prefixes(ts.From.String() + "-" + ts.To.String())
			if err != nil {
				continue // config parsed it, so it is none of these
			}
			if ts.Protocol != 0 || ts.StartPort != 0 || ts.EndPort != 0xffff {
				x.note("child.remote", "all that goes to %v is sent into the tunnel, and not single protocols or ports", p[0])
			}
			out = append(out, p...)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}
