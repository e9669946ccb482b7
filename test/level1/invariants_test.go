package level1

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"martlet/crypto/suite"
	"martlet/ike"
	"martlet/ike/message"
)

// mayBePlain tells whether a message is one of those that belong to no SA: an answer that
// only notifies, or INVALID_SPI (RFC 7296 §1.5).
func mayBePlain(m *message.Message) bool {
	for _, p := range m.Payloads {
		if p.Type() != message.TypeNotify {
			return false
		}
	}
	return m.IsResponse() || m.SPIi == 0 && m.SPIr == 0 && len(m.Payloads) == 1 && m.Notify(message.InvalidSPI) != nil
}

// checkContent faults a message ID that comes with two contents. Before the responder
// has chosen its SPI, IKE_SA_INIT may be asked again with a cookie or another group
// under the same ID (RFC 7296 §2.6). Answers to what belongs to no SA or cannot be
// checked, such as INVALID_MAJOR_VERSION, are unprotected and may only notify.
//
// A probe of the path's MTU is the same request with padding and, where that is not answered, without
// (ike/mtu.go).
func (n *node) checkContent(s ike.Send) {
	data := s.Data
	m, err := message.Parse(data)
	if err != nil {
		n.w.fault("%s: sends what it could not read itself: %v", n.name, err)
		return
	}
	open := m.Exchange == message.IKESAInit || m.Exchange == message.IKESessionResume
	if open && m.SPIr == 0 {
		return
	}
	e, protected := message.Find[*message.Encrypted](m.Payloads)
	if !protected && !open {
		if !mayBePlain(m) {
			n.w.fault("%s: sends %v without protection", n.name, m.Exchange)
		}
		return
	}
	key := fmt.Sprintf("%v %v initiator=%v response=%v id=%d", m.SPIi, m.SPIr, m.FromInitiator(), m.IsResponse(), m.MessageID)
	if protected && e.Type() == message.TypeSKF {
		key += fmt.Sprintf(" fragment %d of %d", e.Fragment, e.Total)
	}
	if s.DontFragment {
		key += " padded"
	}
	content := string(data)
	if before, ok := n.contents[key]; ok && before != content {
		n.w.fault("%s: two contents for message %s", n.name, key)
	}
	n.contents[key] = content
}

// checkEstablished faults an SA that is established before the peer's AUTH can have been
// seen.
func (n *node) checkEstablished(s ike.Status) {
	h := message.Header{SPIi: s.SPIi, Exchange: message.IKEAuth}
	if s.Initiator {
		h.Flags = message.FlagResponse
	}
	if !n.heard[kind(h)] {
		n.w.fault("%s: %v is established without the peer's IKE_AUTH", n.name, s.SPIi)
	}
	if n.sas[s.SA] {
		n.w.fault("%s: SA %x established twice, or its SPI used again", n.name, s.SA)
	}
	n.sas[s.SA] = true
	if n.w.sc.mistrust == n.name {
		n.w.fault("%s: established though it cannot verify the peer", n.name)
	}
}

// disagreement tells how the two sides' lists differ, or "" if they do not.
func (w *world) disagreement() string {
	a, b := w.a.view(), w.b.view()
	if diff := firstDifference(a, b); diff != "" {
		return "SAs: " + diff
	}
	for _, n := range []*node{w.a, w.b} {
		if got, want := n.installed(), n.listed(); !slices.Equal(got, want) {
			return fmt.Sprintf("%s has installed %v and lists %v", n.name, got, want)
		}
		if len(n.up) != len(n.established()) {
			return fmt.Sprintf("%s reported %d SAs up and lists %d", n.name, len(n.up), len(n.established()))
		}
	}
	if s := w.a.crossed() + w.b.crossed(); s != "" {
		return s
	}
	if s := w.a.twice() + w.b.twice(); s != "" {
		return s
	}
	if s := w.a.deaf() + w.b.deaf(); s != "" {
		return s
	}
	return w.traffic()
}

// twice tells of a child that an SA has more than once with the same selectors, or "". Where
// several are wanted, both sides may have opened the first one and one more at once.
func (n *node) twice() string {
	for _, s := range n.engine.Statuses() {
		names := map[string]int{}
		for _, c := range s.Children {
			key := fmt.Sprint(c.Name, c.Local, c.Remote)
			most := 1
			if c.Name == childExtra && n.w.sc.parallel > 0 {
				most = n.w.sc.parallel + 1
			}
			if names[key]++; names[key] > most {
				return fmt.Sprintf("%s has child %s %d times", n.name, c.Name, names[key])
			}
		}
	}
	return ""
}

// view lists a side's SAs in words that are the same on both sides.
func (n *node) view() []string {
	var lines []string
	for _, s := range n.engine.Statuses() {
		line := fmt.Sprintf("%v-%v %s", s.SPIi, s.SPIr, s.State)
		var children []string
		for _, c := range s.Children {
			in, out := c.SPIIn, c.SPIOut // of the initiator
			if !s.Initiator {
				in, out = out, in
			}
			children = append(children, fmt.Sprintf(" %08x/%08x", in, out))
		}
		slices.Sort(children)
		lines = append(lines, line+strings.Join(children, ""))
	}
	slices.Sort(lines)
	return lines
}

