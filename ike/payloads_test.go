package ike

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// payloadTable is what comes of the messages that are due in a state, whole and with one
// payload less. Where a payload is not named its absence changes nothing. A critical
// payload that is not known makes any of them fail (RFC 7296 §2.5); one that is not
// critical, a payload twice, and another order change nothing; all that is not listed
// here is not due, and does nothing whatever is in it.
//
// A request that is malformed ends the SA with INVALID_SYNTAX (RFC 7296 §2.21.3), so does a
// response; but what is not protected is ignored (§2.21.1). Where we refuse for another
// reason nobody looks inside (§2.25).
// A rekeying without KE is told which group we want, and who has no NAT traversal is heard
// as one who has refused: that is not protected, and another answer may come.
const payloadTable = `
	state              message                     whole   critical without
	init-sent          response IKE_SA_INIT        go-on   drop     drop: SA KE Nonce NAT_DETECTION_SOURCE_IP NAT_DETECTION_DESTINATION_IP
	resume-sent        response IKE_SESSION_RESUME go-on   drop     drop: Nonce NAT_DETECTION_SOURCE_IP NAT_DETECTION_DESTINATION_IP
	intermediate-sent  response IKE_INTERMEDIATE   go-on   gone     gone: KE
	half-open          request  IKE_AUTH           answer  end      end: IDi AUTH SA TSi TSr
	half-open-hybrid   request  IKE_INTERMEDIATE   answer  end      end: KE
	cert-half-open     request  IKE_AUTH           answer  end      end: IDi CERT AUTH SA TSi TSr
	login-half-open    request  IKE_AUTH           answer  end      end: IDi SA TSi TSr
	resumed-half-open  request  IKE_AUTH           answer  end      end: IDi AUTH SA TSi TSr
	auth-sent          response IKE_AUTH           go-on   gone     gone: IDr AUTH SA TSi TSr
	cert-sent          response IKE_AUTH           go-on   gone     gone: IDr CERT AUTH SA TSi TSr
	login-sent         response IKE_AUTH           go-on   gone     gone: IDr CERT AUTH EAP
	resumed-sent       response IKE_AUTH           go-on   gone     gone: IDr AUTH SA TSi TSr
	eap-due            request  IKE_AUTH           answer  end      end: EAP
	eap-response-due   request  IKE_AUTH           answer  end      end: EAP
	eap-success-due    request  IKE_AUTH           answer  end      end: EAP
	eap-over           request  IKE_AUTH           answer  end      end: AUTH
	eap-sent           response IKE_AUTH           go-on   gone     gone: EAP
	eap-response-sent  response IKE_AUTH           go-on   gone     gone: EAP
	eap-success-sent   response IKE_AUTH           go-on   gone     gone: EAP
	eap-auth-sent      response IKE_AUTH           go-on   gone     gone: AUTH SA TSi TSr
	second-round-due   request  IKE_AUTH           answer  end      end: IDi AUTH
	second-round-sent  response IKE_AUTH           go-on   gone     gone: SA TSi TSr
	eap-due            request  INFORMATIONAL      answer  end      -
	eap-response-due   request  INFORMATIONAL      answer  end      -
	eap-success-due    request  INFORMATIONAL      answer  end      -
	eap-over           request  INFORMATIONAL      answer  end      -
	second-round-due   request  INFORMATIONAL      answer  end      -
	established-i      request  CREATE_CHILD_SA    answer  answer   end: SA Nonce TSi TSr
	established-r      request  CREATE_CHILD_SA    answer  answer   end: SA Nonce TSi TSr
	established-i      request  REKEY_IKE          answer  answer   end: SA Nonce
	established-r      request  REKEY_IKE          answer  answer   end: SA Nonce
	established-i      request  REKEY_CHILD        answer  answer   end: SA Nonce TSi TSr
	established-r      request  REKEY_CHILD        answer  answer   end: SA Nonce TSi TSr
	established-i      request  INFORMATIONAL      answer  answer   -
	established-r      request  INFORMATIONAL      answer  answer   -
	established-i      request  IKE_FOLLOWUP_KE    answer  answer   -
	established-r      request  IKE_FOLLOWUP_KE    answer  answer   -
	established-i      request  DELETE             end     answer   answer: D
	established-r      request  DELETE             end     answer   answer: D
	following          request  IKE_FOLLOWUP_KE    answer  answer   end: KE
	following          request  INFORMATIONAL      answer  answer   -
	following          request  CREATE_CHILD_SA    answer  answer   end: SA Nonce TSi TSr
	asking             request  CREATE_CHILD_SA    answer  answer   end: SA Nonce TSi TSr
	asking             request  REKEY_IKE          answer  answer   end: SA Nonce
	asking             request  REKEY_CHILD        answer  answer   end: SA Nonce TSi TSr
	asking             request  INFORMATIONAL      answer  answer   -
	asking             request  IKE_FOLLOWUP_KE    answer  answer   -
	asking             request  DELETE             end     answer   answer: D
	asking             response INFORMATIONAL      go-on   gone     -
	rekeying-ike-i     request  CREATE_CHILD_SA    answer  answer   end: SA Nonce
	rekeying-ike-r     request  CREATE_CHILD_SA    answer  answer   end: SA Nonce
	rekeying-ike-i     request  REKEY_CHILD        answer  answer   end: SA Nonce
	rekeying-ike-i     request  REKEY_IKE          answer  answer   end: SA Nonce
	rekeying-ike-r     request  REKEY_IKE          answer  answer   end: SA Nonce
	rekeying-ike-i     request  INFORMATIONAL      answer  answer   -
	rekeying-ike-r     request  INFORMATIONAL      answer  answer   -
	rekeying-ike-i     request  IKE_FOLLOWUP_KE    answer  answer   -
	rekeying-ike-r     request  IKE_FOLLOWUP_KE    answer  answer   -
	rekeying-ike-i     request  DELETE             end     answer   answer: D
	rekeying-ike-r     request  DELETE             end     answer   answer: D
	rekeying-ike-i     response CREATE_CHILD_SA    go-on   gone     gone: SA Nonce KE
	rekeying-ike-r     response CREATE_CHILD_SA    go-on   gone     gone: SA Nonce KE
	rekeying-child-i   request  CREATE_CHILD_SA    answer  answer   end: SA Nonce TSi TSr
	rekeying-child-i   request  REKEY_CHILD        answer  answer   end: SA Nonce TSi TSr
	rekeying-child-i   request  REKEY_IKE          answer  answer   end: SA Nonce
	rekeying-child-i   request  INFORMATIONAL      answer  answer   -
	rekeying-child-i   request  IKE_FOLLOWUP_KE    answer  answer   -
	rekeying-child-i   request  DELETE             end     answer   answer: D
	rekeying-child-r   request  CREATE_CHILD_SA    answer  answer   end: SA Nonce TSi TSr
	rekeying-child-r   request  REKEY_CHILD        answer  answer   end: SA Nonce TSi TSr
	rekeying-child-r   request  REKEY_IKE          answer  answer   end: SA Nonce
	rekeying-child-r   request  INFORMATIONAL      answer  answer   -
	rekeying-child-r   request  IKE_FOLLOWUP_KE    answer  answer   -
	rekeying-child-r   request  DELETE             end     answer   answer: D
	rekeying-child-i   response CREATE_CHILD_SA    go-on   gone     -
	rekeying-child-r   response CREATE_CHILD_SA    go-on   gone     -
	replaced           request  CREATE_CHILD_SA    answer  answer   -
	replaced           request  INFORMATIONAL      answer  answer   -
	replaced           request  IKE_FOLLOWUP_KE    answer  answer   -
	replaced           request  DELETE             answer  answer   -
	deleting           request  CREATE_CHILD_SA    answer  answer   -
	deleting           request  REKEY_IKE          answer  answer   -
	deleting           request  INFORMATIONAL      answer  answer   -
	deleting           request  IKE_FOLLOWUP_KE    answer  answer   -
	deleting           request  DELETE             end     answer   answer: D
	deleting           response INFORMATIONAL      gone    gone     -
	closed`

