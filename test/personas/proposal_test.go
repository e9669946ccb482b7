package personas

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// words are the algorithms that devices offer, those among them that we never do too, by
// IANA's numbers.
var words = map[string]suite.Transform{
	"des": {Type: 1, ID: 2}, "3des": {Type: 1, ID: 3}, "null": {Type: 1, ID: 11},
	"aes128": {Type: 1, ID: 12, KeyLen: 128}, "aes192": {Type: 1, ID: 12, KeyLen: 192}, "aes256": {Type: 1, ID: 12, KeyLen: 256},
	"aes128ctr": {Type: 1, ID: 13, KeyLen: 128}, "aes192ctr": {Type: 1, ID: 13, KeyLen: 192}, "aes256ctr": {Type: 1, ID: 13, KeyLen: 256},
	"aes128gcm8": {Type: 1, ID: 18, KeyLen: 128}, "aes192gcm8": {Type: 1, ID: 18, KeyLen: 192}, "aes256gcm8": {Type: 1, ID: 18, KeyLen: 256},
	"aes128gcm12": {Type: 1, ID: 19, KeyLen: 128}, "aes192gcm12": {Type: 1, ID: 19, KeyLen: 192}, "aes256gcm12": {Type: 1, ID: 19, KeyLen: 256},
	"aes128gcm16": {Type: 1, ID: 20, KeyLen: 128}, "aes192gcm16": {Type: 1, ID: 20, KeyLen: 192}, "aes256gcm16": {Type: 1, ID: 20, KeyLen: 256},
	"chacha20poly1305": {Type: 1, ID: 28},
	"prfsha1":          {Type: 2, ID: 2}, "prfaesxcbc": {Type: 2, ID: 4}, "prfsha256": {Type: 2, ID: 5}, "prfsha384": {Type: 2, ID: 6},
	"prfsha512": {Type: 2, ID: 7}, "prfaescmac": {Type: 2, ID: 8},
	"sha1": {Type: 3, ID: 2}, "aesxcbc": {Type: 3, ID: 5}, "aescmac": {Type: 3, ID: 8},
	"sha256": {Type: 3, ID: 12}, "sha384": {Type: 3, ID: 13}, "sha512": {Type: 3, ID: 14},
	"modp1024": {Type: 4, ID: 2}, "modp1536": {Type: 4, ID: 5}, "modp2048": {Type: 4, ID: 14}, "modp3072": {Type: 4, ID: 15},
	"modp4096": {Type: 4, ID: 16}, "modp8192": {Type: 4, ID: 18}, "ecp256": {Type: 4, ID: 19}, "ecp384": {Type: 4, ID: 20},
	"ecp521": {Type: 4, ID: 21}, "modp2048s256": {Type: 4, ID: 24}, "x25519": {Type: 4, ID: 31},
	"noesn": {Type: 5, ID: 0}, "esn": {Type: 5, ID: 1},
	"ke1_mlkem768": {Type: 6, ID: 36},
}

// offer reads proposals: words joined by dashes, in the order of the device within each
// type; types stand in the order of their numbers. An IKE proposal without a PRF has those of
// its integrity algorithms, an ESP proposal without a word about ESN has none. A number and
// a colon before it is the number of the proposal, else they count from 1.
func offer(protocol suite.Protocol, spi []byte, texts ...string) []message.Proposal {
	var out []message.Proposal
	for i, text := range texts {
		p := message.Proposal{Num: uint8(i + 1), SPI: spi}
		if number, rest, ok := strings.Cut(text, ":"); ok {
			n, err := strconv.Atoi(number)
			if err != nil {
				panic(err)
			}
			p.Num, text = uint8(n), rest
		}
		p.Protocol = protocol
		for word := range strings.SplitSeq(text, "-") {
			t, ok := words[word]
			if !ok {
				panic("no algorithm is called " + word)
			}
			p.Transforms = append(p.Transforms, t)
		}
		if protocol == suite.ProtocolESP && len(p.Types(suite.TypeESN)) == 0 {
			p.Transforms = append(p.Transforms, suite.Transform{Type: suite.TypeESN})
		}
		if protocol == suite.ProtocolIKE && len(p.Types(suite.TypePRF)) == 0 {
			for word := range strings.SplitSeq(text, "-") {
				if words[word].Type == suite.TypeInteg {
					p.Transforms = append(p.Transforms, words["prf"+word])
				}
			}
		}
		slices.SortStableFunc(p.Transforms, func(a, b suite.Transform) int { return cmp.Compare(a.Type, b.Type) })
		out = append(out, p)
	}
	return out
}

// firstGroup is the first group of proposals; 0 for none.
func firstGroup(ps []message.Proposal) uint16 {
	for _, p := range ps {
		if kes := p.KEs(); len(kes) > 0 {
			return kes[0]
		}
	}
	return 0
}

// offersGroup tells whether any of the proposals has the group.
func offersGroup(ps []message.Proposal, group uint16) bool {
	return slices.ContainsFunc(ps, func(p message.Proposal) bool { return slices.Contains(p.KEs(), group) })
}

// chosen checks an answer as strictly as any device does: one proposal, with the number of
// one that was offered, and exactly one transform of each of its types.
func chosen(offered []message.Proposal, sa *message.SA) (message.Proposal, string) {
	if sa == nil || len(sa.Proposals) != 1 {
		return message.Proposal{}, "the answer has not one proposal"
	}
	got := sa.Proposals[0]
	i := slices.IndexFunc(offered, func(o message.Proposal) bool { return o.Num == got.Num })
	if i < 0 {
		return got, "the answer has the proposal number " + strconv.Itoa(int(got.Num)) + ", which was not offered"
	}
	types := map[suite.TransformType]int{}
	for _, t := range got.Transforms {
		types[t.Type]++
		if !slices.Contains(offered[i].Transforms, t) {
			return got, t.String() + " was not offered in the proposal with that number"
		}
	}
	for _, t := range offered[i].Transforms {
		if types[t.Type] != 1 {
			return got, "the answer has not one transform of type " + t.Type.String()
		}
	}
	return got, ""
}
