package profile

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// signedData is what is read of a CMS of signed contents (RFC 5652 §5.1).
type signedData struct {
	kind    asn1.ObjectIdentifier // of content
	content []byte
	certs   []*x509.Certificate
	signer  *x509.Certificate // nil unless there is one signer, whose certificate is there

	digest, algorithm asn1.ObjectIdentifier
	attributes        []byte // those that are signed, with their tag; none if the content itself is
	signature         []byte
}

var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSigned        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
)

// context is the tag of a constructed element whose meaning its place tells.
func context(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }

// parseSigned reads a message in DER.
func parseSigned(der []byte) (*signedData, error) {
	broken := errors.New("it is no signed message (RFC 5652), or damaged")
	in := cryptobyte.String(der)
	var info, outer, body, algorithms, inner, certs, signers cryptobyte.String
	var kind asn1.ObjectIdentifier
	var version int
	var hasContent, hasCerts bool
	m := &signedData{}
	if !in.ReadASN1(&info, cbasn1.SEQUENCE) || !info.ReadASN1ObjectIdentifier(&kind) || !kind.Equal(oidSigned) ||
		!info.ReadASN1(&outer, context(0)) || !outer.ReadASN1(&body, cbasn1.SEQUENCE) ||
		!body.ReadASN1Integer(&version) || !body.ReadASN1(&algorithms, cbasn1.SET) ||
		!body.ReadASN1(&inner, cbasn1.SEQUENCE) || !inner.ReadASN1ObjectIdentifier(&m.kind) {
		return nil, broken
	}
	var wrapped, content cryptobyte.String
	if !inner.ReadOptionalASN1(&wrapped, &hasContent, context(0)) || hasContent && !wrapped.ReadASN1(&content, cbasn1.OCTET_STRING) {
		return nil, broken
	}
	m.content = content
	if !body.ReadOptionalASN1(&certs, &hasCerts, context(0)) || !body.SkipOptionalASN1(context(1)) || !body.ReadASN1(&signers, cbasn1.SET) {
		return nil, broken
	}
	for !certs.Empty() {
		var element cryptobyte.String
		var tag cbasn1.Tag
		if !certs.ReadAnyASN1Element(&element, &tag) {
			return nil, broken
		}
		// Others than certificates of X.509 have other tags; one that Go does not read signs nothing.
		if c, err := x509.ParseCertificate(element); err == nil && tag == cbasn1.SEQUENCE {
			m.certs = append(m.certs, c)
		}
	}
	var one cryptobyte.String
	if !signers.ReadASN1(&one, cbasn1.SEQUENCE) {
		return m, nil // nobody
	}
	if !m.readSigner(one) {
		return nil, broken
	}
	if !signers.Empty() {
		m.signer = nil
	}
	return m, nil
}

// readSigner reads a SignerInfo (RFC 5652 §5.3); false if it is none.
func (m *signedData) readSigner(in cryptobyte.String) bool {
	var version int
	var name, id, digest, attributes, algorithm, signature cryptobyte.String
	var serial big.Int
	var byID, hasAttributes bool
	ski := cbasn1.Tag(0).ContextSpecific()
	if !in.ReadASN1Integer(&version) || !in.ReadOptionalASN1(&id, &byID, ski) {
		return false
	}
	if !byID {
		var both cryptobyte.String
		if !in.ReadASN1(&both, cbasn1.SEQUENCE) || !both.ReadASN1Element(&name, cbasn1.SEQUENCE) || !both.ReadASN1Integer(&serial) {
			return false
		}
	}
	if !in.ReadASN1(&digest, cbasn1.SEQUENCE) || !digest.ReadASN1ObjectIdentifier(&m.digest) ||
		!in.ReadOptionalASN1(&attributes, &hasAttributes, context(0)) ||
		!in.ReadASN1(&algorithm, cbasn1.SEQUENCE) || !algorithm.ReadASN1ObjectIdentifier(&m.algorithm) ||
		!in.ReadASN1(&signature, cbasn1.OCTET_STRING) {
		return false
	}
	m.signature = signature
	if hasAttributes {
		// What is signed has the tag of a set in place of the one by which it stands here (§5.4).
		var b cryptobyte.Builder
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(attributes) })
		var err error
		if m.attributes, err = b.Bytes(); err != nil {
			return false
		}
	}
	i := slices.IndexFunc(m.certs, func(c *x509.Certificate) bool {
		if byID {
			return len(id) > 0 && bytes.Equal(c.SubjectKeyId, id)
		}
		return bytes.Equal(c.RawIssuer, name) && c.SerialNumber.Cmp(&serial) == 0
	})
	if i >= 0 {
		m.signer = m.certs[i]
	}
	return true
}

// verify checks the signature over the content.
func (m *signedData) verify() error {
	hash, ok := map[string]crypto.Hash{"2.16.840.1.101.3.4.2.1": crypto.SHA256, "2.16.840.1.101.3.4.2.2": crypto.SHA384, "2.16.840.1.101.3.4.2.3": crypto.SHA512}[m.digest.String()]
	if !ok {
		return errors.New("its hash is not SHA-2: others can be forged, or are not known")
	}
	octets := m.content
	if m.attributes == nil && !m.kind.Equal(oidData) {
		return errors.New("the kind of its contents is not signed")
	}
	if m.attributes != nil {
		h := hash.New()
		h.Write(m.content)
		if err := m.checkAttributes(h.Sum(nil)); err != nil {
			return err
		}
		octets = m.attributes
	}
	algorithm := signatureAlgorithm(m.algorithm.String(), hash)
	if algorithm == x509.UnknownSignatureAlgorithm {
		return errors.New("its algorithm is not known, or does not fit the hash")
	}
	return m.signer.CheckSignature(algorithm, octets, m.signature)
}