func (n *node) installed() []ike.ChildID {
	var ids []ike.ChildID
	for id := range n.children {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (n *node) listed() []ike.ChildID {
	var ids []ike.ChildID
	for _, s := range n.engine.Statuses() {
		for _, c := range s.Children {
			ids = append(ids, c.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

func firstDifference(a, b []string) string {
	for i := range max(len(a), len(b)) {
		x, y := "nothing", "nothing"
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			return fmt.Sprintf("%s against %s", x, y)
		}
	}
	return ""
}

// traffic sends an ESP packet through each child, both ways, with the ciphers that the
// keys make.
func (w *world) traffic() string {
	if s := oneWay(w.a, w.b); s != "" {
		return s
	}
	return oneWay(w.b, w.a)
}

func oneWay(from, to *node) string {
	for _, id := range from.installed() {
		c := from.children[id]
		var peer *ike.Child
		for _, p := range to.children {
			if p.SPIIn == c.SPIOut && p.SPIOut == c.SPIIn {
				peer = p
			}
		}
		if peer == nil {
			return fmt.Sprintf("%s sends to SPI %08x, which %s does not have", from.name, c.SPIOut, to.name)
		}
		if peer.Suite != c.Suite {
			return fmt.Sprintf("child %d: %v against %v", id, c.Suite, peer.Suite)
		}
		if !slices.Equal(c.Local, peer.Remote) || !slices.Equal(c.Remote, peer.Local) {
			return fmt.Sprintf("child %d: selectors %v, %v against %v, %v", id, c.Local, c.Remote, peer.Local, peer.Remote)
		}
		out, err := suite.NewCipher(c.Suite.Encr, c.Suite.Integ, c.Out.Encr, c.Out.Integ)
		if err != nil {
			return err.Error()
		}
		in, err := suite.NewCipher(peer.Suite.Encr, peer.Suite.Integ, peer.In.Encr, peer.In.Integ)
		if err != nil {
			return err.Error()
		}
		text := bytes.Repeat([]byte{0x5a}, 64)
		pkt := make([]byte, 8+out.IVLen()+len(text)+out.ICVLen())
		copy(pkt[8+out.IVLen():], text)
		out.Seal(pkt, 8, 1, suite.ESN{})
		got, err := in.Open(pkt, 8, suite.ESN{})
		if err != nil || !bytes.Equal(got, text) {
			return fmt.Sprintf("child %d: a packet from %s to %s does not open: %v", id, from.name, to.name, err)
		}
	}
	return ""
}

// leftovers tells what is still there after all was closed, or "".
func (n *node) leftovers() string {
	if s := n.engine.Statuses(); len(s) != 0 {
		return fmt.Sprintf("%s still lists %v", n.name, n.view())
	}
	if len(n.retired) != 0 {
		return fmt.Sprintf("%s still has children %v that were replaced", n.name, n.retired)
	}
	if len(n.children) != 0 {
		return fmt.Sprintf("%s still has children %v", n.name, n.installed())
	}
	if len(n.up) != 0 {
		return fmt.Sprintf("%s never reported the end of %d SAs", n.name, len(n.up))
	}
	return ""
}

// secret notes keys that must never be seen in a report.
func (w *world) secret(keys ...suite.Secret) {
	for _, k := range keys {
		if len(k) >= 8 {
			w.secrets[string(k)] = true
		}
	}
}

// learn takes what the engine's key log tells.
func (w *world) learn(e ike.KeyLogEntry) {
	w.secret(e.SKei, e.SKer, e.SKai, e.SKar)
	if e.Child == nil {
		w.diagram.learn(e)
		return
	}
	w.secret(e.Child.In.Encr, e.Child.In.Integ, e.Child.Out.Encr, e.Child.Out.Integ)
}

// published keeps a report in every form in which it could be shown. Many are alike.
func (w *world) published(what ike.Happening) {
	if !w.eavesdrop {
		return
	}
	text := fmt.Sprintf("%v %+v %#v", what, what, what)
	if b, err := json.Marshal(what); err == nil {
		text += string(b)
	}
	sum := sha256.Sum256([]byte(text))
	if !w.reported[sum] {
		w.reported[sum] = true
		w.reports.WriteString(text)
	}
}

// checkSecrets searches the reports for keys, as octets, hex, base64 and Go's list of
// numbers.
func (w *world) checkSecrets() {
	text := w.reports.String()
	if text == "" {
		return
	}
	for key := range w.secrets {
		k := []byte(key)
		for _, form := range []string{
			key, hex.EncodeToString(k), strings.ToUpper(hex.EncodeToString(k)),
			base64.StdEncoding.EncodeToString(k)[:len(k)/3*4], strings.Trim(fmt.Sprint(k), "[]"),
		} {
			if strings.Contains(text, form) {
				w.fault("a key is in a report")
				return
			}
		}
	}
}
