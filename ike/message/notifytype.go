package message

import "fmt"

// NotifyType is the type of a Notify payload: an error below 16384, a status from
// there on (RFC 7296 §3.10.1).
type NotifyType uint16

// Errors.
const (
	UnsupportedCriticalPayload NotifyType = 1
	InvalidIKESPI              NotifyType = 4
	InvalidMajorVersion        NotifyType = 5
	InvalidSyntax              NotifyType = 7
	InvalidMessageID           NotifyType = 9
	InvalidSPI                 NotifyType = 11
	NoProposalChosen           NotifyType = 14
	InvalidKEPayload           NotifyType = 17
	AuthenticationFailed       NotifyType = 24
	SinglePairRequired         NotifyType = 34
	NoAdditionalSAs            NotifyType = 35
	InternalAddressFailure     NotifyType = 36
	FailedCPRequired           NotifyType = 37
	TSUnacceptable             NotifyType = 38
	InvalidSelectors           NotifyType = 39
	UnacceptableAddresses      NotifyType = 40 // RFC 4555
	UnexpectedNATDetected      NotifyType = 41 // RFC 4555
	TemporaryFailure           NotifyType = 43
	ChildSANotFound            NotifyType = 44
	StateNotFound              NotifyType = 47    // RFC 9370
	TSMaxQueue                 NotifyType = 48    // RFC 9611
	MSStatus                   NotifyType = 12345 // Microsoft, private use
)

// Statuses.
const (
	InitialContact                NotifyType = 16384
	SetWindowSize                 NotifyType = 16385
	AdditionalTSPossible          NotifyType = 16386
	IPCompSupported               NotifyType = 16387
	NATDetectionSourceIP          NotifyType = 16388
	NATDetectionDestinationIP     NotifyType = 16389
	Cookie                        NotifyType = 16390
	UseTransportMode              NotifyType = 16391
	HTTPCertLookupSupported       NotifyType = 16392
	RekeySA                       NotifyType = 16393
	ESPTFCPaddingNotSupported     NotifyType = 16394
	NonFirstFragmentsAlso         NotifyType = 16395
	MOBIKESupported               NotifyType = 16396 // RFC 4555
	AdditionalIP4Address          NotifyType = 16397 // RFC 4555
	AdditionalIP6Address          NotifyType = 16398 // RFC 4555
	NoAdditionalAddresses         NotifyType = 16399 // RFC 4555
	UpdateSAAddresses             NotifyType = 16400 // RFC 4555
	Cookie2                       NotifyType = 16401 // RFC 4555
	NoNATsAllowed                 NotifyType = 16402 // RFC 4555
	AuthLifetime                  NotifyType = 16403 // RFC 4478
	MultipleAuthSupported         NotifyType = 16404 // RFC 4739
	AnotherAuthFollows            NotifyType = 16405 // RFC 4739
	RedirectSupported             NotifyType = 16406 // RFC 5685
	Redirect                      NotifyType = 16407 // RFC 5685
	RedirectedFrom                NotifyType = 16408 // RFC 5685
	TicketLTOpaque                NotifyType = 16409 // RFC 5723
	TicketRequest                 NotifyType = 16410 // RFC 5723
	TicketACK                     NotifyType = 16411 // RFC 5723
	TicketNACK                    NotifyType = 16412 // RFC 5723
	TicketOpaque                  NotifyType = 16413 // RFC 5723
	EAPOnlyAuthentication         NotifyType = 16417 // RFC 5998
	ChildlessIKEv2Supported       NotifyType = 16418 // RFC 6023
	QuickCrashDetection           NotifyType = 16419 // RFC 6290
	FragmentationSupported        NotifyType = 16430 // RFC 7383
	SignatureHashAlgorithms       NotifyType = 16431 // RFC 7427
	PuzzleDemand                  NotifyType = 16434 // RFC 8019, PUZZLE
	UsePPK                        NotifyType = 16435 // RFC 8784
	PPKIdentity                   NotifyType = 16436 // RFC 8784
	NoPPKAuth                     NotifyType = 16437 // RFC 8784
	IntermediateExchangeSupported NotifyType = 16438 // RFC 9242
	AdditionalKeyExchange         NotifyType = 16441 // RFC 9370
	SupportedAuthMethods          NotifyType = 16443 // RFC 9593
	SAResourceInfo                NotifyType = 16444 // RFC 9611
	Padding                       NotifyType = 51737 // of ours, private use: fills a message, and says nothing
)

// IsError tells whether the type is an error. One in a request is to be ignored
// where it is not known; one in a response means that the request failed
// (RFC 7296 §3.10.1).
func (t NotifyType) IsError() bool { return t < 16384 }

