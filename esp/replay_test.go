package esp

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// modelWindow is the replay window as one would explain it: a set of the numbers
// accepted, and the highest.
type modelWindow struct {
	size     uint64
	top      uint64
	accepted map[uint64]bool
}

func (m *modelWindow) check(seq uint64) Drop {
	switch {
	case seq == 0 || seq <= m.top && m.top-seq < m.size && m.accepted[seq]:
		return DropReplay
	case seq <= m.top && m.top-seq >= m.size:
		return DropTooOld
	}
	return 0
}

func (m *modelWindow) commit(seq uint64) bool {
	m.accepted[seq] = true
	newest := seq > m.top
	m.top = max(m.top, seq)
	return newest
}

// infer searches the number with these low bits that is nearest above the window's
// lower edge, which is what RFC 4303 appendix A comes down to.
func (m *modelWindow) infer(low uint32) (uint64, bool) {
	bottom := int64(0) // signed: the window may begin below zero
	if m.top < 1<<62 {
		bottom = int64(m.top) - int64(m.size) + 1
	}
	high := bottom >> 32
	seq := high<<32 | int64(low)
	if seq < bottom {
		seq += 1 << 32
	}
	return uint64(seq), seq >= 0
}

func step(t *testing.T, w *window, m *modelWindow, seq uint64, commit bool) {
	t.Helper()
	got, want := w.check(seq), m.check(seq)
	if got != want {
		t.Fatalf("window of %d at %d: number %d: %v, the model says %v", m.size, m.top, seq, got, want)
	}
	if got == 0 && commit {
		if got, want := w.commit(seq), m.commit(seq); got != want {
			t.Fatalf("window of %d at %d: number %d: newest %t, the model says %t", m.size, m.top, seq, got, want)
		}
	}
}

// TestWindowModel is goal D2 and security.md row 62: a million numbers of all kinds
// against the model, in windows of all sizes.
func TestWindowModel(t *testing.T) {
	for _, size := range []int{64, 65, 100, 128, 1000, 4096, 65535, 65536} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, uint64(size)))
			w := newWindow(size)
			m := &modelWindow{size: uint64(size), accepted: make(map[uint64]bool)}
			for range 125_000 {
				var seq uint64
				switch r.IntN(8) {
				case 0: // around the lower edge
					seq = m.top - m.size + r.Uint64N(5) - 2
				case 1: // around the top
					seq = m.top + r.Uint64N(5) - 2
				case 2: // a jump, sometimes beyond the whole ring
					seq = m.top + r.Uint64N(3*m.size)
				case 3: // long ago
					seq = r.Uint64N(m.top + 1)
				default:
					seq = m.top - r.Uint64N(m.size+1)
				}
				if int64(seq) < 0 {
					seq = 0
				}
				step(t, &w, m, seq, r.IntN(8) != 0)
			}
		})
	}
}

// TestWindowEdges: the exact width, number 0, and the last numbers there are.
func TestWindowEdges(t *testing.T) {
	for _, size := range []uint64{64, 100, 4096} {
		w := newWindow(int(size))
		if w.check(0) != DropReplay {
			t.Error("number 0 accepted")
		}
		w.commit(size + 1)
		if got := w.check(1); got != DropTooOld {
			t.Errorf("size %d: number 1 at %d: %v", size, w.top, got)
		}
		if got := w.check(2); got != 0 {
			t.Errorf("size %d: number 2 at %d: %v", size, w.top, got)
		}
		w.commit(math.MaxUint64)
		if got := w.check(math.MaxUint64 - size + 1); got != 0 {
			t.Errorf("size %d: lower edge at the end: %v", size, got)
		}
		if got := w.check(math.MaxUint64 - size); got != DropTooOld {
			t.Errorf("size %d: below the lower edge at the end: %v", size, got)
		}
		if got := w.check(math.MaxUint64); got != DropReplay {
			t.Errorf("size %d: last number again: %v", size, got)
		}
	}
}

// TestReplayMillion is goal D2: of a million replays none is accepted, and reorder
// within the window loses nothing.
func TestReplayMillion(t *testing.T) {
	const size = defaultWindow
	w := newWindow(size)
	accepted, replays := 0, 0
	var block [size]uint64
	for n := range uint64(200) {
		for i := range block {
			block[i] = n*size + uint64(i) + 1
		}
		rand.New(rand.NewPCG(n, 2)).Shuffle(size, func(i, j int) { block[i], block[j] = block[j], block[i] })
		for _, seq := range block {
			// Number size behind the block's highest is the first of the block, so all lie inside.
			if why := w.check(seq); why != 0 {
				t.Fatalf("number %d lost: %v", seq, why)
			}
			w.commit(seq)
			accepted++
		}
		for _, seq := range block {
			for back := range uint64(2) {
				if w.check(seq-back*(size/2)) == 0 && seq > back*(size/2) {
					t.Fatalf("number %d accepted twice", seq-back*(size/2))
				}
				replays++
			}
		}
	}
	if accepted != 200*size || replays < 1_000_000 {
		t.Fatalf("%d accepted, %d replays", accepted, replays)
	}
}

// TestInferModel: RFC 4303 appendix A2.2 against the model, around each boundary of
// the half-spaces.
func TestInferModel(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, size := range []int{64, 100, 4096, 65536} {
		for range 100_000 {
			top := r.Uint64N(1<<35) >> r.IntN(35)
			if r.IntN(2) == 0 {
				top = r.Uint64N(5)<<32 + r.Uint64N(3*uint64(size))
				top -= min(top, r.Uint64N(3*uint64(size)))
			}
			w := newWindow(size)
			w.top = top
			m := &modelWindow{size: uint64(size), top: top}
			low := uint32(top) + uint32(r.Uint64N(5*uint64(size))) - uint32(2*size)
			if r.IntN(3) == 0 {
				low = r.Uint32()
			}
			got, ok := w.infer(low)
			want, wantOK := m.infer(low)
			if ok != wantOK || ok && got != want {
				t.Fatalf("window of %d at %#x: low half %#x: %#x %t, the model says %#x %t", size, top, low, got, ok, want, wantOK)
			}
		}
	}
	// Above the last number there is none.
	w := newWindow(64)
	w.top = math.MaxUint64 - 10
	if seq, ok := w.infer(5); ok {
		t.Errorf("beyond the end: %#x", seq)
	}
}

// FuzzReplay drives window and model with the same numbers, told by pairs of octets
// as distances from the top.
func FuzzReplay(f *testing.F) {
	f.Add(uint16(64), uint64(0), []byte{0x80, 1, 0x80, 1, 0x7f, 0xff, 0xff, 0xff, 0, 0})
	f.Add(uint16(100), uint64(1<<32-50), []byte{0x80, 100, 0x7f, 0, 0x80, 0})
	f.Fuzz(func(t *testing.T, size uint16, start uint64, steps []byte) {
		n := max(minWindow, int(size))
		start %= 1 << 40
		w := newWindow(n)
		m := &modelWindow{size: uint64(n), accepted: make(map[uint64]bool)}
		if start > 0 {
			step(t, &w, m, start, true)
		}
		for ; len(steps) >= 2; steps = steps[2:] {
			seq := m.top + uint64(binary.BigEndian.Uint16(steps)) - 0x8000
			if int64(seq) < 0 {
				seq = 0
			}
			if got, ok := w.infer(uint32(seq)); ok && seq+uint64(n) > m.top && got != seq {
				t.Fatalf("window of %d at %#x: infer(%#x) is %#x, want %#x", n, m.top, uint32(seq), got, seq)
			}
			step(t, &w, m, seq, steps[1]&7 != 7)
		}
	})
}
