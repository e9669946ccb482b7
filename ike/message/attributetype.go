package message

import "fmt"

// AttributeType is the type of a configuration attribute, 15 bits
// (RFC 7296 §3.15.1).
type AttributeType uint16

const (
	InternalIP4Address  AttributeType = 1
	InternalIP4Netmask  AttributeType = 2
	InternalIP4DNS      AttributeType = 3
	InternalIP4NBNS     AttributeType = 4
	InternalIP4DHCP     AttributeType = 6
	ApplicationVersion  AttributeType = 7
	InternalIP6Address  AttributeType = 8 // address and prefix length
	InternalIP6DNS      AttributeType = 10
	InternalIP6DHCP     AttributeType = 12
	InternalIP4Subnet   AttributeType = 13 // address and mask
	SupportedAttributes AttributeType = 14
	InternalIP6Subnet   AttributeType = 15    // address and prefix length
	InternalDNSDomain   AttributeType = 25    // RFC 8598
	InternalDNSSECTA    AttributeType = 26    // RFC 8598
	MSInternalIP4Server AttributeType = 23456 // Microsoft, private use
	MSInternalIP6Server AttributeType = 23457 // Microsoft, private use
)

// String is the name in IANA's registry, or the number.
func (t AttributeType) String() string {
	switch t {
	case InternalIP4Address:
		return "INTERNAL_IP4_ADDRESS"
	case InternalIP4Netmask:
		return "INTERNAL_IP4_NETMASK"
	case InternalIP4DNS:
		return "INTERNAL_IP4_DNS"
	case InternalIP4NBNS:
		return "INTERNAL_IP4_NBNS"
	case InternalIP4DHCP:
		return "INTERNAL_IP4_DHCP"
	case ApplicationVersion:
		return "APPLICATION_VERSION"
	case InternalIP6Address:
		return "INTERNAL_IP6_ADDRESS"
	case InternalIP6DNS:
		return "INTERNAL_IP6_DNS"
	case InternalIP6DHCP:
		return "INTERNAL_IP6_DHCP"
	case InternalIP4Subnet:
		return "INTERNAL_IP4_SUBNET"
	case SupportedAttributes:
		return "SUPPORTED_ATTRIBUTES"
	case InternalIP6Subnet:
		return "INTERNAL_IP6_SUBNET"
	case InternalDNSDomain:
		return "INTERNAL_DNS_DOMAIN"
	case InternalDNSSECTA:
		return "INTERNAL_DNSSEC_TA"
	case MSInternalIP4Server:
		return "MS_INTERNAL_IP4_SERVER"
	case MSInternalIP6Server:
		return "MS_INTERNAL_IP6_SERVER"
	}
	return fmt.Sprintf("attribute %d", uint16(t))
}
