package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

func newRequest(t testing.TB, q Question) *Request {
	t.Helper()
	r, err := NewRequest(q, here, there)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// opened is an answer that opens an SA, with more payloads.
func opened(t *testing.T, r *Request, says ...message.Payload) []byte {
	g := &gateway{t: t, accept: []suite.Proposal{proposal(t, "aes256gcm16-prfsha256-x25519")}, says: says}
	return g.answer(r.Append(nil))
}

func response(r *Request, ps ...message.Payload) *message.Message {
	return &message.Message{
		Header:   message.Header{SPIi: r.spii, Exchange: message.IKESAInit, Flags: message.FlagResponse},
		Payloads: ps,
	}
}

var ours = Question{Offer: suite.DefaultIKE(suite.RolePeer, suite.PostQuantumPrefer), Group: suite.KEX25519}

func TestReadWhatItCanDo(t *testing.T) {
	r := newRequest(t, ours)
	a, err := Read(r, opened(t, r,
		&message.Notify{Notify: message.FragmentationSupported},
		&message.Notify{Notify: message.ChildlessIKEv2Supported},
		&message.Notify{Notify: message.ChildlessIKEv2Supported},
		&message.Notify{Notify: message.SignatureHashAlgorithms, Data: []byte{0, 2, 0, 5, 0}},
		&message.VendorID{Data: []byte("FLEXVPN-SUPPORTED")},
		&message.CertReq{Encoding: message.CertX509Signature, Data: make([]byte, 20)},
	))
	if err != nil {
		t.Fatal(err)
	}
	if a.Kind != Took || a.Suite.String() != "aes256gcm16-prfsha256-x25519" || len(a.Extensions) != 2 || len(a.Hashes) != 2 || len(a.Vendors) != 1 || a.Asks != 1 {
		t.Errorf("%+v", a)
	}
}

// What a stranger, or somebody on the way, may send in place of an answer.
func TestReadRefuses(t *testing.T) {
	r := newRequest(t, ours)
	good := opened(t, r)
	edit := func(at int, to byte) []byte {
		b := bytes.Clone(good)
		b[at] = to
		return b
	}
	other := newRequest(t, ours)
	foreign := response(r, &message.SA{Proposals: []message.Proposal{{Num: 1, Proposal: proposal(t, "aes128-sha1-modp1024")}}},
		&message.KE{Method: suite.KEMODP1024, Data: make([]byte, 128)}, &message.Nonce{Data: make([]byte, 32)})
	foreign.SPIr = 1
	for name, tt := range map[string]struct {
		b   []byte
		err string
	}{
		"nothing":            {nil, "0 octets"},
		"text":               {[]byte("HTTP/1.1 400 Bad Request\r\n\r\n...."), ""},
		"of another":         {opened(t, other), ErrForeign.Error()},
		"our own request":    {r.Append(nil), ErrForeign.Error()},
		"IKE_AUTH":           {edit(18, 35), ErrForeign.Error()},
		"version 1":          {edit(17, 0x10), ErrIKEv1.Error()},
		"version 3":          {edit(17, 0x30), "version"},
		"no SPI":             {response(r, &message.Nonce{Data: make([]byte, 32)}).Append(nil), "without SA"},
		"not offered":        {foreign.Append(nil), "not offered"},
		"an endless cookie":  {response(r, &message.Notify{Notify: message.Cookie, Data: make([]byte, 65)}).Append(nil), "cookie of 65"},
		"an empty cookie":    {response(r, &message.Notify{Notify: message.Cookie}).Append(nil), "cookie of 0"},
		"half a group":       {response(r, &message.Notify{Notify: message.InvalidKEPayload, Data: []byte{1}}).Append(nil), "1 octets"},
		"redirected by some": {response(r, &message.Notify{Notify: message.Redirect, Data: append([]byte{3, 1, 'a'}, make([]byte, 32)...)}).Append(nil), "REDIRECT"},
		"something critical": {response(r, &message.Unknown{Number: 200, Critical: true}).Append(nil), "200"},
	} {
		a, err := Read(r, tt.b)
		if err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %+v, %v; want an error with %q", name, a, err, tt.err)
		}
	}
	for n := range good {
		if a, err := Read(r, good[:n]); err == nil {
			t.Errorf("cut after %d octets: %+v", n, a)
		}
	}
	if _, err := Read(r, append(bytes.Clone(good), 0)); err == nil {
		t.Error("one octet more is taken")
	}
}

// What is kept of a huge answer has a bound.
func TestReadHuge(t *testing.T) {
	r := newRequest(t, ours)
	var says []message.Payload
	for i := range 80 {
		says = append(says, &message.VendorID{Data: make([]byte, 600)}, &message.Notify{Notify: message.NotifyType(50000 + i)})
	}
	a, err := Read(r, opened(t, r, says[:90]...))
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Vendors) != maxVendors || len(a.Vendors[0]) != maxVendorLen || len(a.Extensions) != maxExtensions {
		t.Errorf("%d vendor IDs of %d octets, %d extensions", len(a.Vendors), len(a.Vendors[0]), len(a.Extensions))
	}
	if _, err := Read(r, opened(t, r, says...)); err == nil {
		t.Error("as many payloads as it likes")
	}
}

