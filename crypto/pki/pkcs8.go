package pki

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// maxIterations bounds the work that an encrypted key asks for.
const maxIterations = 2_000_000

// decryptPKCS8 opens an EncryptedPrivateKeyInfo (RFC 5958 §3) that was encrypted by PBES2 with
// PBKDF2 and AES-CBC (RFC 8018 §6.2), as OpenSSL does since 1.1.
func decryptPKCS8(der, password []byte) ([]byte, error) {
	errOther := errors.New("pki: private key: encrypted in a way that is not supported (PBES2 with PBKDF2 and AES was expected); encrypt it again: openssl pkcs8 -topk8 -in FILE -out key.pem")
	in := cryptobyte.String(der)
	var info, algorithm, params, kdf, scheme, body cryptobyte.String
	var id asn1.ObjectIdentifier
	if !in.ReadASN1(&info, cbasn1.SEQUENCE) || !in.Empty() ||
		!info.ReadASN1(&algorithm, cbasn1.SEQUENCE) || !info.ReadASN1(&body, cbasn1.OCTET_STRING) ||
		!algorithm.ReadASN1ObjectIdentifier(&id) {
		return nil, errors.New("pki: private key: the encrypted key is damaged")
	}
	if !id.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}) || !algorithm.ReadASN1(&params, cbasn1.SEQUENCE) ||
		!params.ReadASN1(&kdf, cbasn1.SEQUENCE) || !params.ReadASN1(&scheme, cbasn1.SEQUENCE) ||
		!kdf.ReadASN1ObjectIdentifier(&id) || !id.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}) {
		return nil, errOther
	}
	var keyLen int
	var iv cryptobyte.String
	if !scheme.ReadASN1ObjectIdentifier(&id) || !scheme.ReadASN1(&iv, cbasn1.OCTET_STRING) || len(iv) != aes.BlockSize {
		return nil, errOther
	}
	switch {
	case id.Equal(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}):
		keyLen = 16
	case id.Equal(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}):
		keyLen = 24
	case id.Equal(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}):
		keyLen = 32
	default:
		return nil, errOther
	}
	key, ok := readPBKDF2(kdf, password, keyLen)
	if !ok || len(body) == 0 || len(body)%aes.BlockSize != 0 {
		return nil, errOther
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("pki: private key: %w", err)
	}
	plain := slices.Clone([]byte(body))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, plain)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > aes.BlockSize || slices.ContainsFunc(plain[len(plain)-pad:], func(b byte) bool { return int(b) != pad }) {
		return nil, fmt.Errorf("pki: private key: %w", ErrPassword)
	}
	return plain[:len(plain)-pad], nil
}

// readPBKDF2 derives a key by PBKDF2-params (RFC 8018 §A.2).
func readPBKDF2(kdf cryptobyte.String, password []byte, keyLen int) ([]byte, bool) {
	var params, salt, prf cryptobyte.String
	var iterations, length int
	var hasPRF bool
	if !kdf.ReadASN1(&params, cbasn1.SEQUENCE) || !params.ReadASN1(&salt, cbasn1.OCTET_STRING) ||
		!params.ReadASN1Integer(&iterations) || iterations < 1 || iterations > maxIterations {
		return nil, false
	}
	if params.PeekASN1Tag(cbasn1.INTEGER) && (!params.ReadASN1Integer(&length) || length != keyLen) {
		return nil, false
	}
	if !params.ReadOptionalASN1(&prf, &hasPRF, cbasn1.SEQUENCE) {
		return nil, false
	}
	h := sha1.New
	if hasPRF {
		var id asn1.ObjectIdentifier
		if !prf.ReadASN1ObjectIdentifier(&id) {
			return nil, false
		}
		switch hmac := (asn1.ObjectIdentifier{1, 2, 840, 113549, 2}); {
		case id.Equal(append(hmac, 7)):
		case id.Equal(append(hmac, 9)):
			h = sha256.New
		case id.Equal(append(hmac, 10)):
			h = sha512.New384
		case id.Equal(append(hmac, 11)):
			h = sha512.New
		default:
			return nil, false
		}
	}
	key, err := pbkdf2.Key(h, string(password), salt, iterations, keyLen)
	return key, err == nil
}
