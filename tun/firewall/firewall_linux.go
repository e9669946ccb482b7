package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// New makes a Firewall; log may be nil. It acts on the network namespace that the
// calling thread is in at Set and Clear.
func New(log *zap.Logger) Firewall {
	if log == nil {
		log = zap.NewNop()
	}
	return &firewall{log: log}
}

type firewall struct {
	log *zap.Logger

	mu     sync.Mutex
	tables []table // in force
}

func (f *firewall) Set(r Rules) error {
	if err := r.check(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	conn, err := connect()
	if err != nil {
		return failed("open nftables", err)
	}
	for _, t := range f.tables {
		erase(conn, t)
	}
	wanted := r.tables()
	for _, t := range wanted {
		erase(conn, t)
		build(conn, t)
	}
	if err := conn.Flush(); err != nil {
		return failed("set table "+r.table(), err)
	}
	f.tables = wanted
	f.log.Debug("firewall set", zap.Stringer("table", r))
	return nil
}

func build(conn *nftables.Conn, t table) {
	made := conn.AddTable(t.kernel())
	policy := nftables.ChainPolicyAccept
	for _, c := range t.chains {
		point, priority := hooks[c.hook], hookPriorities[c.priority]
		if t.family == "arp" {
			point, priority = arpInput, nftables.ChainPriorityFilter
		}
		in := conn.AddChain(&nftables.Chain{
			Name:     c.name,
			Table:    made,
			Type:     nftables.ChainType(c.kind),
			Hooknum:  point,
			Priority: priority,
			Policy:   &policy,
		})
		for _, line := range c.rules {
			var exprs []expr.Any
			for _, part := range line {
				exprs = append(exprs, compile(part)...)
			}
			conn.AddRule(&nftables.Rule{Table: made, Chain: in, Exprs: exprs})
		}
	}
}

func (f *firewall) Clear() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.tables) == 0 {
		return nil
	}
	conn, err := connect()
	if err != nil {
		return failed("open nftables", err)
	}
	for _, t := range f.tables {
		erase(conn, t)
	}
	if err := conn.Flush(); err != nil {
		return failed("remove table "+f.tables[0].name, err)
	}
	f.tables = nil
	return nil
}

// Recover removes the tables of ours whose interface does not exist: a TUN
// vanishes with its process, the table of a killed process stays.
func Recover(log *zap.Logger) error {
	if log == nil {
		log = zap.NewNop()
	}
	conn, err := connect()
	if err != nil {
		return failed("open nftables", err)
	}
	tables, err := conn.ListTables()
	if err != nil {
		return failed("list tables", err)
	}
	found := false
	for _, t := range tables {
		device, ours := strings.CutPrefix(t.Name, TablePrefix)
		if !ours {
			continue
		}
		if _, err := net.InterfaceByName(device); err == nil {
			continue
		}
		log.Info("removing the table of a killed process", zap.String("table", t.Name))
		conn.DelTable(t)
		found = true
	}
	if !found {
		return nil
	}
	if err := conn.Flush(); err != nil {
		return failed("remove tables", err)
	}
	return nil
}

// connect makes room for a large table: a transaction is sent as a whole, and
// each of its parts is acknowledged.
func connect() (*nftables.Conn, error) {
	return nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetWriteBuffer(4<<20), c.SetReadBuffer(4<<20))
	}))
}

func (t table) kernel() *nftables.Table {
	family := nftables.TableFamilyINet
	if t.family == "arp" {
		family = nftables.TableFamilyARP
	}
	return &nftables.Table{Family: family, Name: t.name}
}

// erase removes a table whether it is there or not: adding one that exists
// changes nothing, and then it does exist.
func erase(conn *nftables.Conn, t table) {
	conn.DelTable(conn.AddTable(t.kernel()))
}

func failed(what string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, fs.ErrPermission):
		hint = "; needs CAP_NET_ADMIN: run as root"
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.ENOENT):
		hint = "; the kernel lacks a part of nftables: load nf_tables, nft_ct, nft_fib_inet and nft_masq, and build it with NF_TABLES_ARP"
	}
	return fmt.Errorf("firewall: %s: %w%s", what, err, hint)
}

var hooks = map[string]*nftables.ChainHook{
	"prerouting":  nftables.ChainHookPrerouting,
	"postrouting": nftables.ChainHookPostrouting,
	"forward":     nftables.ChainHookForward,
}

// The numbers of layer 4.
const (
	tcp = 6
	udp = 17
)

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
	case masquerade:
		return []expr.Any{&expr.Masq{FullyRandom: true}}
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