func TestRequest(t *testing.T) {
	r := newRequest(t, Question{Offer: ours.Offer, Group: Decoy, Size: 1452})
	b := r.Append([]byte("front"))
	if !bytes.HasPrefix(b, []byte("front")) || len(b) != 5+1452 {
		t.Errorf("%d octets, want 5 and 1452", len(b))
	}
	if !bytes.Equal(b[5:], r.Append(nil)) {
		t.Error("a repetition is another message")
	}
	// RFC 7296 §2.6: the cookie stands first, all else is as it was.
	if err := r.Repeat(&Answer{Kind: CookieAsked, Cookie: []byte("c")}); err != nil {
		t.Fatal(err)
	}
	m, err := message.Parse(r.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	first, ok := m.Payloads[0].(*message.Notify)
	if !ok || first.Notify != message.Cookie || m.SPIi != r.spii {
		t.Errorf("first is %+v", m.Payloads[0])
	}
	for range maxCookies - 1 {
		if err := r.Repeat(&Answer{Cookie: []byte("c")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Repeat(&Answer{Cookie: []byte("c")}); !errors.Is(err, ErrCookies) {
		t.Errorf("without end: %v", err)
	}
	if _, err := NewRequest(Question{Group: suite.KEX448}, here, there); err == nil {
		t.Error("a group that is not implemented")
	}
}

func TestVendorName(t *testing.T) {
	for id, want := range map[string]string{
		"\x88\x2f\xe5\x6d\x6f\xd2\x0d\xbc\x22\x51\x61\x3b\x2e\xbe\x5b\xeb":                 "strongSwan",
		"\x1e\x2b\x51\x69\x05\x99\x1c\x7d\x7c\x96\xfc\xbf\xb5\x87\xe4\x61\x00\x00\x00\x09": "Microsoft Windows",
		"CISCO(COPYRIGHT)&Copyright (c) 2009 Cisco Systems, Inc.":                          "Cisco",
		"5G-UPF \x1b[0m":   "35472d555046201b5b306d (\"5G-UPF .[0m\")",
		"\x00\x01\x02\x03": "00010203",
		"":                 "",
	} {
		if got := VendorName([]byte(id)); got != want {
			t.Errorf("%x is called %q, want %q", id, got, want)
		}
	}
	if got := VendorName(bytes.Repeat([]byte{7}, 200)); len(got) > 3*shownVendor || !strings.Contains(got, "(200 octets)") {
		t.Errorf("a long one is shown as %q", got)
	}
}

// FuzzRead: whatever comes, Read says what it is or that it is none, and keeps little of it.
func FuzzRead(f *testing.F) {
	r := newRequest(f, ours)
	rest := func(b []byte) []byte { return b[8:] }
	f.Add(rest(r.Append(nil)))
	for _, n := range []*message.Notify{
		{Notify: message.Cookie, Data: []byte("c")},
		{Notify: message.NoProposalChosen},
		{Notify: message.InvalidKEPayload, Data: []byte{0, 31}},
		{Notify: message.Redirect, Data: append([]byte{3, 1, 'a'}, r.nonce...)},
	} {
		f.Add(rest(response(r, n).Append(nil)))
	}
	chosen, err := suite.ParseProposal(suite.ProtocolIKE, "aes256gcm16-prfsha256-x25519")
	if err != nil {
		f.Fatal(err)
	}
	took := response(r, &message.SA{Proposals: []message.Proposal{{Num: 2, Proposal: chosen}}},
		&message.KE{Method: suite.KEX25519, Data: make([]byte, 32)}, &message.Nonce{Data: make([]byte, 32)},
		&message.Notify{Notify: message.NATDetectionSourceIP, Data: make([]byte, 20)},
		&message.Notify{Notify: message.NATDetectionDestinationIP, Data: make([]byte, 20)},
		&message.Notify{Notify: message.SignatureHashAlgorithms, Data: []byte{0, 2}}, &message.VendorID{Data: []byte("v")})
	took.SPIr = 1
	f.Add(rest(took.Append(nil)))
	f.Fuzz(func(t *testing.T, b []byte) {
		// The SPI is of this run.
		a, err := Read(r, append(binary.BigEndian.AppendUint64(nil, uint64(r.spii)), b...))
		if err != nil {
			if a != nil {
				t.Fatalf("%+v beside %v", a, err)
			}
			return
		}
		switch a.Kind {
		case Took:
			if !slices.ContainsFunc(ours.Offer, a.Suite.Narrows) || a.Group != a.Suite.KE.ID {
				t.Fatalf("%+v", a)
			}
		case CookieAsked:
			if len(a.Cookie) == 0 || len(a.Cookie) > maxCookieLen {
				t.Fatalf("cookie %x", a.Cookie)
			}
		case Refused:
			if !a.Refusal.IsError() {
				t.Fatalf("refused by %v", a.Refusal)
			}
		case OtherGroup, Redirected:
		default:
			t.Fatalf("%+v is of no kind", a)
		}
		if len(a.Vendors) > maxVendors || len(a.Extensions) > maxExtensions {
			t.Fatalf("%d vendor IDs, %d extensions", len(a.Vendors), len(a.Extensions))
		}
		for _, v := range a.Vendors {
			for _, c := range VendorName(v) {
				if c < ' ' {
					t.Fatalf("%q", VendorName(v))
				}
			}
		}
	})
}