// dueMessage is a line of the table.
type dueMessage struct {
	state    string
	response bool
	form     string // an exchange, or what is asked by it
	whole    string
	critical string
	without  map[string]string // by the name of the payload
}

func (d *dueMessage) kind() message.ExchangeType { return kindOf(d.form) }

// forms are the messages of which variations are made, by name.
var forms = map[string]message.ExchangeType{
	"IKE_SA_INIT": message.IKESAInit, "IKE_AUTH": message.IKEAuth, "CREATE_CHILD_SA": message.CreateChildSA,
	"REKEY_IKE": message.CreateChildSA, "REKEY_CHILD": message.CreateChildSA, "INFORMATIONAL": message.Informational,
	"DELETE": message.Informational, "IKE_INTERMEDIATE": message.IKEIntermediate, "IKE_FOLLOWUP_KE": message.IKEFollowupKE,
	"IKE_SESSION_RESUME": message.IKESessionResume, "exchange-33": 33, "exchange-99": 99,
}

func kindOf(form string) message.ExchangeType { return forms[form] }

func dueMessages(t *testing.T) (states []string, due []*dueMessage) {
	for _, line := range strings.Split(strings.TrimSpace(payloadTable), "\n")[1:] {
		words := strings.Fields(line)
		if !slices.Contains(states, words[0]) {
			states = append(states, words[0])
		}
		if len(words) == 1 {
			continue // nothing is due
		}
		d := &dueMessage{state: words[0], response: words[1] == "response", form: words[2], whole: words[3], critical: words[4], without: map[string]string{}}
		if d.kind() == 0 {
			t.Fatalf("no such form: %s", line)
		}
		if reaction, ok := strings.CutSuffix(words[5], ":"); ok {
			for _, name := range words[6:] {
				d.without[name] = reaction
			}
		}
		due = append(due, d)
	}
	return states, due
}

