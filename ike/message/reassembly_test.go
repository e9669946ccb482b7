package message_test

import (
	"bytes"
	"testing"

	. "martlet/ike/message"
)

// step is one fragment given to a Reassembly.
type step struct {
	id            uint32
	number, total uint16
	text          string
	whole         string // "" where it must not be done
}

func TestReassembly(t *testing.T) {
	for name, steps := range map[string][]step{
		"in order":          {{1, 1, 3, "a", ""}, {1, 2, 3, "b", ""}, {1, 3, 3, "c", "abc"}},
		"out of order":      {{1, 3, 3, "c", ""}, {1, 1, 3, "a", ""}, {1, 2, 3, "b", "abc"}},
		"one of one":        {{1, 1, 1, "a", "a"}},
		"duplicates":        {{1, 1, 2, "a", ""}, {1, 1, 2, "x", ""}, {1, 1, 2, "a", ""}, {1, 2, 2, "b", "ab"}},
		"empty in between":  {{1, 1, 3, "a", ""}, {1, 2, 3, "", ""}, {1, 2, 3, "x", ""}, {1, 3, 3, "c", "ac"}},
		"empty last":        {{1, 1, 2, "a", ""}, {1, 2, 2, "", "a"}},
		"number 0":          {{1, 1, 2, "a", ""}, {1, 0, 2, "x", ""}, {1, 2, 2, "b", "ab"}},
		"number over total": {{1, 1, 2, "a", ""}, {1, 3, 2, "x", ""}, {1, 2, 2, "b", "ab"}},
		"total grows":       {{1, 1, 2, "A", ""}, {1, 2, 3, "b", ""}, {1, 1, 3, "a", ""}, {1, 3, 3, "c", "abc"}},
		"total shrinks":     {{1, 1, 3, "a", ""}, {1, 2, 2, "x", ""}, {1, 2, 3, "b", ""}, {1, 3, 3, "c", "abc"}},
		"other message":     {{1, 1, 2, "x", ""}, {2, 2, 2, "b", ""}, {2, 1, 2, "a", "ab"}},
		"65 fragments":      {{1, 1, 65, "x", ""}, {1, 1, 2, "a", ""}, {1, 2, 2, "b", "ab"}},
		"again after done":  {{1, 1, 1, "a", "a"}, {1, 1, 1, "b", "b"}},
	} {
		var r Reassembly
		for i, s := range steps {
			e := &Encrypted{Fragment: s.number, Total: s.total}
			if s.number == 1 {
				e.First = TypeNonce
			}
			first, whole, done := r.Add(s.id, e, []byte(s.text))
			if done != (s.whole != "") || string(whole) != s.whole {
				t.Errorf("%s: step %d: %q, %v; want %q", name, i+1, whole, done, s.whole)
			}
			if done && first != TypeNonce {
				t.Errorf("%s: step %d: first payload is %v, want Nonce", name, i+1, first)
			}
		}
		if id, ok := r.Pending(); ok {
			t.Errorf("%s: message %d is left", name, id)
		}
	}
}

func TestReassemblyCopies(t *testing.T) {
	var r Reassembly
	text := []byte("ab")
	r.Add(1, &Encrypted{Fragment: 1, Total: 2}, text)
	text[0] = 'x'
	if _, whole, done := r.Add(1, &Encrypted{Fragment: 2, Total: 2}, []byte("c")); !done || string(whole) != "abc" {
		t.Errorf("%q, %v; want abc", whole, done)
	}
}

func TestReassemblyBounds(t *testing.T) {
	var r Reassembly
	part := bytes.Repeat([]byte{1}, MaxReassembled/MaxFragments)
	for i := range uint16(MaxFragments) {
		_, whole, done := r.Add(1, &Encrypted{Fragment: i + 1, Total: MaxFragments}, part)
		if last := i == MaxFragments-1; done != last || last && len(whole) != MaxReassembled {
			t.Fatalf("fragment %d: %d octets, %v", i+1, len(whole), done)
		}
	}
	r.Add(1, &Encrypted{Fragment: 1, Total: 3}, make([]byte, MaxReassembled))
	if _, _, done := r.Add(1, &Encrypted{Fragment: 2, Total: 3}, []byte{1}); done {
		t.Error("done without fragment 3")
	}
	if _, ok := r.Pending(); ok {
		t.Error("more than 64 KiB are kept")
	}
}

func TestReassemblyReset(t *testing.T) {
	var r Reassembly
	r.Add(7, &Encrypted{Fragment: 1, Total: 2}, []byte("a"))
	if id, ok := r.Pending(); !ok || id != 7 {
		t.Errorf("pending: %d, %v; want 7", id, ok)
	}
	r.Reset()
	if _, _, done := r.Add(7, &Encrypted{Fragment: 2, Total: 2}, []byte("b")); done {
		t.Error("done with a fragment from before Reset")
	}
}
