package esp

import (
	"fmt"
	"testing"

	"martlet/crypto/suite"
)

func TestInnerMTU(t *testing.T) {
	for _, test := range []struct {
		outer       int
		six         bool
		encr, integ suite.Transform
		want        int
	}{
		{1500, false, gcm256, none, 1438},
		{1500, true, gcm256, none, 1418},
		{1500, false, chacha, none, 1438},
		{1344, false, gcm128, none, 1282}, // 1280 fits
		{1364, true, gcm128, none, 1282},
		{1500, false, gcmIIV, none, 1446},
		{1500, false, gcm8, none, 1446},
		{1500, false, gcm12, none, 1442},
		{1500, false, cbc256, sha256t, 1422},
		{1500, false, cbc256, sha512t, 1406},
		{1500, false, cbc128, sha384t, 1422},
		{1500, false, cbc128, sha1, 1422},
		{1500, true, cbc256, sha256t, 1406},
		{1500, false, ctr128, sha256t, 1438},
		{1500, false, suite.Transform{ID: 999}, none, 1406},
		{40, false, gcm256, none, 0},
	} {
		if got := InnerMTU(test.outer, test.six, test.encr, test.integ); got != test.want {
			t.Errorf("outer %d, IPv6 %t, %v %v: %d, want %d", test.outer, test.six, test.encr, test.integ, got, test.want)
		}
	}
}

// TestInnerMTUFits: the packet of that length fits, and one octet more does not.
func TestInnerMTUFits(t *testing.T) {
	for _, a := range algorithms {
		out, _ := newPair(t, a.encr, a.integ, true, 0)
		for outer := 1280; outer <= 1500; outer++ {
			n := InnerMTU(outer, false, a.encr, a.integ)
			if fits, next := 28+out.SealedLen(n), 28+out.SealedLen(n+1); fits > outer || next <= outer {
				t.Fatalf("%s, outer %d: inner %d makes %d, one more %d", a.name, outer, n, fits, next)
			}
		}
	}
}

func TestDropNames(t *testing.T) {
	seen := make(map[string]bool)
	for d := Drop(1); d < dropEnd; d++ {
		name := d.String()
		if name == "" || name == "unknown" || seen[name] {
			t.Errorf("reason %d has the name %q", d, name)
		}
		seen[name] = true
		if d.Error() != "esp: packet dropped: "+name {
			t.Errorf("reason %d has the error %q", d, d.Error())
		}
	}
	if Drop(0).String() != "unknown" || dropEnd.String() != "unknown" {
		t.Error("numbers that are no reason have a name")
	}
	s := Drops{DropReplay: 3, DropECN: 4}
	if s.Total() != 7 {
		t.Errorf("total %d", s.Total())
	}
	got := ""
	for d, n := range s.All() {
		if n != 0 {
			got += fmt.Sprint(d.String(), "=", n, " ")
		}
		if d == DropECN {
			break
		}
	}
	if got != "replay=3 ecn=4 " {
		t.Errorf("All gives %q", got)
	}
}