// String is the name in IANA's registry, or the number.
func (t NotifyType) String() string {
	switch t {
	case UnsupportedCriticalPayload:
		return "UNSUPPORTED_CRITICAL_PAYLOAD"
	case InvalidIKESPI:
		return "INVALID_IKE_SPI"
	case InvalidMajorVersion:
		return "INVALID_MAJOR_VERSION"
	case InvalidSyntax:
		return "INVALID_SYNTAX"
	case InvalidMessageID:
		return "INVALID_MESSAGE_ID"
	case InvalidSPI:
		return "INVALID_SPI"
	case NoProposalChosen:
		return "NO_PROPOSAL_CHOSEN"
	case InvalidKEPayload:
		return "INVALID_KE_PAYLOAD"
	case AuthenticationFailed:
		return "AUTHENTICATION_FAILED"
	case SinglePairRequired:
		return "SINGLE_PAIR_REQUIRED"
	case NoAdditionalSAs:
		return "NO_ADDITIONAL_SAS"
	case InternalAddressFailure:
		return "INTERNAL_ADDRESS_FAILURE"
	case FailedCPRequired:
		return "FAILED_CP_REQUIRED"
	case TSUnacceptable:
		return "TS_UNACCEPTABLE"
	case InvalidSelectors:
		return "INVALID_SELECTORS"
	case UnacceptableAddresses:
		return "UNACCEPTABLE_ADDRESSES"
	case UnexpectedNATDetected:
		return "UNEXPECTED_NAT_DETECTED"
	case TemporaryFailure:
		return "TEMPORARY_FAILURE"
	case ChildSANotFound:
		return "CHILD_SA_NOT_FOUND"
	case StateNotFound:
		return "STATE_NOT_FOUND"
	case TSMaxQueue:
		return "TS_MAX_QUEUE"
	case MSStatus:
		return "MS_STATUS"
	case InitialContact:
		return "INITIAL_CONTACT"
	case SetWindowSize:
		return "SET_WINDOW_SIZE"
	case AdditionalTSPossible:
		return "ADDITIONAL_TS_POSSIBLE"
	case IPCompSupported:
		return "IPCOMP_SUPPORTED"
	case NATDetectionSourceIP:
		return "NAT_DETECTION_SOURCE_IP"
	case NATDetectionDestinationIP:
		return "NAT_DETECTION_DESTINATION_IP"
	case Cookie:
		return "COOKIE"
	case UseTransportMode:
		return "USE_TRANSPORT_MODE"
	case HTTPCertLookupSupported:
		return "HTTP_CERT_LOOKUP_SUPPORTED"
	case RekeySA:
		return "REKEY_SA"
	case ESPTFCPaddingNotSupported:
		return "ESP_TFC_PADDING_NOT_SUPPORTED"
	case NonFirstFragmentsAlso:
		return "NON_FIRST_FRAGMENTS_ALSO"
	case MOBIKESupported:
		return "MOBIKE_SUPPORTED"
	case AdditionalIP4Address:
		return "ADDITIONAL_IP4_ADDRESS"
	case AdditionalIP6Address:
		return "ADDITIONAL_IP6_ADDRESS"
	case NoAdditionalAddresses:
		return "NO_ADDITIONAL_ADDRESSES"
	case UpdateSAAddresses:
		return "UPDATE_SA_ADDRESSES"
	case Cookie2:
		return "COOKIE2"
	case NoNATsAllowed:
		return "NO_NATS_ALLOWED"
	case AuthLifetime:
		return "AUTH_LIFETIME"
	case MultipleAuthSupported:
		return "MULTIPLE_AUTH_SUPPORTED"
	case AnotherAuthFollows:
		return "ANOTHER_AUTH_FOLLOWS"
	case RedirectSupported:
		return "REDIRECT_SUPPORTED"
	case Redirect:
		return "REDIRECT"
	case RedirectedFrom:
		return "REDIRECTED_FROM"
	case TicketLTOpaque:
		return "TICKET_LT_OPAQUE"
	case TicketRequest:
		return "TICKET_REQUEST"
	case TicketACK:
		return "TICKET_ACK"
	case TicketNACK:
		return "TICKET_NACK"
	case TicketOpaque:
		return "TICKET_OPAQUE"
	case EAPOnlyAuthentication:
		return "EAP_ONLY_AUTHENTICATION"
	case ChildlessIKEv2Supported:
		return "CHILDLESS_IKEV2_SUPPORTED"
	case QuickCrashDetection:
		return "QUICK_CRASH_DETECTION"
	case FragmentationSupported:
		return "IKEV2_FRAGMENTATION_SUPPORTED"
	case SignatureHashAlgorithms:
		return "SIGNATURE_HASH_ALGORITHMS"
	case PuzzleDemand:
		return "PUZZLE"
	case UsePPK:
		return "USE_PPK"
	case PPKIdentity:
		return "PPK_IDENTITY"
	case NoPPKAuth:
		return "NO_PPK_AUTH"
	case IntermediateExchangeSupported:
		return "INTERMEDIATE_EXCHANGE_SUPPORTED"
	case AdditionalKeyExchange:
		return "ADDITIONAL_KEY_EXCHANGE"
	case SupportedAuthMethods:
		return "SUPPORTED_AUTH_METHODS"
	case SAResourceInfo:
		return "SA_RESOURCE_INFO"
	}
	if t.IsError() {
		return fmt.Sprintf("error %d", uint16(t))
	}
	return fmt.Sprintf("status %d", uint16(t))
}
