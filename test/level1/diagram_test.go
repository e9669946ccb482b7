package level1

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"martlet/crypto/suite"
	"martlet/ike"
	"martlet/ike/message"
	"martlet/test/simnet"
)

// diagram is the exchange as text: time goes down, the client stands left, the gateway
// right. What arrives is an arrow, what does not ends in a cross.
type diagram struct {
	begin   time.Time
	left    string
	records []line
	keys    map[message.SPI]ike.KeyLogEntry
}

type line struct {
	at     time.Time
	note   string
	record simnet.Record
}

func (d *diagram) learn(e ike.KeyLogEntry) { d.keys[e.SPIi] = e }

func (d *diagram) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%10s  %-12s%s%12s\n", "", "client", strings.Repeat(" ", 60), "gateway")
	senders := map[uint64]string{}
	for _, l := range d.records {
		if l.note != "" {
			fmt.Fprintf(&b, "%10s  %s\n", d.time(l.at), l.note)
			continue
		}
		r := l.record
		if r.Fate == simnet.Sent {
			senders[r.Number] = r.Host
			continue
		}
		text := fmt.Sprintf(" #%d %s ", r.Number, d.describe(r.Datagram.Data))
		pad := strings.Repeat("-", max(0, 80-len(text)))
		fromLeft := senders[r.Number] == d.left
		var arrow string
		switch {
		case r.Fate == simnet.Delivered && fromLeft:
			arrow = "|--" + text + pad + ">|"
		case r.Fate == simnet.Delivered:
			arrow = "|<-" + text + pad + "-|"
		case fromLeft:
			arrow = "|--" + text + "--X " + r.Fate.String()
		default:
			arrow = "   " + r.Fate.String() + " X--" + text + pad + "|"
		}
		fmt.Fprintf(&b, "%10s  %s\n", d.time(r.At), arrow)
	}
	return b.String()
}

func (d *diagram) time(t time.Time) string {
	return fmt.Sprintf("%.3fs", t.Sub(d.begin).Seconds())
}

// describe tells what a datagram is, with the payloads inside where the key log lets us
// see them.
func (d *diagram) describe(data []byte) string {
	if bytes.Equal(data, []byte{0xff}) {
		return "keepalive"
	}
	if len(data) == espLen {
		return fmt.Sprintf("ESP %x number %d", data[:4], binary.BigEndian.Uint32(data[4:]))
	}
	data = bytes.TrimPrefix(data, []byte(marker))
	m, err := message.Parse(data)
	if err != nil {
		return "? " + err.Error()
	}
	what := "req"
	if m.IsResponse() {
		what = "resp"
	}
	side := "r"
	if m.FromInitiator() {
		side = "i"
	}
	text := fmt.Sprintf("%v %s %d%s %.8s", m.Exchange, what, m.MessageID, side, m.SPIi)
	if e, ok := message.Find[*message.Encrypted](m.Payloads); ok && e.Type() == message.TypeSKF {
		return text + fmt.Sprintf(" SKF %d/%d", e.Fragment, e.Total)
	}
	payloads := m.Payloads
	if inner, ok := d.open(data, m.Header); ok {
		payloads = inner
	}
	for _, p := range payloads {
		if n, ok := p.(*message.Notify); ok {
			text += fmt.Sprintf(" N(%v)", n.Notify)
		} else {
			text += " " + p.Type().String()
		}
	}
	return text
}

func (d *diagram) open(data []byte, h message.Header) ([]message.Payload, bool) {
	k, ok := d.keys[h.SPIi]
	if !ok {
		return nil, false
	}
	encr, integ := k.SKer, k.SKar
	if h.FromInitiator() {
		encr, integ = k.SKei, k.SKai
	}
	c, err := suite.NewCipher(k.Suite.Encr, k.Suite.Integ, encr, integ)
	if err != nil {
		return nil, false
	}
	_, e, text, err := message.Open(slices.Clone(data), c)
	if err != nil {
		return nil, false
	}
	ps, err := message.ParsePayloads(e.First, text)
	return ps, err == nil
}
