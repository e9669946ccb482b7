package eap

import (
	"encoding/binary"

	"golang.org/x/crypto/cryptobyte"
)

// avp is an attribute inside TTLS (RFC 5281 §10.1), in the format of Diameter.
type avp struct {
	code, vendor uint32 // vendor 0: none
	mandatory    bool
	data         []byte
}

const (
	avpUserName     = 1
	avpUserPassword = 2
	avpReplyMessage = 18
	avpEAPMessage   = 79

	vendorMicrosoft     = 311
	avpMSCHAPError      = 2
	avpMSCHAPChallenge  = 11
	avpMSCHAP2Response  = 25
	avpMSCHAP2Success   = 26
	flagVendor          = 0x80
	flagMandatory       = 0x40
	avpHeader           = 8
	avpHeaderWithVendor = 12
)

// parseAVPs reads all of them. A length shorter than the header ends it: each one moves
// on by at least 8 octets. The padding of the last one may be missing.
func parseAVPs(b []byte) ([]avp, *Error) {
	var out []avp
	s := cryptobyte.String(b)
	for !s.Empty() {
		var a avp
		var flags uint8
		var length uint32
		if !s.ReadUint32(&a.code) || !s.ReadUint8(&flags) || !s.ReadUint24(&length) {
			return nil, protocolError("an AVP of TTLS is cut off")
		}
		header := uint32(avpHeader)
		if flags&flagVendor != 0 {
			header = avpHeaderWithVendor
			if !s.ReadUint32(&a.vendor) {
				return nil, protocolError("an AVP of TTLS is cut off")
			}
		}
		if length < header {
			return nil, protocolError("an AVP of TTLS is shorter than its header")
		}
		n := int(length - header)
		if !s.ReadBytes(&a.data, n) {
			return nil, protocolError("an AVP of TTLS is cut off")
		}
		s.Skip(min(-n&3, len(s)))
		a.mandatory = flags&flagMandatory != 0
		out = append(out, a)
	}
	return out, nil
}

// appendAVP encodes a mandatory attribute.
func appendAVP(b []byte, code, vendor uint32, data []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, code)
	length := uint32(avpHeader + len(data))
	flags := uint32(flagMandatory)
	if vendor != 0 {
		length += avpHeaderWithVendor - avpHeader
		flags |= flagVendor
	}
	b = binary.BigEndian.AppendUint32(b, flags<<24|length)
	if vendor != 0 {
		b = binary.BigEndian.AppendUint32(b, vendor)
	}
	b = append(b, data...)
	return append(b, make([]byte, -len(data)&3)...)
}

// findAVP is the data of an attribute, of several the pieces put together: RADIUS cuts
// long EAP-Messages.
func findAVP(avps []avp, code, vendor uint32) (data []byte, found bool) {
	for _, a := range avps {
		if a.code == code && a.vendor == vendor {
			data, found = append(data, a.data...), true
		}
	}
	return data, found
}

// understood refuses mandatory attributes that we do not know (RFC 5281 §10.1).
func understood(avps []avp) *Error {
	for _, a := range avps {
		if !a.mandatory {
			continue
		}
		switch a.vendor {
		case 0:
			switch a.code {
			case avpUserName, avpUserPassword, avpReplyMessage, avpEAPMessage:
				continue
			}
		case vendorMicrosoft:
			switch a.code {
			case avpMSCHAPError, avpMSCHAPChallenge, avpMSCHAP2Response, avpMSCHAP2Success:
				continue
			}
		}
		return protocolError("TTLS carries a mandatory attribute that is not known here")
	}
	return nil
}