// want is the reaction to a variation.
func (d *dueMessage) want(v variation) string {
	switch v.of {
	case "whole":
		return d.whole
	case "critical":
		return d.critical
	case "malformed":
		switch {
		case d.kind() == message.IKESAInit || d.kind() == message.IKESessionResume:
			return "drop"
		case d.response:
			return "gone"
		case d.state == "replaced": // whose end was told already
			return "answer"
		}
		return "end"
	}
	if r, ok := d.without[v.of]; ok {
		return r
	}
	return d.whole
}

// variation is a message with something changed, and what the change is of.
type variation struct {
	name string
	of   string // whole, critical, malformed, or the name of the payload that is missing
	ps   []message.Payload
}

// nameOf is a payload's name in the table: a notify is called by its type.
func nameOf(p message.Payload) string {
	if n, ok := p.(*message.Notify); ok {
		return n.Notify.String()
	}
	return p.Type().String()
}

func variations(whole []message.Payload) []variation {
	reversed := slices.Clone(whole)
	slices.Reverse(reversed)
	out := []variation{{"whole", "whole", whole}, {"reversed", "whole", reversed}}
	if len(whole) > 2 {
		rotated := append(slices.Clone(whole[1:]), whole[0])
		out = append(out, variation{"rotated", "whole", rotated})
	}
	for i, p := range whole {
		name := nameOf(p)
		with := func(what, of string, q ...message.Payload) {
			ps := append(slices.Clone(whole[:i]), q...)
			out = append(out, variation{fmt.Sprintf("%s %d %s", what, i, name), of, append(ps, whole[i+1:]...)})
		}
		with("without", name)
		with("unknown type for", name, &message.Unknown{Number: 200, Body: []byte{1, 2, 3}})
		with("IKEv1 type for", name, &message.Unknown{Number: 5, Body: []byte{1, 2, 3}})
		with("nothing in", "malformed", &message.Unknown{Number: p.Type()})
		with("twice", "whole", p, p)
		with("unknown before", "whole", &message.Unknown{Number: 201}, p)
		with("critical before", "critical", &message.Unknown{Number: 201, Critical: true}, p)
	}
	return out
}

