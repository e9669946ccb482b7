// Package eap is the Extensible Authentication Protocol (RFC 3748), the peer's end and the
// server's, with the methods that IKEv2 clients use: MSCHAPv2, TLS (RFC 5216, RFC 9190),
// TTLS (RFC 5281), PEAP version 0, GTC and MD5.
//
// It is pure: packets go in, a Step comes out that says what is wanted next. The methods
// on TLS run crypto/tls as a coroutine over a connection in memory, so that no scheduler
// is involved; Stop ends it.
//
// A Peer or a Server is one conversation. Handle takes a packet; the Step is a packet to send, or
// something to do first (a computation, the password of an account, a question about
// certificates) whose result is given by the method that Step names; or the end. After a
// successful one MSK is the key for the AUTH payloads (RFC 7296 §2.16). Stop must be called at
// every end. Errors are *Error with codes of their own, which all begin with "eap-".
//
// IKE and RADIUS lose, repeat and forge nothing that we see, so that a packet out of turn
// ends the conversation, where RFC 3748 on a shared wire would ignore it. Only a packet
// that repeats the last one bit for bit gets the last answer again.
package eap

import (
	"crypto/x509"
	"fmt"
	"strings"

	"martlet/crypto/suite"
)

// Type is the type of an EAP method (RFC 3748 §5 and IANA's registry).
type Type uint8

const (
	TypeIdentity     Type = 1
	TypeNotification Type = 2
	TypeNak          Type = 3
	TypeMD5          Type = 4
	TypeGTC          Type = 6
	TypeTLS          Type = 13
	TypeTTLS         Type = 21
	TypePEAP         Type = 25
	TypeMSCHAPv2     Type = 26
	TypeTLV          Type = 33 // the results inside PEAP
	TypeExpanded     Type = 254
)

// What TTLS carries without EAP (RFC 5281 §11.2). They stand in lists of inner methods
// only; their numbers are unassigned and never on the wire.
const (
	TypePAP           Type = 240
	TypePlainMSCHAPv2 Type = 241
)

// words are the names of the configuration.
func words() map[Type]string {
	return map[Type]string{
		TypeMD5: "md5", TypeGTC: "gtc", TypeTLS: "tls", TypeTTLS: "ttls", TypePEAP: "peap", TypeMSCHAPv2: "mschapv2",
		TypePAP: "pap", TypePlainMSCHAPv2: "plain-mschapv2",
	}
}

// String is the word of the configuration, such as "mschapv2".
func (t Type) String() string {
	if w, ok := words()[t]; ok {
		return w
	}
	switch t {
	case TypeIdentity:
		return "identity"
	case TypeNotification:
		return "notification"
	case TypeNak:
		return "nak"
	case TypeTLV:
		return "tlv"
	case TypeExpanded:
		return "expanded"
	default:
		return fmt.Sprintf("eap-%d", uint8(t))
	}
}

// ParseType reads the word of a method, in any case, with or without "eap-" before it.
// "pap" and "plain-mschapv2" are for inside TTLS only.
func ParseType(s string) (Type, error) {
	word := strings.TrimPrefix(strings.ToLower(s), "eap-")
	for t, w := range words() {
		if w == word {
			return t, nil
		}
	}
	return 0, fmt.Errorf("eap: no method %q; known are mschapv2, tls, ttls, peap, gtc, md5, and inside ttls pap and plain-mschapv2", s)
}

// tunnels tells whether the method protects another one inside.
func (t Type) tunnels() bool { return t == TypeTTLS || t == TypePEAP }

// onTLS tells whether the method runs TLS.
func (t Type) onTLS() bool { return t == TypeTLS || t.tunnels() }

// Mutual tells whether the method authenticates the server too, makes a key, and
// withstands a false server that guesses passwords afterwards: only such methods are fit
// where the gateway proves itself by nothing else (RFC 5998 §4). MSCHAPv2 is not: what a
// false gateway gets suffices to find the password.
func (t Type) Mutual() bool { return t.onTLS() }

// Step is what a conversation wants next. Exactly one of Send, Work, Lookup, Vouch and Done
// holds, but a server's last step may have Send beside Done.
type Step struct {
	Send   []byte // an EAP packet for the other side; the caller may keep it
	Work   func() // a computation that may take long; run it once, on any goroutine, then call Resume
	Lookup string // server only: the account of this name is wanted, then call Account; as it came, see BareName
	Vouch  *Vouch // whether certificates are revoked is to be asked, then call Vouched; only where Revocation is not off
	Done   bool   // it is over; with Err nil successfully
	Err    error  // an *Error
}

// Vouch is a chain of the other side's TLS certificates that was verified, but for
// revocation. Nothing that is worth protecting was said to its owner so far.
type Vouch struct {
	Chain   []*x509.Certificate // the other side's own first, the trusted one last
	Stapled [][]byte            // OCSP responses in DER that came along, unverified; mostly none
}

// Account is what a server knows of a user. One of the two suffices, but MD5 needs the
// password. An account that has neither lets nobody in.
type Account struct {
	Password suite.Secret // UTF-8
	NTHash   []byte       // 16 octets: MD4 of the password in UTF-16LE (RFC 2759 §8.3)
}

// BareName is a user name without the domain before it: of DOMAIN\user it is "user".
func BareName(name string) string { return name[strings.LastIndexByte(name, '\\')+1:] }

// Bounds of one conversation. A chain of certificates of 64 KiB in pieces of 500 octets
// fits.
const (
	maxRounds = 256
	maxOctets = 512 << 10
	maxName   = 253 // of a user, in octets (RFC 7542 §2.3 has the same for domains)
)

// waiting is what the caller has to bring next.
type waiting uint8

const (
	waitPacket waiting = iota
	waitWork
	waitAccount
	waitVouched
)

// lifetime counts what one conversation took.
type lifetime struct{ rounds, octets int }

func (l *lifetime) spend(packet []byte) *Error {
	l.rounds++
	l.octets += len(packet)
	if l.rounds > maxRounds || l.octets > maxOctets {
		return &Error{
			Code: CodeLimit, What: "the EAP conversation does not end",
			Why: fmt.Sprintf("%d packets with %d octets came; at most %d and %d are allowed", l.rounds, l.octets, maxRounds, maxOctets),
		}
	}
	return nil
}
