package message_test

import (
	"errors"
	"testing"

	. "martlet/ike/message"
)

func TestHeaderVersion(t *testing.T) {
	wire := (&Message{Header: Header{SPIi: 1, Exchange: IKESAInit, Flags: FlagInitiator}}).Append(nil)
	if h, err := ParseHeader(wire); err != nil || h.Major != 2 || h.Minor != 0 {
		t.Errorf("header written without version: %+v, %v; want 2.0", h, err)
	}
	for major := range uint8(16) {
		wire[17] = major<<4 | 5
		h, err := ParseHeader(wire)
		_, parseErr := Parse(wire)
		if major == 2 {
			// RFC 7296 §2.5: the minor version is ignored.
			if err != nil || parseErr != nil || h.Minor != 5 {
				t.Errorf("version 2.5: %+v, %v, %v", h, err, parseErr)
			}
			continue
		}
		v, ok := errors.AsType[*VersionError](err)
		if !ok || v.Major != major || h.SPIi != 1 {
			t.Errorf("major version %d: %+v, %v", major, h, err)
		}
		if _, ok := errors.AsType[*VersionError](parseErr); !ok {
			t.Errorf("major version %d: Parse: %v", major, parseErr)
		}
	}
}

func TestHeaderLength(t *testing.T) {
	wire := (&Message{Payloads: []Payload{&VendorID{}}}).Append(nil)
	for _, n := range []uint32{0, 27, 28, uint32(len(wire)) - 1, uint32(len(wire)) + 1, 0xffffffff} {
		wire[24], wire[25], wire[26], wire[27] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
		if _, err := ParseHeader(wire); !isSyntaxError(err) {
			t.Errorf("length %d of %d: got %v, want *Error", n, len(wire), err)
		}
	}
}

func TestNames(t *testing.T) {
	for want, got := range map[string]string{
		"IKE_SA_INIT":                   IKESAInit.String(),
		"CREATE_CHILD_SA":               CreateChildSA.String(),
		"exchange 240":                  ExchangeType(240).String(),
		"TSr":                           TypeTSr.String(),
		"payload 200":                   PayloadType(200).String(),
		"00000000000000ff":              SPI(255).String(),
		"NO_PROPOSAL_CHOSEN":            NoProposalChosen.String(),
		"IKEV2_FRAGMENTATION_SUPPORTED": FragmentationSupported.String(),
		"error 8191":                    NotifyType(8191).String(),
		"status 40960":                  NotifyType(40960).String(),
		"INTERNAL_IP6_SUBNET":           InternalIP6Subnet.String(),
		"attribute 99":                  AttributeType(99).String(),
		"CFG_REPLY":                     ConfigReply.String(),
		"CFG type 9":                    ConfigType(9).String(),
		"X.509 Certificate - Signature": CertX509Signature.String(),
		"certificate encoding 1":        CertEncoding(1).String(),
		"pre-shared key":                AuthPSK.String(),
		"authentication method 3":       AuthMethod(3).String(),
		"message: header, octet 3: why": (&Error{Offset: 3, Reason: "why"}).Error(),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if !TemporaryFailure.IsError() || !MSStatus.IsError() || InitialContact.IsError() {
		t.Error("IsError does not divide at 16384")
	}
}
