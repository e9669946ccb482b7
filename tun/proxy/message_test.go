package proxy

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// question packs a query for the address of a name, with EDNS if size is not 0.
func question(t testing.TB, id uint16, name string, size int) []byte {
	t.Helper()
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, RecursionDesired: true})
	b.StartQuestions()
	err := b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET})
	if size > 0 && err == nil {
		var h dnsmessage.ResourceHeader
		b.StartAdditionals()
		h.SetEDNS0(size, dnsmessage.RCodeSuccess, true)
		err = b.OPTResource(h, dnsmessage.OPTResource{Options: []dnsmessage.Option{{Code: 10, Data: []byte("a cookie")}}})
	}
	out, err2 := b.Finish()
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	return out
}

// response answers a query with a number of TXT records of 100 octets.
func response(t testing.TB, q []byte, code dnsmessage.RCode, records int) []byte {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(q); err != nil {
		t.Error(err)
		return nil
	}
	m.Response, m.RecursionAvailable, m.RCode = true, true, code
	for range records {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET, TTL: 60},
			Body:   &dnsmessage.TXTResource{TXT: []string{strings.Repeat("x", 87)}},
		})
	}
	b, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return b
}

func TestRFC1035Section4Query(t *testing.T) {
	good := question(t, 77, "Web.Test.", 0)
	change := func(at int, to byte) []byte {
		b := bytes.Clone(good)
		b[at] = to
		return b
	}
	for name, c := range map[string]struct {
		b    []byte
		code dnsmessage.RCode
		ok   bool
	}{
		"good":              {good, dnsmessage.RCodeSuccess, true},
		"EDNS":              {question(t, 77, "web.test.", 1232), dnsmessage.RCodeSuccess, true},
		"a response":        {change(2, 0x80), 0, false},
		"a status query":    {change(2, 0x10), dnsmessage.RCodeNotImplemented, true},
		"an update":         {change(2, 0x28), dnsmessage.RCodeNotImplemented, true},
		"no question":       {change(5, 0), dnsmessage.RCodeFormatError, true},
		"two questions":     {append(change(5, 2), good[dnsHeader:]...), dnsmessage.RCodeFormatError, true},
		"records missing":   {change(11, 1), dnsmessage.RCodeFormatError, true},
		"a name into space": {change(12, 0xc0), dnsmessage.RCodeFormatError, true},
		"cut":               {good[:len(good)-1], dnsmessage.RCodeFormatError, true},
		"half a header":     {good[:11], 0, false},
		"nothing":           {nil, 0, false},
	} {
		q, code, ok := parseQuery(c.b)
		if ok != c.ok || ok && code != c.code {
			t.Errorf("%s: %v, %v", name, code, ok)
		}
		if !ok {
			continue
		}
		// Whatever is wrong, the answer can be read and belongs to the query.
		var m dnsmessage.Message
		if err := m.Unpack(q.reply(code, false)); err != nil || m.ID != 77 || !m.Response || m.RCode != code || len(m.Questions) > 1 {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	q, _, _ := parseQuery(question(t, 1, "a.", 1232))
	if p, _, _ := parseQuery(good); q.size != 1232 || p.size != smallestDNS {
		t.Errorf("sizes %d and %d", q.size, p.size)
	}
}

func TestRFC5452Section9Matching(t *testing.T) {
	raw := question(t, 77, "web.test.", 0)
	q, _, _ := parseQuery(raw)
	good := response(t, raw, dnsmessage.RCodeSuccess, 1)
	if _, ok := q.answeredBy(good, 77); !ok {
		t.Error("the answer is not taken")
	}
	if _, ok := q.answeredBy(response(t, question(t, 77, "WEB.tesT.", 0), dnsmessage.RCodeSuccess, 1), 77); !ok {
		t.Error("case is not of importance")
	}
	other := bytes.Clone(good)
	other[dnsHeader+9+2+1]++ // the type, behind 3web4test0
	for name, b := range map[string][]byte{
		"other ID":       response(t, question(t, 78, "web.test.", 0), dnsmessage.RCodeSuccess, 1),
		"other name":     response(t, question(t, 77, "wep.test.", 0), dnsmessage.RCodeSuccess, 1),
		"below the name": response(t, question(t, 77, "a.web.test.", 0), dnsmessage.RCodeSuccess, 1),
		"other type":     other,
		"no response":    raw,
		"no question":    append([]byte{0, 77, 0x81, 0x80}, make([]byte, 8)...),
		"cut":            good[:15],
		"nothing":        nil,
	} {
		if _, ok := q.answeredBy(b, 77); ok {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestSuffixes(t *testing.T) {
	d := &DNS{Rules: []Rule{
		{Suffix: "corp.example", To: Host}, {Suffix: ".", To: Refusal}, {Suffix: "Deep.Corp.Example.", To: Tunnel},
	}}
	for name, want := range map[string]Upstream{
		"corp.example.": Host, "a.CORP.example.": Host, "xcorp.example.": Refusal, "deep.corp.example.": Tunnel,
		"a.b.deep.corp.example.": Tunnel, "xdeep.corp.example.": Host, "example.": Refusal, ".": Refusal,
	} {
		if got := d.rule(name); got.To != want {
			t.Errorf("%s goes to %v, want %v", name, got.To, want)
		}
	}
	if got := (&DNS{}).rule("any.name."); got.To != Tunnel {
		t.Errorf("without rules: %v", got.To)
	}
	for suffix, ok := range map[string]bool{
		"": true, ".": true, "a": true, "a.b.": true, "xn--bcher-kva.example": true, "_tcp.a": true,
		"bücher.example": false, ".a": false, "*.a": false, "a..b": false, "a b": false, strings.Repeat("a", 64) + ".b": false, strings.Repeat("a.", 130): false,
	} {
		if err := (Rule{Suffix: suffix}).Check(); (err == nil) != ok {
			t.Errorf("suffix %q: %v", suffix, err)
		}
	}
}

func FuzzDNSMessage(f *testing.F) {
	raw := question(f, 77, "web.test.", 1232)
	f.Add(raw, response(f, raw, dnsmessage.RCodeSuccess, 3), uint16(77))
	f.Add(question(f, 1, ".", 0), []byte{}, uint16(1))
	f.Fuzz(func(t *testing.T, b, answer []byte, id uint16) {
		q, code, ok := parseQuery(b)
		if !ok {
			return
		}
		if q.size < smallestDNS || q.size > 0xffff {
			t.Fatalf("size %d", q.size)
		}
		for _, truncated := range []bool{true, false} {
			var p dnsmessage.Parser
			r := q.reply(code, truncated)
			h, err := p.Start(r)
			if err != nil || h.ID != q.id || !h.Response || h.Truncated != truncated || len(r) > smallestDNS {
				t.Fatalf("%x: %+v, %v", r, h, err)
			}
			if _, ok := q.answeredBy(r, q.id); code == dnsmessage.RCodeSuccess && !ok {
				t.Fatalf("%x: a reply of ours does not match", r)
			}
		}
		sent := q.withID(id)
		if binary.BigEndian.Uint16(sent) != id || !bytes.Equal(sent[2:], b[2:]) {
			t.Fatal("the query is not as it was")
		}
		if h, ok := q.answeredBy(answer, id); ok && (h.ID != id || !h.Response) {
			t.Fatalf("%x is no answer", answer)
		}
		(&DNS{Rules: []Rule{{Suffix: "test"}}}).rule(q.question.Name.String())
	})
}
