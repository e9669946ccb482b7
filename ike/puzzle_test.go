package ike

import (
	"bytes"
	"testing"
	"time"

	"martlet/crypto/pki"
	"martlet/crypto/suite"
	"martlet/ike/message"
)

func TestPuzzle(t *testing.T) {
	s := []byte("an unpredictable string")
	for _, prf := range []uint16{suite.PRFHMACSHA1, suite.PRFHMACSHA256, suite.PRFHMACSHA384, suite.PRFHMACSHA512} {
		for _, difficulty := range []uint8{0, 1, 7, 8, 9} {
			p := message.Puzzle{PRF: prf, Difficulty: difficulty}
			keys, err := solvePuzzle(p, s)
			if err != nil {
				t.Fatal(err)
			}
			solution := &message.PuzzleSolution{Data: keys}
			if !checkSolution(p, s, solution) {
				t.Errorf("%+v: the solution is not one", p)
			}
			if difficulty >= 7 && checkSolution(p, []byte("another string"), solution) {
				t.Errorf("%+v: it solves another puzzle too", p)
			}
		}
	}
	for _, p := range []message.Puzzle{{PRF: suite.PRFHMACSHA256, Difficulty: solvedDifficulty + 1}, {PRF: 4, Difficulty: 1}, {PRF: 65535}} {
		if _, err := solvePuzzle(p, s); err == nil {
			t.Errorf("%+v was solved", p)
		}
		if checkSolution(p, s, &message.PuzzleSolution{Data: make([]byte, 64)}) {
			t.Errorf("%+v counts as solved", p)
		}
	}
	for in, want := range map[string]int{"": 0, "\x01": 0, "\x80": 7, "\x01\x00": 8, "\x00": 8, "\xff\x10\x00": 12} {
		if got := zeroBits([]byte(in)); got != want {
			t.Errorf("%x ends in %d zero bits, want %d", in, got, want)
		}
	}
}

// TestPuzzleInInit: ours against ours, with loss and repetition.
func TestPuzzleInInit(t *testing.T) {
	for name, fate := range map[string]func(n int) int{
		"quiet":    func(int) int { return 1 },
		"loss":     func(n int) int { return n % 2 },
		"repeated": func(int) int { return 3 },
	} {
		t.Run(name, func(t *testing.T) {
			client, gateway := pskPair(t)
			w, a, b := pair(t, client, gateway)
			b.e.gate.cfg = HalfOpen{CookieTotal: -1, PuzzleTotal: -1}
			// Nobody comes in without a solution.
			b.e.gate.unsolved = bucket{used: 1e9, at: w.now}
			n := 0
			w.fate = func(*host, Send) int { n++; return fate(n) }
			a.initiate("home", b)
			w.run(20 * time.Second)
			w.fate = nil
			w.run(10 * time.Second)
			agree(t, a, b, 1)
			inits := sentOf(a, message.IKESAInit, false)
			types := payloadTypes(t, inits[len(inits)-1])
			if types[0] != message.TypeNotify || types[1] != message.TypePS || types[2] != message.TypeSA {
				t.Errorf("payloads %v, want N(COOKIE), PS, SA (RFC 8019 §7.1.2)", types)
			}
			for _, answer := range sentOf(b, message.IKESAInit, true) {
				if m, err := message.Parse(answer); err == nil && m.Notify(message.Cookie) != nil && len(answer) > len(inits[0]) {
					t.Error("the demand is longer than the request")
				}
			}
		})
	}
}

// TestPuzzleNotSolved: what is too hard, unknown or malformed is answered with the cookie
// alone, once, and nothing is computed.
func TestPuzzleNotSolved(t *testing.T) {
	for name, data := range map[string][]byte{
		"too hard":    message.Puzzle{PRF: suite.PRFHMACSHA256, Difficulty: 255}.Append(nil),
		"unknown PRF": message.Puzzle{PRF: 4, Difficulty: 1}.Append(nil),
		"malformed":   {0, 5},
	} {
		client, gateway := pskPair(t)
		w, a, b := pair(t, client, gateway)
		w.fate = func(*host, Send) int { return 0 }
		a.initiate("home", b)
		(&script{t, w, a, b}).answerInit(0, notifyData(message.Cookie, []byte("a cookie")), notifyData(message.PuzzleDemand, data))
		inits := sentOf(a, message.IKESAInit, false)
		if len(inits) != 2 || len(a.asked) != 0 {
			t.Fatalf("%s: %d requests, %d questions", name, len(inits), len(a.asked))
		}
		if types := payloadTypes(t, inits[1]); types[0] != message.TypeNotify || types[1] != message.TypeSA || !bytes.Contains(inits[1], []byte("a cookie")) {
			t.Errorf("%s: payloads %v", name, types)
		}
	}
}

func FuzzPuzzleSolution(f *testing.F) {
	f.Add(make([]byte, 32))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, data []byte) {
		p := message.Puzzle{PRF: suite.PRFHMACSHA256, Difficulty: 200}
		if checkSolution(p, []byte("s"), &message.PuzzleSolution{Data: data}) {
			t.Fatal("solved by chance")
		}
	})
}

// TestPuzzleInAuth: under load another puzzle comes with the answer to IKE_SA_INIT; its
// solution stands before SK, in the first fragment only, and without it nothing is decrypted.
func TestPuzzleInAuth(t *testing.T) {
	for name, size := range map[string]int{"whole": -1, "fragments": 300} {
		t.Run(name, func(t *testing.T) {
			client, gateway := certPair(t, pki.RSA2048, pki.RSA2048)
			client.FragmentSize, gateway.FragmentSize = size, size
			w, a, b := pair(t, client, gateway)
			b.e.gate.cfg = HalfOpen{CookieTotal: -1, PuzzleTotal: -1}
			b.e.gate.unsolved = bucket{used: 1e9, at: w.now}
			stripped := false
			w.fate = func(from *host, s Send) int {
				if h, err := message.ParseHeader(s.Data); err != nil || h.Exchange != message.IKEAuth || h.IsResponse() || stripped {
					return 1
				}
				stripped = true
				b.deliver(a, withoutFirst(t, s.Data))
				if b.count(DropState) != 1 || b.count(DropICV) != 0 || engineOf(b).auth != nil {
					t.Error("looked at without a solution")
				}
				return 1
			}
			a.initiate("home", b)
			w.run(5 * time.Second)
			agree(t, a, b, 1)
			solutions := 0
			requests := sentOf(a, message.IKEAuth, false)
			for _, raw := range requests {
				if payloadTypes(t, raw)[0] == message.TypePS {
					solutions++
				}
			}
			if !stripped || solutions == 0 || size > 0 && solutions == len(requests) || payloadTypes(t, requests[0])[0] != message.TypePS {
				t.Errorf("%d solutions in %d messages", solutions, len(requests))
			}
		})
	}
}

// withoutFirst takes the first payload out of a message.
func withoutFirst(t testing.TB, raw []byte) []byte {
	t.Helper()
	m, err := message.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	m.Payloads = m.Payloads[1:]
	return m.Append(nil)
}
