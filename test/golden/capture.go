package golden

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// IP protocol numbers of a Packet.
const (
	ProtocolUDP = 17
	ProtocolESP = 50
)

const (
	portIKE  = 500
	portNATT = 4500
)

// Packet is one UDP datagram or one ESP packet of a capture, without the headers up
// to IP's and UDP's. For ESP the ports are 0.
type Packet struct {
	Src, Dst netip.AddrPort
	Protocol uint8
	Payload  []byte
}

// IKE returns the IKE message that the packet carries: what is on port 500, or on
// port 4500 behind the non-ESP marker (RFC 3948 §2.2).
func (p Packet) IKE() ([]byte, bool) {
	if p.Protocol != ProtocolUDP {
		return nil, false
	}
	switch {
	case p.onPort(portNATT):
		return bytes.CutPrefix(p.Payload, []byte{0, 0, 0, 0})
	case p.onPort(portIKE):
		return p.Payload, true
	}
	return nil, false
}

// ESP returns the ESP packet, from SPI to ICV, that the packet is or carries in UDP.
func (p Packet) ESP() ([]byte, bool) {
	if p.Protocol == ProtocolESP {
		return p.Payload, true
	}
	// RFC 3948 §2.2, §2.3: neither a marker nor a keepalive.
	if !p.onPort(portNATT) || len(p.Payload) < 8 || binary.BigEndian.Uint32(p.Payload) == 0 {
		return nil, false
	}
	return p.Payload, true
}

func (p Packet) onPort(port uint16) bool {
	return p.Protocol == ProtocolUDP && (p.Src.Port() == port || p.Dst.Port() == port)
}

// CaptureFiles lists every capture below the vectors folder.
func CaptureFiles(tb testing.TB) []string {
	tb.Helper()
	var files []string
	err := filepath.WalkDir(filepath.Join(Vectors(tb), "captures"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(filepath.Ext(path), ".pcap") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return files
}

// ReadCapture reads the UDP datagrams and ESP packets of a pcap or pcapng file. What
// is damaged, an IP fragment, or something else is left out, as is all that follows
// a record that is cut off: some captures are meant to be broken.
func ReadCapture(file string) ([]Packet, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("golden: %w", err)
	}
	defer f.Close()
	source, err := captureSource(f)
	if err != nil {
		return nil, fmt.Errorf("golden: %s: %w", file, err)
	}
	var packets []Packet
	for {
		data, _, err := source.ReadPacketData()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return packets, nil
		}
		if err != nil {
			return nil, fmt.Errorf("golden: %s: packet %d: %w", file, len(packets), err)
		}
		if p, ok := decodePacket(data, source.LinkType()); ok {
			packets = append(packets, p)
		}
	}
}

type packetSource interface {
	gopacket.PacketDataSource
	LinkType() layers.LinkType
}

func captureSource(f io.ReadSeeker) (packetSource, error) {
	r, err := pcapgo.NewReader(f)
	if err == nil {
		return r, nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	ng, ngErr := pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions)
	if ngErr != nil {
		return nil, errors.Join(err, ngErr)
	}
	return ng, nil
}

func decodePacket(data []byte, link layers.LinkType) (p Packet, ok bool) {
	// The outermost IP header counts: what is inside ESP is for the tests.
	var src, dst netip.Addr
	for _, l := range gopacket.NewPacket(data, link, gopacket.Default).Layers() {
		switch l := l.(type) {
		case *layers.IPv4:
			src, _ = netip.AddrFromSlice(l.SrcIP)
			dst, _ = netip.AddrFromSlice(l.DstIP)
			if l.Protocol == layers.IPProtocolESP && l.FragOffset == 0 && l.Flags&layers.IPv4MoreFragments == 0 {
				return Packet{
					Src: netip.AddrPortFrom(src, 0), Dst: netip.AddrPortFrom(dst, 0),
					Protocol: ProtocolESP, Payload: l.Payload,
				}, true
			}
		case *layers.IPv6:
			src, _ = netip.AddrFromSlice(l.SrcIP)
			dst, _ = netip.AddrFromSlice(l.DstIP)
			if l.NextHeader == layers.IPProtocolESP {
				return Packet{
					Src: netip.AddrPortFrom(src, 0), Dst: netip.AddrPortFrom(dst, 0),
					Protocol: ProtocolESP, Payload: l.Payload,
				}, true
			}
		case *layers.UDP:
			return Packet{
				Src: netip.AddrPortFrom(src, uint16(l.SrcPort)), Dst: netip.AddrPortFrom(dst, uint16(l.DstPort)),
				Protocol: ProtocolUDP, Payload: l.Payload,
			}, true
		}
	}
	return Packet{}, false
}
