package eap

import (
	"crypto/des"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf16"

	"golang.org/x/crypto/cryptobyte"
	//lint:ignore SA1019 RFC 2759 §8.3 wants it
	"golang.org/x/crypto/md4" //nolint:staticcheck // the same for another linter

	"martlet/crypto/suite"
)

// The arithmetic of MSCHAPv2 (RFC 2759 §8) and of the keys that follow from it
// (RFC 3079 §3).

// ntHash is NtPasswordHash (RFC 2759 §8.3) of a password in UTF-8.
func ntHash(password suite.Secret) []byte {
	units := utf16.Encode([]rune(string(password)))
	h := md4.New()
	for _, u := range units {
		h.Write(binary.LittleEndian.AppendUint16(nil, u))
	}
	return h.Sum(nil)
}

func md4Sum(b []byte) []byte {
	h := md4.New()
	h.Write(b)
	return h.Sum(nil)
}

// sha1Sum hashes the parts one after the other.
func sha1Sum(parts ...[]byte) []byte {
	h := sha1.New()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// challengeHash is ChallengeHash (RFC 2759 §8.2).
func challengeHash(peer, authenticator []byte, user string) []byte {
	return sha1Sum(peer, authenticator, []byte(user))[:8]
}

// ntResponse is GenerateNTResponse (RFC 2759 §8.1), of 24 octets.
func ntResponse(authenticator, peer []byte, user string, hash []byte) []byte {
	challenge := challengeHash(peer, authenticator, user)
	key := append(append(make([]byte, 0, 21), hash...), 0, 0, 0, 0, 0)
	out := make([]byte, 24)
	for i := range 3 {
		desEncrypt(out[8*i:], challenge, key[7*i:7*i+7])
	}
	return out
}

// desEncrypt encrypts one block with a key of 7 octets (RFC 2759 §8.6); the parity bits of
// the 8 octets that DES wants count for nothing.
func desEncrypt(dst, src, key []byte) {
	var k [8]byte
	for i := range k {
		// The seven bits from bit 7i on.
		at, offset := 7*i/8, 7*i%8
		two := uint16(key[at]) << 8
		if at+1 < len(key) {
			two |= uint16(key[at+1])
		}
		k[i] = byte(two >> (9 - offset) << 1)
	}
	block, err := des.NewCipher(k[:])
	if err != nil {
		panic(err) // the key has 8 octets
	}
	block.Encrypt(dst, src)
}

// authenticatorResponse is GenerateAuthenticatorResponse (RFC 2759 §8.7), of 20 octets.
func authenticatorResponse(hash, response, peer, authenticator []byte, user string) []byte {
	digest := sha1Sum(md4Sum(hash), response, []byte("Magic server to client signing constant"))
	return sha1Sum(digest, challengeHash(peer, authenticator, user), []byte("Pad to make it do more than one iteration"))
}

// mschapKeys are the two MPPE keys of 16 octets (RFC 3079 §3.3, §3.4): the one with which the
// peer sends and the one with which the server sends.
func mschapKeys(hash, response []byte) (peer, server []byte) {
	master := sha1Sum(md4Sum(hash), response, []byte("This is the MPPE Master Key"))[:16]
	pad1, pad2 := make([]byte, 40), []byte(strings.Repeat("\xf2", 40))
	start := func(magic string) []byte { return sha1Sum(master, pad1, []byte(magic), pad2)[:16] }
	return start("On the client side, this is the send key; on the server side, it is the receive key."),
		start("On the client side, this is the receive key; on the server side, it is the send key.")
}

// mschapMSK is the MSK of 64 octets, the keys in the order of RADIUS: what the server
// receives with first.
func mschapMSK(hash, response []byte) suite.Secret {
	peer, server := mschapKeys(hash, response)
	return append(append(peer, server...), make([]byte, 32)...)
}

// opcode is the first octet of MSCHAPv2 inside EAP (draft-kamath-pppext-eap-mschapv2 §2).
type opcode uint8

const (
	opChallenge opcode = 1
	opResponse  opcode = 2
	opSuccess   opcode = 3
	opFailure   opcode = 4
)

const (
	challengeLen = 16
	responseLen  = 49 // peer challenge 16, reserved 8, NT response 24, flags 1
)

// mschapPacket is one message; an acknowledgement is an opcode alone.
type mschapPacket struct {
	op    opcode
	id    byte
	value []byte // of a challenge 16 octets, of a response 49
	rest  []byte // the name behind the value, or the text of a success or failure
}

// parseMSCHAP reads what stands behind the type. A success or failure of one octet is an
// acknowledgement.
func parseMSCHAP(b []byte) (mschapPacket, *Error) {
	var p mschapPacket
	s := cryptobyte.String(b)
	if !s.ReadUint8((*uint8)(&p.op)) {
		return p, protocolError("MSCHAPv2 without an opcode")
	}
	if s.Empty() && (p.op == opSuccess || p.op == opFailure) {
		return p, nil
	}
	var length uint16
	if !s.ReadUint8(&p.id) || !s.ReadUint16(&length) {
		return p, protocolError("MSCHAPv2 is cut off in its header")
	}
	if int(length) != len(b) {
		return p, protocolError(fmt.Sprintf("the length field of MSCHAPv2 says %d octets, there are %d", length, len(b)))
	}
	want := 0
	switch p.op {
	case opChallenge:
		want = challengeLen
	case opResponse:
		want = responseLen
	case opSuccess, opFailure:
		p.rest = s
		return p, nil
	default:
		return p, protocolError(fmt.Sprintf("MSCHAPv2 with the opcode %d", p.op))
	}
	var value cryptobyte.String
	if !s.ReadUint8LengthPrefixed(&value) || len(value) != want {
		return p, protocolError(fmt.Sprintf("the value of MSCHAPv2 has not the %d octets that it must have", want))
	}
	p.value, p.rest = value, s
	return p, nil
}

// appendMSCHAP encodes a message with a header.
func appendMSCHAP(op opcode, id byte, value []byte, rest string) []byte {
	b := []byte{byte(op), id, 0, 0}
	if len(value) > 0 {
		b = append(b, byte(len(value)))
		b = append(b, value...)
	}
	b = append(b, rest...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

// mschapProof reads the "S=" of a success message, 40 hexadecimal digits (RFC 2759 §5).
func mschapProof(text []byte) ([]byte, bool) {
	if len(text) < 42 || string(text[:2]) != "S=" {
		return nil, false
	}
	proof, err := hex.DecodeString(string(text[2:42]))
	return proof, err == nil
}

// mschapFailure makes an error of the text of a failure, such as
// "E=691 R=0 C=… V=3 M=Authentication failed" (RFC 2759 §6). What is missing or
// unreadable is passed over.
func mschapFailure(text []byte) *Error {
	fields, said, _ := strings.Cut(string(text), "M=")
	number := ""
	for f := range strings.FieldsSeq(fields) {
		if n, ok := strings.CutPrefix(f, "E="); ok {
			number = n
		}
	}
	e := &Error{Code: CodeAccount, Remote: true}
	switch number {
	case "646":
		e.What, e.Hint = "the account may not log in at this hour", "ask who runs the gateway"
	case "647":
		e.What, e.Hint = "the account is disabled", "ask who runs the gateway"
	case "648":
		e.What, e.Hint = "the password has expired", "change it where the account lives, then connect again"
	case "649":
		e.What, e.Hint = "the account has no permission to dial in", "ask who runs the gateway"
	case "709":
		e.What, e.Hint = "the password could not be changed", "change it where the account lives, then connect again"
	default:
		e.Code, e.What, e.Hint = CodePassword, "the gateway refused user name or password", "check both; some gateways want the domain before the name: DOMAIN\\user"
	}
	if number != "" {
		e.Why = "it said error " + printable(number)
	}
	if said = strings.TrimSpace(said); said != "" {
		e.Why = strings.TrimPrefix(e.Why+": "+printable(said), ": ")
	}
	return e
}
