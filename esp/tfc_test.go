package esp

import (
	"bytes"
	"fmt"
	"testing"
)

// TestPaddingHidesLengths: packets up to the length to which a child pads are all the
// same length on the wire, longer ones are as ever, and all come out as they were.
func TestPaddingHidesLengths(t *testing.T) {
	for _, a := range algorithms {
		b := newBench(t)
		c := b.child(1, "10.0.0.0/8", "10.2.0.0/16")
		c.In.Encr, c.In.Integ, c.Out.Encr, c.Out.Integ = a.encr, a.integ, a.encr, a.integ
		kin, kout := newKeys(t, c.In.SPI, a.encr, a.integ, true), newKeys(t, c.Out.SPI, a.encr, a.integ, true)
		c.In, c.Out, c.Pad = kin, kout, 600
		b.install(c)
		open := b.openerOf(c)
		lengths := map[int]bool{}
		for n := 0; n <= 700; n += 35 {
			pkt := ip("10.0.0.1", "10.2.0.1", n)
			sent := b.host(pkt)
			if len(sent) != 1 {
				t.Fatalf("%s: %d packets sent", a.name, len(sent))
			}
			if len(pkt) <= 600 {
				lengths[len(sent[0].Data)] = true
			} else if lengths[len(sent[0].Data)] {
				t.Errorf("%s: %d octets look like the padded ones", a.name, len(pkt))
			}
			got, err := open.Open(bytes.Clone(sent[0].Data))
			if err != nil || !bytes.Equal(got, pkt) {
				t.Fatalf("%s: %d octets: %v", a.name, len(pkt), err)
			}
		}
		if len(lengths) != 1 {
			t.Errorf("%s: the padded packets have the lengths %s", a.name, fmt.Sprint(lengths))
		}
	}
}
