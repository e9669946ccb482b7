package ike

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

// What real peers do and a strict implementation would refuse (interop.md section 0).

// answerTo decrypts the last answer of h as far's SA sees it.
func answerTo(t *testing.T, h, far *host) []message.Payload {
	t.Helper()
	_, e, text, err := message.Open(slices.Clone(h.sent[len(h.sent)-1].Data), engineOf(far).open)
	if err != nil {
		t.Fatal(err)
	}
	ps, err := message.ParsePayloads(e.First, text)
	if err != nil {
		t.Fatal(err)
	}
	return ps
}

// R1: proposals need not be numbered from 1; the number chosen is echoed.
func TestProposalNumbers(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := pair(t, client, gateway)
	m, err := message.Parse(initRequest(t, a, b))
	if err != nil {
		t.Fatal(err)
	}
	sa, _ := message.Find[*message.SA](m.Payloads)
	good := sa.Proposals[0]
	other := good
	other.Proposal = ikeProposals(t, "aes128-sha1-modp1024")[0]
	unknown := good
	unknown.Transforms = append(slices.Clone(good.Transforms), suite.Transform{Type: 99, ID: 1})
	good.Num, other.Num, unknown.Num = 7, 7, 3
	sa.Proposals = []message.Proposal{unknown, other, good}
	b.deliverOn(b.path(a, false), m.Append(nil))
	w.run(time.Millisecond)
	answer := lastInit(t, b)
	if sa, ok := message.Find[*message.SA](answer.Payloads); !ok || sa.Proposals[0].Num != 7 || !slices.Equal(sa.Proposals[0].KEs(), good.KEs()) {
		t.Errorf("answer %+v", answer.Payloads)
	}
}

// R2: CP in CREATE_CHILD_SA, with other things that mean nothing to us.
func TestNeedlessPayloads(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := up(t, client, gateway)
	s := engineOf(a)
	ps := append(childPayloads(t, false),
		&message.Config{Kind: message.ConfigRequest, Attributes: []message.Attribute{{Type: message.InternalIP4Address}, {Type: 23456}, {Type: 9999, Value: []byte{1}}}},
		notify(message.UseTransportMode), notify(message.ESPTFCPaddingNotSupported), notify(message.NonFirstFragmentsAlso), notify(40000),
		&message.VendorID{Data: []byte("something")})
	b.deliver(a, craft(t, s, message.CreateChildSA, s.nextID, 0, ps...))
	w.run(time.Millisecond)
	if len(b.installed) != 2 {
		t.Fatal("the child was refused")
	}
	if n := message.FindNotify(answerTo(t, b, a), message.UseTransportMode); n != nil {
		t.Error("transport mode was agreed to")
	}
}

// R12: fragments as small as Windows sends them, and a CERTREQ with 53 hashes.
func TestLongCertReq(t *testing.T) {
	client, gateway := certPair(t, pki.RSA2048, pki.RSA2048)
	w, a, b, _ := func() (*world, *host, *host, []byte) {
		client.FragmentSize = -1
		gateway.FragmentSize = 0
		w, a, b, auth := halfOpen(t, client, gateway)
		return w, a, b, auth
	}()
	sa, sb := engineOf(a), engineOf(b)
	sb.exts |= extFragmentation
	_, e, text, err := message.Open(slices.Clone(sentOf(a, message.IKEAuth, false)[0]), sb.open)
	if err != nil {
		t.Fatal(err)
	}
	ps, err := message.ParsePayloads(e.First, text)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		if r, ok := p.(*message.CertReq); ok {
			r.Data = append(bytes.Repeat([]byte{7}, 53*20), r.Data...)
		}
	}
	grams := message.Seal(sa.header(message.IKEAuth, 1, 0), ps, sa.seal, sa.nextIV, 576)
	if len(grams) < 4 {
		t.Fatalf("%d fragments", len(grams))
	}
	slices.Reverse(grams)
	for _, g := range grams {
		b.deliver(a, g)
	}
	w.run(time.Millisecond)
	if len(b.established()) != 1 {
		t.Error("not established")
	}
}

// A gateway that gives an address and then allows no traffic of it.
func TestUselessLease(t *testing.T) {
	client, gateway := pskPair(t)
	virtualPair(client, gateway)
	gateway.Children[0].RemoteDynamic = false
	gateway.Children[0].Remote = selectors("172.16.0.0/12")
	w, a, b := pair(t, client, gateway)
	b.admit = func(Admit) Admission { return Admission{Lease: testLease} }
	a.initiate("home", b)
	w.run(time.Minute)
	if c := a.downCode(); c != CodeSelectors {
		t.Errorf("code %s", c)
	}
	w.run(time.Minute)
	empty(t, a, b)
}

// An IKE_SA_INIT request from one address and the same bytes from another: they are
// two requests, so that who copies the first and is faster does not take its answer away.
func TestRepeatedInitFromElsewhere(t *testing.T) {
	client, gateway := pskPair(t)
	_, a, b := pair(t, client, gateway)
	raw := initRequest(t, a, b)
	b.deliverOn(b.path(a, false), raw)
	b.deliverOn(b.path(a, true), raw)
	if n := len(b.sent); n != 2 || !bytes.Equal(b.sent[0].Data, b.sent[1].Data) || !b.sent[1].Path.Encap {
		t.Errorf("%d answers", n)
	}
	p := b.path(a, false)
	p.Remote = b.path(b, false).Remote
	b.deliverOn(p, raw)
	if len(b.sent) != 3 || len(b.e.sas) != 2 || bytes.Equal(b.sent[2].Data, b.sent[0].Data) {
		t.Errorf("%d answers and %d SAs after a copy from elsewhere", len(b.sent), len(b.e.sas))
	}
	b.deliverOn(b.path(a, false), raw)
	if len(b.sent) != 4 || !bytes.Equal(b.sent[3].Data, b.sent[0].Data) {
		t.Error("the first sender did not get its answer again")
	}
}

func TestCounters(t *testing.T) {
	client, gateway := pskPair(t)
	_, a, b := up(t, client, gateway)
	b.deliver(a, []byte("nonsense"))
	seen := map[string]bool{}
	for i, c := range b.e.Counters() {
		if int(c.Reason) != i+1 || seen[c.Reason.String()] || c.Reason.String() == Drop(200).String() {
			t.Errorf("%d: %v", i, c.Reason)
		}
		seen[c.Reason.String()] = true
		if want := uint64(0); c.Reason == DropMalformed && c.Count != 1 || c.Reason != DropMalformed && c.Count != want {
			t.Errorf("%v: %d", c.Reason, c.Count)
		}
	}
	if len(seen) != int(DropPanic) {
		t.Errorf("%d reasons", len(seen))
	}
}

// TestPriorities: what is queued goes by priority, and of equals the first one first.
func TestPriorities(t *testing.T) {
	s := &ikeSA{active: &livenessTask{}}
	for _, x := range []task{&livenessTask{}, &createTask{}, &deleteChildTask{spi: 1}, &deleteTask{}, &deleteChildTask{spi: 2}, &createTask{}} {
		s.enqueue(x)
	}
	var got []priority
	for _, x := range s.queue {
		got = append(got, x.priority())
	}
	if !slices.Equal(got, []priority{prioDelete, prioDeleteChild, prioDeleteChild, prioCreateChild, prioCreateChild, prioLiveness}) {
		t.Errorf("order %v", got)
	}
	if first, ok := s.queue[1].(*deleteChildTask); !ok || first.spi != 1 {
		t.Error("of equals the later one goes first")
	}
}
