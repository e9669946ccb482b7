package proxy

import (
	"encoding/binary"
	"errors"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Sizes in octets.
const (
	dnsHeader   = 12
	smallestDNS = 512     // that every client takes by UDP. RFC 1035 §4.2.1
	longestUDP  = 4 << 10 // that is taken from a server by UDP
)

// query is what a client asks.
type query struct {
	raw      []byte // as it came
	id       uint16
	header   dnsmessage.Header
	question dnsmessage.Question
	size     int // of the longest answer that the client takes by UDP
}

// parseQuery reads a query and keeps b. The code is RCodeSuccess where it can be passed on;
// where ok is false there is nobody to answer. RFC 1035 §4.1
func parseQuery(b []byte) (q query, code dnsmessage.RCode, ok bool) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil || h.Response {
		return q, dnsmessage.RCodeFormatError, false
	}
	q = query{raw: b, id: h.ID, header: h, size: smallestDNS}
	if h.OpCode != 0 {
		return q, dnsmessage.RCodeNotImplemented, true
	}
	q.question, err = p.Question()
	if err != nil {
		return q, dnsmessage.RCodeFormatError, true
	}
	if _, err = p.Question(); !errors.Is(err, dnsmessage.ErrSectionDone) {
		return q, dnsmessage.RCodeFormatError, true
	}
	if p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return q, dnsmessage.RCodeFormatError, true
	}
	for {
		r, err := p.AdditionalHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return q, dnsmessage.RCodeSuccess, true
		}
		if err != nil || p.SkipAdditional() != nil {
			return q, dnsmessage.RCodeFormatError, true
		}
		if r.Type == dnsmessage.TypeOPT {
			// "The requestor's UDP payload size (encoded in the RR CLASS field)". RFC 6891 §6.2.3
			q.size = max(q.size, int(r.Class))
		}
	}
}

// withID is the query for a server, in memory of its own. All else, as EDNS options, stays.
func (q *query) withID(id uint16) []byte {
	b := append([]byte(nil), q.raw...)
	binary.BigEndian.PutUint16(b, id)
	return b
}

// answeredBy reports whether b answers the query under the ID with which it was sent: the
// same question must stand in it. RFC 5452 §9.1
func (q *query) answeredBy(b []byte, id uint16) (dnsmessage.Header, bool) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil || h.ID != id || !h.Response || h.OpCode != q.header.OpCode {
		return h, false
	}
	got, err := p.Question()
	if err != nil || got.Type != q.question.Type || got.Class != q.question.Class ||
		!strings.EqualFold(got.Name.String(), q.question.Name.String()) {
		return h, false
	}
	_, err = p.Question()
	return h, errors.Is(err, dnsmessage.ErrSectionDone)
}

// reply is an answer of our own without records: a failure, or that the answer is too long
// and has to be asked for by TCP.
func (q *query) reply(code dnsmessage.RCode, truncated bool) []byte {
	h := dnsmessage.Header{
		ID: q.id, Response: true, OpCode: q.header.OpCode, RecursionDesired: q.header.RecursionDesired,
		CheckingDisabled: q.header.CheckingDisabled, RecursionAvailable: true, RCode: code, Truncated: truncated,
	}
	b := dnsmessage.NewBuilder(make([]byte, 0, smallestDNS), h)
	if q.question.Name.Length > 0 {
		if b.StartQuestions() == nil {
			b.Question(q.question)
		}
	}
	out, err := b.Finish()
	if err != nil {
		return nil
	}
	return out
}

// canonical is a name in lower case and without the last dot.
func canonical(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// isBelow reports whether a canonical name is suffix or lies below it.
func isBelow(name, suffix string) bool {
	return suffix == "" || name == suffix || strings.HasSuffix(name, suffix) && name[len(name)-len(suffix)-1] == '.'
}