// genuine is the message that is due as the peer would send it.
func (x *situation) genuine(t *testing.T, d *dueMessage) []message.Payload {
	t.Helper()
	if d.response {
		return x.genuineResponse(t)
	}
	toClient := x.h == x.w.nodes[0]
	s := x.h.e.first
	switch d.form {
	case "IKE_AUTH", "IKE_INTERMEDIATE":
		_, e, text, err := message.Open(slices.Clone(x.far.sent[len(x.far.sent)-1].Data), s.open)
		if err == nil && e.Fragment == 0 {
			ps, err := message.ParsePayloads(e.First, text)
			if err != nil {
				t.Fatal(err)
			}
			return ps
		}
	case "CREATE_CHILD_SA":
		return childPayloads(t, toClient)
	case "REKEY_CHILD":
		n := &message.Notify{Protocol: suite.ProtocolESP, SPI: binary.BigEndian.AppendUint32(nil, s.children[0].SPIOut), Notify: message.RekeySA}
		return append([]message.Payload{n}, childPayloads(t, toClient)...)
	case "REKEY_IKE":
		client, _ := pskPair(t)
		return []message.Payload{
			&message.SA{Proposals: []message.Proposal{{Num: 1, SPI: []byte{1, 2, 3, 4, 5, 6, 7, 8}, Proposal: client.Proposals[0]}}},
			&message.Nonce{Data: make([]byte, 32)}, x25519KE(),
		}
	case "DELETE":
		return []message.Payload{&message.Delete{Protocol: suite.ProtocolIKE}}
	case "IKE_FOLLOWUP_KE":
		link := make([]byte, linkLen)
		if s.followUp != nil {
			link = s.followUp.link
		}
		return []message.Payload{mlkemKE(), notifyData(message.AdditionalKeyExchange, link)}
	}
	return notDue(t, d.form)
}

// notDue is some message of a form, for where none is due.
func notDue(t *testing.T, form string) []message.Payload {
	client, _ := pskPair(t)
	sa := &message.SA{Proposals: []message.Proposal{{Num: 1, Proposal: client.Proposals[0]}}}
	nonce := &message.Nonce{Data: make([]byte, 32)}
	id := identity(t, "carol@example.org")
	switch form {
	case "IKE_SA_INIT":
		return []message.Payload{sa, x25519KE(), nonce, notify(message.FragmentationSupported)}
	case "IKE_AUTH":
		ps := []message.Payload{idPayload(false, id), &message.Auth{Method: message.AuthPSK, Data: make([]byte, 32)}}
		return append(ps, childPayloads(t, false)...)
	case "IKE_INTERMEDIATE":
		return []message.Payload{mlkemKE(), notify(message.Cookie2)}
	case "IKE_SESSION_RESUME":
		return []message.Payload{nonce, notifyData(message.TicketOpaque, make([]byte, 100))}
	case "IKE_FOLLOWUP_KE":
		return []message.Payload{mlkemKE(), notifyData(message.AdditionalKeyExchange, make([]byte, linkLen))}
	case "CREATE_CHILD_SA", "REKEY_CHILD", "REKEY_IKE":
		return childPayloads(t, false)
	case "DELETE":
		return []message.Payload{&message.Delete{Protocol: suite.ProtocolIKE}}
	}
	return []message.Payload{&message.Delete{Protocol: suite.ProtocolESP, SPIs: []uint32{1}}, notifyData(message.Cookie2, make([]byte, 16))}
}

func x25519KE() *message.KE {
	pub := make([]byte, 32)
	pub[0] = 9
	return &message.KE{Method: suite.KEX25519, Data: pub}
}

// genuineResponse is what the peer answers to the outstanding request. Afterwards the peer's
// SA is as it was before, so that variations can be sealed.
func (x *situation) genuineResponse(t *testing.T) []message.Payload {
	t.Helper()
	x.w.fate = func(*host, Send) int { return 0 }
	request := x.h.sent[len(x.h.sent)-1]
	for _, s := range x.h.sent {
		if x.h.e.first.pending != nil && string(s.Data) == string(x.h.e.first.pending.grams[0]) {
			request = s
			break
		}
	}
	if x.peer != nil {
		before := *x.peer
		x.peer = &before
	}
	for _, g := range x.h.e.first.pending.grams {
		x.far.deliverOn(request.Path.reversed(), g)
	}
	x.w.run(time.Millisecond)
	raw := x.far.sent[len(x.far.sent)-1].Data
	if x.peer == nil {
		m, err := message.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		return m.Payloads
	}
	_, e, text, err := message.Open(slices.Clone(raw), x.h.e.first.open)
	if err != nil || e.Fragment > 1 {
		t.Fatal(err)
	}
	if e.Fragment != 0 {
		t.Fatal("the answer is in fragments")
	}
	ps, err := message.ParsePayloads(e.First, text)
	if err != nil {
		t.Fatal(err)
	}
	return ps
}