// checkAttributes sees that the attributes are about the content: each of the two must stand there
// once, with one value (RFC 5652 §11.1 and §11.2).
func (m *signedData) checkAttributes(digest []byte) error {
	wrong := errors.New("what is signed is about other contents")
	in := cryptobyte.String(m.attributes)
	var set cryptobyte.String
	if !in.ReadASN1(&set, cbasn1.SET) {
		return wrong
	}
	kinds, digests := 0, 0
	for !set.Empty() {
		var attribute, values, value cryptobyte.String
		var id, kind asn1.ObjectIdentifier
		if !set.ReadASN1(&attribute, cbasn1.SEQUENCE) || !attribute.ReadASN1ObjectIdentifier(&id) || !attribute.ReadASN1(&values, cbasn1.SET) {
			return wrong
		}
		switch {
		case id.Equal(oidContentType):
			if kinds++; !values.ReadASN1ObjectIdentifier(&kind) || !values.Empty() || !kind.Equal(m.kind) {
				return wrong
			}
		case id.Equal(oidMessageDigest):
			if digests++; !values.ReadASN1(&value, cbasn1.OCTET_STRING) || !values.Empty() || !bytes.Equal(value, digest) {
				return wrong
			}
		}
	}
	if kinds != 1 || digests != 1 {
		return wrong
	}
	return nil
}

// signatureAlgorithm is Go's name for an algorithm of CMS, which tells the hash too or leaves it
// to the digest's (RFC 3370 §3.2, RFC 4056, RFC 5753 §2.1, RFC 8419).
func signatureAlgorithm(id string, hash crypto.Hash) x509.SignatureAlgorithm {
	rsa := map[crypto.Hash]x509.SignatureAlgorithm{crypto.SHA256: x509.SHA256WithRSA, crypto.SHA384: x509.SHA384WithRSA, crypto.SHA512: x509.SHA512WithRSA}[hash]
	pss := map[crypto.Hash]x509.SignatureAlgorithm{crypto.SHA256: x509.SHA256WithRSAPSS, crypto.SHA384: x509.SHA384WithRSAPSS, crypto.SHA512: x509.SHA512WithRSAPSS}[hash]
	ecdsa := map[crypto.Hash]x509.SignatureAlgorithm{crypto.SHA256: x509.ECDSAWithSHA256, crypto.SHA384: x509.ECDSAWithSHA384, crypto.SHA512: x509.ECDSAWithSHA512}[hash]
	known := map[string]x509.SignatureAlgorithm{
		"1.2.840.113549.1.1.1": rsa, "1.2.840.113549.1.1.11": x509.SHA256WithRSA, "1.2.840.113549.1.1.12": x509.SHA384WithRSA, "1.2.840.113549.1.1.13": x509.SHA512WithRSA,
		"1.2.840.113549.1.1.10": pss, "1.2.840.10045.2.1": ecdsa, "1.2.840.10045.4.3.2": x509.ECDSAWithSHA256, "1.2.840.10045.4.3.3": x509.ECDSAWithSHA384, "1.2.840.10045.4.3.4": x509.ECDSAWithSHA512,
	}[id]
	if id == "1.3.101.112" && hash == crypto.SHA512 {
		return x509.PureEd25519
	}
	if known != rsa && known != pss && known != ecdsa {
		return x509.UnknownSignatureAlgorithm // that of another hash
	}
	return known
}

// toDER writes an encoding in BER, of which isShallow is true, in DER as far as readers of it
// need: lengths stand first, and octets in one piece.
func toDER(data []byte) []byte {
	out, _ := elementToDER(data, 0)
	return out
}

// elementToDER writes the element at i, and returns where the next one begins.
func elementToDER(data []byte, i int) ([]byte, int) {
	const octetString, constructedBit = 0x04, 0x20
	length, constructed, next := readHead(data, i)
	tag := []byte{data[i]}
	if data[i]&0x1f == 0x1f {
		for j := i + 1; ; j++ {
			tag = append(tag, data[j])
			if data[j] < 0x80 {
				break
			}
		}
	}
	var body []byte
	if !constructed {
		body = data[next : next+length]
		next += length
	} else {
		joined := data[i] == octetString|constructedBit
		if joined {
			tag = []byte{octetString}
		}
		end := next + length // one less than next where the end is marked
		for length < 0 && !bytes.HasPrefix(data[next:], []byte{0, 0}) || length >= 0 && next < end {
			var element []byte
			element, next = elementToDER(data, next)
			if joined {
				_, _, at := readHead(element, 0)
				element = element[at:]
			}
			body = append(body, element...)
		}
		if length < 0 {
			next += 2
		}
	}
	var size []byte
	if n := len(body); n < 0x80 {
		size = []byte{byte(n)}
	} else {
		for ; n > 0; n >>= 8 {
			size = append([]byte{byte(n)}, size...)
		}
		size = append([]byte{0x80 | byte(len(size))}, size...)
	}
	return slices.Concat(tag, size, body), next
}
