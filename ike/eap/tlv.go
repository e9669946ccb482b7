package eap

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// The extensions inside PEAP (draft-josefsson-pppext-eap-tls-eap-06 §2.3; as Microsoft
// describes them in [MS-PEAP] §2.2.8): an EAP packet of type 33 with TLVs, always with its
// header.
const (
	tlvMandatory = 0x8000
	tlvTypeMask  = 0x3fff
	tlvResult    = 3
	tlvCrypto    = 12 // crypto binding, which is an offer that may be passed over

	resultSuccess = 1
	resultFailure = 2
)

// parseTLVs reads the result among the TLVs, 0 if there is none. Each one moves on by at
// least its header of 4 octets.
func parseTLVs(b []byte) (result uint16, err *Error) {
	s := cryptobyte.String(b)
	for !s.Empty() {
		var typ uint16
		var value cryptobyte.String
		if !s.ReadUint16(&typ) || !s.ReadUint16LengthPrefixed(&value) {
			return 0, protocolError("a TLV of PEAP is cut off")
		}
		switch typ & tlvTypeMask {
		case tlvResult:
			if result != 0 {
				return 0, protocolError("two results in PEAP")
			}
			if !value.ReadUint16(&result) || !value.Empty() || result != resultSuccess && result != resultFailure {
				return 0, protocolError("a result of PEAP that is neither success nor failure")
			}
		case tlvCrypto:
		default:
			if typ&tlvMandatory != 0 {
				return 0, protocolError(fmt.Sprintf("PEAP carries the mandatory TLV %d, which is not known here", typ&tlvTypeMask))
			}
		}
	}
	return result, nil
}

// resultTLV is the packet that tells or acknowledges a result.
func resultTLV(c code, id byte, result uint16) []byte {
	tlv := binary.BigEndian.AppendUint32(nil, (tlvMandatory|tlvResult)<<16|2)
	return newPacket(c, id, TypeTLV, binary.BigEndian.AppendUint16(tlv, result))
}
