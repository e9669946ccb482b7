package profile

import (
	"strconv"
	"strings"
	"sync"

	"martlet/crypto/suite"
)

// libreswanWords are the words of Libreswan's proposals that strongSwan writes in another way.
var libreswanWords = sync.OnceValue(func() map[string]string {
	return map[string]string{
		"aes_gcm256": "aes256gcm16", "aes_gcm_256": "aes256gcm16", "aes_gcm_c_256": "aes256gcm16", "aes_gcm_16_256": "aes256gcm16",
		"aes_gcm128": "aes128gcm16", "aes_gcm_128": "aes128gcm16", "aes_gcm_c_128": "aes128gcm16", "aes_gcm_16_128": "aes128gcm16",
		"aes_gcm": "aes256gcm16-aes128gcm16", "aes_gcm_c": "aes256gcm16-aes128gcm16", "aes_gcm_16": "aes256gcm16-aes128gcm16",
		"aes": "aes256-aes128", "aes_cbc": "aes256-aes128", "aes_cbc256": "aes256", "aes_cbc_256": "aes256", "aes_256": "aes256",
		"aes_cbc128": "aes128", "aes_cbc_128": "aes128", "aes_128": "aes128", "aes_ctr256": "aes256ctr", "aes_ctr_256": "aes256ctr", "aes_ctr128": "aes128ctr", "aes_ctr_128": "aes128ctr",
		"chacha20_poly1305": "chacha20poly1305", "sha2": "sha256", "sha2_256": "sha256", "sha2_384": "sha384", "sha2_512": "sha512",
		"hmac_sha2_256": "sha256", "hmac_sha2_512": "sha512", "hmac_sha1": "sha1", "ecp_256": "ecp256", "ecp_384": "ecp384", "ecp_521": "ecp521", "curve25519": "x25519",
	}
})

// libreswanKE are the groups that it offers where none is named.
const libreswanKE = "modp2048-modp3072-modp4096-modp8192-ecp256-ecp384-ecp521-x25519"

// libreswanSuites writes Libreswan's proposals in strongSwan's keywords: "aes_gcm256-sha2;dh19",
// with '+' between alternatives. What a proposal leaves open it has by default: SHA-2 and all good
// groups. groups are those of a child that has perfect forward secrecy and names none.
func libreswanSuites(protocol suite.Protocol, text, groups string) []string {
	var out []string
	for _, proposal := range list(text) {
		if len(proposal) > 1000 {
			out = append(out, proposal)
			continue
		}
		words := libreswanProposal(proposal)
		has := func(prefixes ...string) bool {
			for _, w := range words {
				for _, p := range prefixes {
					if strings.HasPrefix(w, p) {
						return true
					}
				}
			}
			return false
		}
		aead := has("aes256gcm", "aes128gcm", "chacha")
		if !has("sha", "md5") && (protocol == suite.ProtocolIKE || !aead) {
			words = append(words, "sha512", "sha256")
		}
		switch ke := has("modp", "ecp", "x25519", "curve"); {
		case ke:
		case protocol == suite.ProtocolIKE:
			words = append(words, libreswanKE)
		case groups != "":
			words = append(words, groups)
		}
		out = append(out, strings.Join(words, "-"))
	}
	return out
}

func libreswanProposal(text string) []string {
	var words []string
	for _, w := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return strings.ContainsRune("-;+!", r) }) {
		if n, err := strconv.Atoi(strings.TrimPrefix(w, "dh")); err == nil && strings.HasPrefix(w, "dh") && groupWords()[n] != "" {
			w = groupWords()[n]
		} else if known := libreswanWords()[w]; known != "" {
			w = known
		}
		if w != "none" && w != "null" || len(words) == 0 {
			words = append(words, w)
		}
	}
	return words
}

// libreswanGroups are the groups of ike, which a child uses too.
func libreswanGroups(ike string) string {
	var words []string
	for _, proposal := range list(ike) {
		for _, w := range libreswanProposal(proposal) {
			if strings.HasPrefix(w, "modp") || strings.HasPrefix(w, "ecp") || w == "x25519" {
				words = append(words, w)
			}
		}
	}
	if len(words) == 0 {
		return libreswanKE
	}
	return strings.Join(distinct(words), "-")
}
