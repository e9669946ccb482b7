package interop

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// nameServer answers for a zone, by UDP and TCP, and keeps what it was asked.
type nameServer struct {
	zone  map[string][]netip.Addr
	mu    sync.Mutex
	asked map[string]int // by the name and the network
}

func (s *nameServer) serve(ns *namespace, addr string) {
	ns.t.Helper()
	at := net.JoinHostPort(addr, "53")
	c := ns.packets(at)
	go answerAll(c, func(b []byte) []byte { return s.answer("udp", b) })
	l := ns.listen(at)
	ns.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // it is closed
			}
			go s.stream(conn)
		}
	}()
}

// stream answers queries on a connection, each behind its length (RFC 1035 §4.2.2).
func (s *nameServer) stream(conn net.Conn) {
	defer conn.Close()
	for {
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		b := make([]byte, int(length[0])<<8|int(length[1]))
		if _, err := io.ReadFull(conn, b); err != nil {
			return
		}
		out := s.answer("tcp", b)
		if out == nil {
			return
		}
		if _, err := conn.Write(slices.Concat([]byte{byte(len(out) >> 8), byte(len(out))}, out)); err != nil {
			return
		}
	}
}

// answer answers a query; nil to what is none.
func (s *nameServer) answer(network string, query []byte) []byte {
	var p dnsmessage.Parser
	header, err := p.Start(query)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	s.mu.Lock()
	if s.asked == nil {
		s.asked = map[string]int{}
	}
	s.asked[name+" by "+network]++
	addrs, known := s.zone[name]
	s.mu.Unlock()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: header.ID, Response: true, Authoritative: true, RecursionDesired: header.RecursionDesired},
		Questions: []dnsmessage.Question{q},
	}
	if !known {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range addrs {
		h := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 5}
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	return out
}

// times is how often a name was asked for by a network.
func (s *nameServer) times(name, network string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[name+" by "+network]
}

// others are the names asked for that are not in the zone.
func (s *nameServer) others() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for key := range s.asked {
		if name, _, _ := strings.Cut(key, " "); s.zone[name] == nil {
			out = append(out, key)
		}
	}
	return out
}

// query makes a DNS query.
func query(t testing.TB, name string, kind dnsmessage.Type) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 0x4d61, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name + "."), Type: kind, Class: dnsmessage.ClassINET}},
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// addresses are those in an answer to query.
func addresses(t testing.TB, answer []byte) string {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(answer); err != nil {
		t.Fatalf("%x: %v", answer, err)
	}
	var out bytes.Buffer
	for _, r := range m.Answers {
		switch b := r.Body.(type) {
		case *dnsmessage.AResource:
			fmt.Fprintln(&out, netip.AddrFrom4(b.A))
		case *dnsmessage.AAAAResource:
			fmt.Fprintln(&out, netip.AddrFrom16(b.AAAA))
		}
	}
	return strings.TrimSpace(out.String())
}