// deliverVariation sends payloads as the message that is due, and returns the reaction.
func (x *situation) deliverVariation(t *testing.T, kind message.ExchangeType, response bool, ps []message.Payload) string {
	t.Helper()
	id, flags := x.dueID, message.Flags(0)
	if response {
		id, flags = x.ourID, message.FlagResponse
	}
	if x.peer != nil && kind != message.IKESAInit && kind != message.IKESessionResume {
		return x.reaction(t, craft(t, x.peer, kind, id, flags, ps...))
	}
	s := x.h.e.first
	spir := s.spir
	if s.initiator && spir == 0 {
		spir = 0x4711
	}
	if !s.initiator {
		flags |= message.FlagInitiator
	}
	m := message.Message{Header: message.Header{SPIi: s.spii, SPIr: spir, Exchange: kind, Flags: flags, MessageID: id}, Payloads: ps}
	return x.reaction(t, m.Append(nil))
}

// TestRow08EveryMessageInEveryState: in each state each message, due or not, whole, with
// each payload missing, twice, empty, of an unknown or of an IKEv1 type, in another order,
// and beside an unknown one that is critical or not.
func TestRow08EveryMessageInEveryState(t *testing.T) {
	states, due := dueMessages(t)
	cases := 0
	check := func(x *situation, what string, kind message.ExchangeType, response bool, v variation, want string) {
		t.Helper()
		cases++
		got := strings.ReplaceAll(x.deliverVariation(t, kind, response, v.ps), " ", "-")
		if got != want {
			t.Errorf("%s, %s: %s, want %s", what, v.name, got, want)
		}
		if got != "drop" {
			*x = situation{} // another state now
		}
	}
	for _, d := range due {
		x := situations(t, d.state)
		n := len(variations(x.genuine(t, d)))
		x = situation{}
		for i := range n {
			if x.w == nil || d.response { // which is made anew each time
				x = situations(t, d.state)
			}
			v := variations(x.genuine(t, d))[i]
			check(&x, fmt.Sprintf("%s, %s, response %v", d.state, d.form, d.response), d.kind(), d.response, v, d.want(v))
		}
	}
	dueCases := cases
	for _, state := range states {
		var x situation
		for form, kind := range forms {
			for _, response := range []bool{false, true} {
				if slices.ContainsFunc(due, func(d *dueMessage) bool {
					return d.state == state && d.kind() == kind && d.response == response
				}) {
					continue
				}
				for _, v := range variations(notDue(t, form)) {
					if x.w == nil {
						x = situations(t, state)
					}
					check(&x, fmt.Sprintf("%s, %s not due, response %v", state, form, response), kind, response, v, "drop")
				}
			}
		}
	}
	if dueCases < 2000 || cases < 10000 {
		t.Errorf("only %d cases, %d of which are of messages that are due", cases, dueCases)
	}
	t.Logf("%d cases, %d of which are of messages that are due", cases, dueCases)
}

// TestRow09PermutedTypes: the payloads of each message that is due, with the types of each
// other. Nothing panics, and nobody is let in by it.
func TestRow09PermutedTypes(t *testing.T) {
	_, due := dueMessages(t)
	cases := 0
	for _, d := range due {
		x := situations(t, d.state)
		n := len(x.genuine(t, d))
		for shift := 1; shift < n; shift++ {
			cases++
			x := situations(t, d.state)
			whole := x.genuine(t, d)
			var ps []message.Payload
			for i, p := range whole {
				body := message.AppendPayloads(nil, []message.Payload{p})[4:]
				ps = append(ps, &message.Unknown{Number: whole[(i+shift)%n].Type(), Body: body})
			}
			if got := x.deliverVariation(t, d.kind(), d.response, ps); got == "panic" || got == "several answers" {
				t.Errorf("%s, %s, types moved by %d: %s", d.state, d.form, shift, got)
			}
			if d.form == "IKE_AUTH" && len(found[Established](x.h)) != 0 {
				t.Errorf("%s, %s, types moved by %d: established", d.state, d.form, shift)
			}
		}
	}
	if cases < 150 {
		t.Errorf("only %d cases", cases)
	}
}
