package message

import (
	"encoding/binary"
	"fmt"
	"math"
)

// ConfigType is the CFG Type of a Configuration payload (RFC 7296 §3.15).
type ConfigType uint8

const (
	ConfigRequest ConfigType = 1
	ConfigReply   ConfigType = 2
	ConfigSet     ConfigType = 3
	ConfigAck     ConfigType = 4
)

// String is the name in IANA's registry, or the number.
func (t ConfigType) String() string {
	switch t {
	case ConfigRequest:
		return "CFG_REQUEST"
	case ConfigReply:
		return "CFG_REPLY"
	case ConfigSet:
		return "CFG_SET"
	case ConfigAck:
		return "CFG_ACK"
	}
	return fmt.Sprintf("CFG type %d", uint8(t))
}

// Config is the Configuration payload (RFC 7296 §3.15). Attributes that this
// package does not know are kept and must be ignored.
type Config struct {
	Kind       ConfigType
	Attributes []Attribute
}

const attributeTypeMask = 0x7fff // the top bit is reserved (RFC 7296 §3.15.1)

func (*Config) Type() PayloadType { return TypeCP }

func parseConfig(r *reader) (*Config, error) {
	var kind uint8
	if !r.s.ReadUint8(&kind) || !r.s.Skip(3) {
		return nil, r.fail("configuration type is cut off")
	}
	p := &Config{Kind: ConfigType(kind)}
	for !r.empty() {
		if err := r.part(); err != nil {
			return nil, err
		}
		var t, length uint16
		if !r.s.ReadUint16(&t) || !r.s.ReadUint16(&length) {
			return nil, r.fail("configuration attribute is cut off in its header")
		}
		value, ok := r.bytes(int(length))
		if !ok {
			return nil, r.fail(fmt.Sprintf("configuration attribute says %d octets, %d are left", length, len(r.s)))
		}
		p.Attributes = append(p.Attributes, Attribute{Type: AttributeType(t & attributeTypeMask), Value: value})
	}
	return p, nil
}

func (p *Config) appendBody(b []byte) []byte {
	b = append(b, uint8(p.Kind), 0, 0, 0)
	for _, a := range p.Attributes {
		if len(a.Value) > math.MaxUint16 {
			return nil
		}
		b = binary.BigEndian.AppendUint16(b, uint16(a.Type)&attributeTypeMask)
		b = binary.BigEndian.AppendUint16(b, uint16(len(a.Value)))
		b = append(b, a.Value...)
	}
	return b
}
