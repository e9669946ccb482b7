package message

import "fmt"

// AuthMethod is the method of an AUTH payload (RFC 7296 §3.8, RFC 4754, RFC 7427).
type AuthMethod uint8

const (
	AuthRSA       AuthMethod = 1
	AuthPSK       AuthMethod = 2
	AuthECDSA256  AuthMethod = 9
	AuthECDSA384  AuthMethod = 10
	AuthECDSA521  AuthMethod = 11
	AuthNull      AuthMethod = 13 // RFC 7619
	AuthSignature AuthMethod = 14
)

// String is a short name, or the number.
func (m AuthMethod) String() string {
	switch m {
	case AuthRSA:
		return "RSA signature"
	case AuthPSK:
		return "pre-shared key"
	case AuthECDSA256:
		return "ECDSA-256 signature"
	case AuthECDSA384:
		return "ECDSA-384 signature"
	case AuthECDSA521:
		return "ECDSA-521 signature"
	case AuthNull:
		return "NULL authentication"
	case AuthSignature:
		return "digital signature"
	}
	return fmt.Sprintf("authentication method %d", uint8(m))
}

// Auth is the Authentication payload (RFC 7296 §3.8).
type Auth struct {
	Method AuthMethod
	Data   []byte
}

func (*Auth) Type() PayloadType { return TypeAUTH }

func parseAuth(r *reader) (*Auth, error) {
	var m uint8
	if !r.s.ReadUint8(&m) || !r.s.Skip(3) {
		return nil, r.fail("authentication method is cut off")
	}
	return &Auth{Method: AuthMethod(m), Data: r.rest()}, nil
}

func (p *Auth) appendBody(b []byte) []byte {
	b = append(b, uint8(p.Method), 0, 0, 0)
	return append(b, p.Data...)
}
