package profile

import (
	"bytes"
	"crypto/x509"
)

// oidSignedData begins a CMS of signed contents (RFC 5652 §5.1).
var oidSignedData = []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02}

func isSigned(data []byte) bool {
	return len(data) > 2 && data[0] == 0x30 && bytes.Contains(data[:min(len(data), 32)], oidSignedData)
}

// unwrap takes the signature off a profile, after it was found right, and notes who made it.
func (d *draft) unwrap(data []byte) ([]byte, error) {
	const what = "the signature of the profile"
	if !isShallow(data) {
		return nil, &Error{what + " cannot be read", "its encoding is broken, or nested too deep", "download the profile again"}
	}
	m, err := parseSigned(toDER(data))
	switch {
	case err != nil:
		return nil, &Error{what + " cannot be read", err.Error(), "download the profile again"}
	case len(m.content) == 0:
		return nil, &Error{what + " stands without the profile", "the file has only the signature in it", "take the file with both"}
	case m.signer == nil:
		return nil, &Error{what + " cannot be checked", "it is not that of exactly one signer with a certificate", "ask whoever made it for one that is signed as usual"}
	}
	if err := m.verify(); err != nil {
		return nil, &Error{what + " is wrong", shown(err.Error()), "somebody changed the profile after it was signed, or it is damaged; do not use it"}
	}
	d.Signed = "It is signed by " + quoted(m.signer.Subject.String()) + ", says a certificate of " + quoted(m.signer.Issuer.String())
	others := x509.NewCertPool()
	for _, c := range m.certs {
		others.AddCert(c)
	}
	roots, err := x509.SystemCertPool()
	if err == nil {
		_, err = m.signer.Verify(x509.VerifyOptions{Roots: roots, Intermediates: others, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	}
	if err == nil {
		d.Signed += ", which is below a CA that this system trusts"
	} else {
		d.Signed += ", which this system does not trust"
	}
	return m.content, nil
}

// isShallow tells whether an encoding in BER is nested no deeper than maxNesting, and each element
// ends within the one around it: the library recurses, copies what is in each level, and would read
// twice what ends outside.
func isShallow(data []byte) bool {
	var ends []int // where each open element ends; -1 where its end is marked
	for i, begun := 0, false; ; begun = true {
		for len(ends) > 0 && ends[len(ends)-1] == i {
			ends = ends[:len(ends)-1]
		}
		if len(ends) == 0 && begun {
			return true // what follows the first element is not read
		}
		if len(ends) > 0 && ends[len(ends)-1] < 0 && bytes.HasPrefix(data[i:], []byte{0, 0}) {
			ends, i = ends[:len(ends)-1], i+2
			continue
		}
		length, constructed, next := readHead(data, i)
		limit := len(data)
		for _, end := range ends {
			if end >= 0 {
				limit = end
			}
		}
		marked := length < 0
		if next < 0 || next > limit || length > limit-next || marked && (!constructed || bytes.HasPrefix(data[next:], []byte{0, 0})) {
			return false
		}
		switch i = next; {
		case !constructed:
			i += length
		case len(ends) == maxNesting:
			return false
		case marked:
			ends = append(ends, -1)
		default:
			ends = append(ends, i+length)
		}
	}
}

// readHead reads tag and length of an element at i; a length that is marked is -1. It returns
// where the contents begin, -1 if nothing can be read.
func readHead(data []byte, i int) (length int, constructed bool, next int) {
	if i >= len(data) {
		return 0, false, -1
	}
	tag := data[i]
	if i++; tag&0x1f == 0x1f {
		for i < len(data) && data[i] >= 0x80 {
			i++
		}
		i++
	}
	if i >= len(data) {
		return 0, false, -1
	}
	first := data[i]
	i++
	switch {
	case first == 0x80:
		length = -1
	case first < 0x80:
		length = int(first)
	default:
		octets := int(first & 0x7f)
		if octets > 3 || octets > len(data)-i { // a profile has at most maxSize octets
			return 0, false, -1
		}
		for _, octet := range data[i : i+octets] {
			length = length<<8 | int(octet)
		}
		i += octets
	}
	return length, tag&0x20 != 0, i
}
