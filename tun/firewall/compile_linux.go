package firewall

import (
	"encoding/binary"
	"net"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

var hooks = map[string]*nftables.ChainHook{
	"prerouting":  nftables.ChainHookPrerouting,
	"input":       nftables.ChainHookInput,
	"output":      nftables.ChainHookOutput,
	"postrouting": nftables.ChainHookPostrouting,
	"forward":     nftables.ChainHookForward,
}

// arpInput is NF_ARP_IN of linux/netfilter_arp.h.
var arpInput = nftables.ChainHookRef(0)

var hookPriorities = map[string]*nftables.ChainPriority{
	"raw":    nftables.ChainPriorityRaw,
	"mangle": nftables.ChainPriorityMangle,
	"filter": nftables.ChainPriorityFilter,
	"srcnat": nftables.ChainPriorityNATSource,

	"srcnat + 10": nftables.ChainPriorityRef(*nftables.ChainPriorityNATSource + 10),
}

// compile turns a clause into the kernel's expressions. Register 1 carries the
// value that is looked at.
func compile(c clause) []expr.Any {
	const reg = 1 // NFT_REG_1
	equal := func(not bool, data []byte) *expr.Cmp {
		op := expr.CmpOpEq
		if not {
			op = expr.CmpOpNeq
		}
		return &expr.Cmp{Op: op, Register: reg, Data: data}
	}
	native := func(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
	layer4 := func(p byte) []expr.Any {
		return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg}, equal(false, []byte{p})}
	}
	switch c := c.(type) {
	case iface:
		name := make([]byte, unix.IFNAMSIZ)
		copy(name, c.name)
		key := expr.MetaKeyIIFNAME
		if c.out {
			key = expr.MetaKeyOIFNAME
		}
		return []expr.Any{&expr.Meta{Key: key, Register: reg}, equal(c.not, name)}
	case address:
		return compileAddress(c)
	case addressType:
		return []expr.Any{
			&expr.Fib{Register: reg, ResultADDRTYPE: true, FlagSADDR: !c.destination, FlagDADDR: c.destination},
			equal(c.not, native(unix.RTN_LOCAL)),
		}
	case udpPort:
		return append(layer4(udp),
			&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			equal(false, binary.BigEndian.AppendUint16(nil, uint16(c))))
	case udpPorts:
		return append(layer4(udp),
			&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 4},
			equal(false, binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, c.from), c.to)))
	case tcpPort:
		return append(layer4(tcp),
			&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			equal(false, binary.BigEndian.AppendUint16(nil, uint16(c))))
	case udpSource:
		return append(layer4(udp),
			&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2},
			equal(false, binary.BigEndian.AppendUint16(nil, uint16(c))))
	case mark:
		return []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: reg}, equal(false, native(uint32(c)))}
	case socketMark:
		return []expr.Any{&expr.Socket{Key: expr.SocketKeyMark, Register: reg}, equal(false, native(uint32(c)))}
	case connMark:
		return []expr.Any{&expr.Ct{Key: expr.CtKeyMARK, Register: reg}, equal(false, native(uint32(c)))}
	case setMark:
		return []expr.Any{
			&expr.Immediate{Register: reg, Data: native(uint32(c))},
			&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg},
		}
	case setConn:
		return []expr.Any{
			&expr.Immediate{Register: reg, Data: native(uint32(c))},
			&expr.Ct{Key: expr.CtKeyMARK, SourceRegister: true, Register: reg},
		}
	case family:
		nf := byte(unix.NFPROTO_IPV4)
		if c == 6 {
			nf = unix.NFPROTO_IPV6
		}
		return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg}, equal(false, []byte{nf})}
	case icmp6Type:
		return slices.Concat(compile(family(6)), layer4(icmp6), []expr.Any{
			&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
			equal(false, []byte{byte(c)}),
		})
	case synOnly:
		const syn, rst = 0x02, 0x04
		return append(layer4(tcp),
			&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
			&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 1, Mask: []byte{syn | rst}, Xor: []byte{0}},
			equal(false, []byte{syn}))
	case segment:
		const maxseg = 2 // option kind, RFC 9293 section 3.2
		return []expr.Any{
			&expr.Immediate{Register: reg, Data: binary.BigEndian.AppendUint16(nil, uint16(c))},
			&expr.Exthdr{SourceRegister: reg, Type: maxseg, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt},
		}
	case holePort:
		// Both values stand one behind the other, in registers of 4 octets.
		const first, second = unix.NFT_REG32_00, unix.NFT_REG32_01
		offset := uint32(0)
		if c.destination {
			offset = 2
		}
		return []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: first},
			&expr.Payload{DestRegister: second, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
			&expr.Lookup{SourceRegister: first, SetName: "hole"},
		}
	case answer:
		return []expr.Any{
			&expr.Ct{Key: expr.CtKeySTATE, Register: reg},
			&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: native(expr.CtStateBitESTABLISHED), Xor: native(0)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: native(0)},
		}
	case masquerade:
		return []expr.Any{&expr.Masq{FullyRandom: true}}
	case accept:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	case drop:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
	}
	return nil
}

// compileAddress compares a source or destination under its prefix.
func compileAddress(c address) []expr.Any {
	const reg = 1 // NFT_REG_1
	p := c.prefix.Masked()
	nf, offset := byte(unix.NFPROTO_IPV4), uint32(12)
	if p.Addr().Is6() {
		nf, offset = unix.NFPROTO_IPV6, 8
	}
	length := uint32(p.Addr().BitLen() / 8)
	if c.destination {
		offset += length
	}
	out := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{nf}},
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
	}
	if !p.IsSingleIP() {
		out = append(out, &expr.Bitwise{
			SourceRegister: reg, DestRegister: reg, Len: length,
			Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()),
			Xor:  make([]byte, length),
		})
	}
	return append(out, &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: p.Addr().AsSlice()})
}
