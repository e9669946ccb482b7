package aaa

import (
	"bytes"
	"testing"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
)

// TestRow54Radius: no length in a packet, an attribute or a vendor's element keeps a walker
// from its end or leads it out of the packet (security.md row 54; CVE-2026-35333).
func TestRow54Radius(t *testing.T) {
	nonce := [16]byte{1}
	for outer := range 256 {
		for inner := range 256 {
			// Header, one attribute 26 of Microsoft with one element; the lengths lie.
			b := append([]byte{2, 1, 0, 0}, nonce[:]...)
			b = append(b, 26, byte(outer), 0, 0, 1, 55, msMPPESendKey, byte(inner), 1, 2, 3, 4)
			b[3] = byte(len(b))
			p, _, err := parse(b, []byte(fakeSecret))
			if err != nil {
				continue
			}
			for _, v := range microsofts(p, msMPPESendKey) {
				if len(v) > 4 {
					t.Fatalf("lengths %d and %d: an element of %d octets", outer, inner, len(v))
				}
			}
			readGrant(p)
			sessionKey(p, nonce)
			findMessageAuthenticator(b)
		}
	}
}

// TestVendorElements: several in one attribute, of several vendors, cut off at the end.
func TestVendorElements(t *testing.T) {
	p := &radius.Packet{}
	for _, a := range [][]byte{
		{0, 0, 1, 55, 16, 3, 'a', 17, 3, 'x', 16, 4, 'b', 'c'},
		{0, 0, 1, 56, 16, 3, 'n'},
		{0, 0, 1, 55, 16, 2, 16, 3, 'd', 16, 0, 16, 3, 'e'},
		{0, 0, 1, 55, 16, 9, 'f'},
		{0, 0, 1},
		{},
	} {
		p.Add(rfc2865.VendorSpecific_Type, a)
	}
	if got := string(bytes.Join(microsofts(p, 16), []byte("|"))); got != "a|bc||d" {
		t.Errorf("%q", got)
	}
}

// TestSessionKey checks lengths of keys against each other, and what is no key.
func TestSessionKey(t *testing.T) {
	nonce := [16]byte{9, 8, 7}
	secret := []byte(fakeSecret)
	with := func(recv, send []byte) *radius.Packet {
		p := &radius.Packet{Secret: secret}
		for typ, value := range map[byte][]byte{msMPPERecvKey: recv, msMPPESendKey: send} {
			p.Add(rfc2865.VendorSpecific_Type, append([]byte{0, 0, 1, 55, typ, byte(2 + len(value))}, value...))
		}
		return p
	}
	for _, n := range []int{1, 15, 16, 31, 32, 64} {
		recv, send := bytes.Repeat([]byte{1}, n), bytes.Repeat([]byte{2}, n)
		got := sessionKey(with(sealKey(recv, [2]byte{0x80, 1}, nonce, secret), sealKey(send, [2]byte{0x80, 2}, nonce, secret)), nonce)
		want := append(append(bytes.Clone(recv), send...), make([]byte, max(0, 64-2*n))...)
		if !bytes.Equal(got, want) {
			t.Errorf("keys of %d octets: %x", n, []byte(got))
		}
	}
	good := sealKey(make([]byte, 16), [2]byte{0x80, 1}, nonce, secret)
	for _, bad := range [][]byte{nil, good[:1], good[:2], good[:17], good[:len(good)-1], sealKey(nil, [2]byte{}, nonce, secret)} {
		if got := sessionKey(with(bad, good), nonce); got != nil {
			t.Errorf("%x is a key: %x", bad, []byte(got))
		}
	}
}

// TestOpenTruncated: no beginning of a packet is a packet.
func TestOpenTruncated(t *testing.T) {
	req, _ := sealRequest(newPacket(radius.CodeAccessRequest, []byte(fakeSecret)), 1)
	whole := sealed(t, accept(t, req))
	nonce := request(t, req).Authenticator
	for i := range whole {
		if _, err := openAnswer(whole[:i], nonce, []byte(fakeSecret)); err == nil {
			t.Errorf("%d of %d octets were taken", i, len(whole))
		}
	}
	if _, err := openAnswer(append(whole, 1, 2, 3), nonce, []byte(fakeSecret)); err != nil {
		t.Errorf("padding: %v", err) // RFC 2865 §3: to be ignored
	}
}

func FuzzAnswer(f *testing.F) {
	req, _ := sealRequest(newPacket(radius.CodeAccessRequest, []byte(fakeSecret)), 1)
	f.Add(sealed(f, accept(f, req))[headerLen:])
	f.Add([]byte{26, 8, 0, 0, 1, 55, 16, 0})
	f.Add([]byte{79, 6, 1, 1, 0, 4, 79, 2, 24, 0})
	f.Fuzz(func(t *testing.T, attributes []byte) {
		if len(attributes) > radius.MaxPacketLength-headerLen {
			return
		}
		// What a server with our secret can send: it is signed whatever it holds.
		b := append(make([]byte, headerLen), attributes...)
		b[0], b[2], b[3] = byte(radius.CodeAccessAccept), byte(len(b)>>8), byte(len(b))
		secret, nonce := []byte(fakeSecret), [16]byte{5}
		if at, n := findMessageAuthenticator(b); n == 1 {
			copy(b[at:], messageAuthenticator(b, at, nonce, secret))
		}
		copy(b[4:], packetAuthenticator(b, nonce, secret))
		p, err := openAnswer(b, nonce, secret)
		if err != nil {
			return
		}
		g := readGrant(p)
		if len(g.Addresses) > maxGranted || len(g.DNS) > maxGranted || len(g.Groups) > 2*maxGroups || g.SessionTimeout < 0 {
			t.Errorf("%+v", g)
		}
		if msk := sessionKey(p, nonce); msk != nil && len(msk) < mskLen {
			t.Errorf("an MSK of %d octets", len(msk))
		}
		isEAP(joined(p, rfc2869.EAPMessage_Type), p.Code)
	})
}

func FuzzOrder(f *testing.F) {
	f.Add(order(f, radius.CodeDisconnectRequest, text(rfc2865.UserName_Type, "alice"))[headerLen:])
	f.Add(order(f, radius.CodeCoARequest, text(rfc2865.SessionTimeout_Type, "\x00\x00\x0e\x10"), stamp(orderTime))[headerLen:])
	f.Fuzz(func(t *testing.T, attributes []byte) {
		if len(attributes) > radius.MaxPacketLength-headerLen {
			return
		}
		var obeyed []Order
		o := ordered(1, &obeyed)
		b := append(make([]byte, headerLen), attributes...)
		b[0], b[2], b[3] = byte(radius.CodeDisconnectRequest), byte(len(b)>>8), byte(len(b))
		if at, n := findMessageAuthenticator(b); n == 1 {
			copy(b[at:], messageAuthenticator(b, at, [16]byte{}, []byte(fakeSecret)))
		}
		copy(b[4:], packetAuthenticator(b, [16]byte{}, []byte(fakeSecret)))
		o.handle(b, orderFrom, orderTime)
		for _, got := range obeyed {
			m := got.Match
			if m.User == "" && m.Session == "" && m.Calling == "" && len(m.Addresses) == 0 {
				t.Error("an order that means everybody")
			}
		}
	})
}
