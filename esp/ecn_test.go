package esp

import "testing"

// TestDecapECN is the table of RFC 6040 §4.2, figure 4.
func TestDecapECN(t *testing.T) {
	const drop = 9
	// Rows by inner, columns by outer: Not-ECT, ECT(1), ECT(0), CE.
	table := [4][4]uint8{
		ecnNotECT: {ecnNotECT, ecnNotECT, ecnNotECT, drop},
		ecnECT1:   {ecnECT1, ecnECT1, ecnECT1, ecnCE},
		ecnECT0:   {ecnECT0, ecnECT1, ecnECT0, ecnCE},
		ecnCE:     {ecnCE, ecnCE, ecnCE, ecnCE},
	}
	for inner := range uint8(4) {
		for outer := range uint8(4) {
			got, ok := decapECN(outer, inner)
			if want := table[inner][outer]; ok != (want != drop) || ok && got != want {
				t.Errorf("inner %d, outer %d: %d %t, want %d", inner, outer, got, ok, want)
			}
		}
	}
}

func TestSetECN(t *testing.T) {
	for tos := range 256 {
		v4, v6 := ip("10.0.0.1", "10.0.0.2", 3), ip("2001:db8::1", "2001:db8::2", 3)
		v4[1] = byte(tos)
		v4[10], v4[11] = 0, 0
		sum := ^checksum(v4[:20])
		v4[10], v4[11] = byte(sum>>8), byte(sum)
		v6[0], v6[1] = 0x60|byte(tos>>4), byte(tos<<4)|5
		for ecn := range uint8(4) {
			setECN(v4, ecn)
			setECN(v6, ecn)
			if want := uint8(tos)&^3 | ecn; trafficClass(v4) != want || trafficClass(v6) != want {
				t.Fatalf("class %#x with ECN %d: %#x and %#x", tos, ecn, trafficClass(v4), trafficClass(v6))
			}
			if checksum(v4[:20]) != 0xffff {
				t.Fatalf("class %#x with ECN %d: header checksum is wrong", tos, ecn)
			}
			if v6[0]>>4 != 6 || v6[1]&15 != 5 {
				t.Fatal("version or flow label changed")
			}
		}
	}
}
