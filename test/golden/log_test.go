package golden_test

import (
	"bytes"
	"slices"
	"testing"

	"martlet/test/golden"
)

// Labels of strongSwan's log.
const (
	labelKESecret  = "key exchange secret"
	labelAddKE     = "additional key exchange secret"
	labelNonces    = "nonces"
	labelSKEYSEED  = "SKEYSEED"
	labelSKp       = "SK_p"
	labelIDx       = "IDx'"
	labelOctets    = "octets = message + nonce + prf(Sk_px, IDx') + IntAuth"
	labelSecret    = "secret"
	labelKeypad    = "prf(secret, keypad)"
	labelAuth      = "AUTH = prf(prf(secret, keypad), octets)"
	labelSeed      = "seed"
	labelIntAuthed = "IntAuth_N-1"
	labelIntAuthAP = "IntAuth_A|P"
	labelIntAuth   = "IntAuth_N = prf(Sk_px, data)"
	labelNATChunk  = "natd_chunk"
	labelNATHash   = "natd_hash"
	labelNATOurSrc = "precalculated src_hash"
	labelNATOurDst = "precalculated dst_hash"
	labelNATSrc    = "received src_hash"
	labelNATDst    = "received dst_hash"
)

// logged is one value that a daemon logged.
type logged struct {
	side, label string
	value       []byte
	verified    bool
}

// valueLog is the values that both daemons logged, each side's in order.
type valueLog struct {
	t       *testing.T
	entries []*logged
}

func newValueLog(t *testing.T, tr *golden.Transcript) *valueLog {
	t.Helper()
	l := &valueLog{t: t}
	for side, entries := range map[string][]golden.Entry{"initiator": tr.Initiator, "responder": tr.Responder} {
		for _, e := range entries {
			if e.Label == "" {
				continue
			}
			value, err := e.Value()
			if err != nil {
				t.Fatal(err)
			}
			l.entries = append(l.entries, &logged{side: side, label: e.Label, value: value})
		}
	}
	return l
}

// verify marks what was logged under label with the value that we computed. That no
// daemon logged it is an error.
func (l *valueLog) verify(label string, value []byte) {
	l.t.Helper()
	found := false
	for _, e := range l.entries {
		if e.label == label && bytes.Equal(e.value, value) {
			e.verified, found = true, true
		}
	}
	if !found {
		l.t.Errorf("%s: we have %x, which no daemon logged", label, value)
	}
}

// before returns the last value logged under label before the first one of whose
// label is mark and which ends in suffix: the inputs of a derivation precede it.
// They are taken from the log because the private keys are not in it.
func (l *valueLog) before(label, mark string, suffix []byte) []byte {
	l.t.Helper()
	for i, e := range l.entries {
		if e.label != mark || !bytes.HasSuffix(e.value, suffix) {
			continue
		}
		for j := i - 1; j >= 0 && l.entries[j].side == e.side; j-- {
			if l.entries[j].label == label {
				return l.entries[j].value
			}
		}
	}
	l.t.Fatalf("no daemon logged a %s before the %s %x", label, mark, suffix)
	return nil
}

// around returns what stands before and behind mid in the first value logged under label
// that holds it.
func (l *valueLog) around(label string, mid []byte) (before, behind []byte) {
	l.t.Helper()
	for _, e := range l.entries {
		if at := bytes.Index(e.value, mid); e.label == label && at >= 0 {
			return e.value[:at], e.value[at+len(mid):]
		}
	}
	l.t.Fatalf("no daemon logged a %s with %x", label, mid)
	return nil, nil
}

// has tells whether a daemon logged a value under label.
func (l *valueLog) has(label string, value []byte) bool {
	return slices.ContainsFunc(l.entries, func(e *logged) bool { return e.label == label && bytes.Equal(e.value, value) })
}

// after returns, of each side that logged value under mark, the next values logged
// under labels, as far as they follow before the next mark.
func (l *valueLog) after(mark string, value []byte, labels ...string) [][]*logged {
	var found [][]*logged
	for i, e := range l.entries {
		if e.label != mark || !bytes.Equal(e.value, value) {
			continue
		}
		var row []*logged
		for _, next := range l.entries[i+1:] {
			if len(row) == len(labels) || next.side != e.side || next.label != labels[len(row)] {
				break
			}
			row = append(row, next)
		}
		if len(row) == len(labels) {
			found = append(found, row)
		}
	}
	return found
}

// finish reports every value that was not verified, and counts the others.
func (l *valueLog) finish() (verified int) {
	l.t.Helper()
	for _, e := range l.entries {
		if e.verified {
			verified++
		} else {
			l.t.Errorf("%s of the %s is not recomputed: %x", e.label, e.side, e.value)
		}
	}
	return verified
}
