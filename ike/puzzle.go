package ike

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"

	"martlet/crypto/suite"
	"martlet/ike/message"
)

// Bounds of puzzles (RFC 8019 §7.1.3). Four keys for the lowest difficulty are some 16,000
// computations of a PRF, some milliseconds; four for the highest that we solve are four
// million, some seconds.
const (
	minDifficulty    = 12
	maxDifficulty    = 18
	solvedDifficulty = 20
	maxPuzzleEffort  = 8 << solvedDifficulty // computations of the PRF
	puzzleKeyLen     = 8
	maxPuzzleKeyLen  = 64
)

var errPuzzleEffort = errors.New("ike: the puzzle takes more than it is worth")

// puzzlePRF is the PRF of a puzzle, nil where we have none.
func puzzlePRF(id uint16) suite.PRF {
	prf, err := suite.NewPRF(suite.Transform{Type: suite.TypePRF, ID: id})
	if err != nil {
		return nil
	}
	return prf
}

// puzzlePRFs is those of the PRFs in an offer that a puzzle can have.
func puzzlePRFs(sa *message.SA) []uint16 {
	var out []uint16
	for _, p := range sa.Proposals {
		for _, t := range p.Transforms {
			if t.Type == suite.TypePRF && !slices.Contains(out, t.ID) && puzzlePRF(t.ID) != nil {
				out = append(out, t.ID)
			}
		}
	}
	return out
}

// zeroBits counts the zero bits at the end.
func zeroBits(b []byte) int {
	n := 0
	for _, octet := range slices.Backward(b) {
		n += bits.TrailingZeros8(octet)
		if octet != 0 {
			break
		}
	}
	return n
}

// solvePuzzle finds four different keys for which the PRF of s ends in enough zero bits
// (RFC 8019 §7.1.3). It is run beside the engine, and ends in any case.
func solvePuzzle(p message.Puzzle, s []byte) ([]byte, error) {
	prf := puzzlePRF(p.PRF)
	if prf == nil || p.Difficulty > solvedDifficulty {
		return nil, errPuzzleEffort
	}
	key := make([]byte, puzzleKeyLen)
	rand.Read(key)
	count := binary.BigEndian.Uint64(key)
	var keys []byte
	for range maxPuzzleEffort {
		count++
		binary.BigEndian.PutUint64(key, count)
		if zeroBits(prf.Sum(key, s)) < int(p.Difficulty) {
			continue
		}
		if keys = append(keys, key...); len(keys) == message.PuzzleKeys*puzzleKeyLen {
			return keys, nil
		}
	}
	return nil, errPuzzleEffort
}

// checkSolution verifies what solvePuzzle, or somebody else's, found.
func checkSolution(p message.Puzzle, s []byte, solution *message.PuzzleSolution) bool {
	prf := puzzlePRF(p.PRF)
	keys, ok := solution.Keys()
	if prf == nil || !ok || len(keys[0]) > maxPuzzleKeyLen {
		return false
	}
	for i, key := range keys {
		same := func(other []byte) bool { return bytes.Equal(key, other) }
		if slices.ContainsFunc(keys[:i], same) || zeroBits(prf.Sum(key, s)) < int(p.Difficulty) {
			return false
		}
	}
	return true
}

// solve lets the runner solve a puzzle over s; then gets the Puzzle Solution payload, or
// nil where we do not: the responder may take us without.
func (s *ikeSA) solve(p message.Puzzle, over []byte, then func(*message.PuzzleSolution)) {
	if puzzlePRF(p.PRF) == nil || p.Difficulty > solvedDifficulty {
		then(nil)
		return
	}
	s.work(func() (any, error) { return solvePuzzle(p, over) }, func(v any, err error) {
		keys, ok := v.([]byte)
		if err != nil || !ok {
			then(nil)
			return
		}
		then(&message.PuzzleSolution{Data: keys})
	})
}

// puzzleOfAuth is what the puzzle of IKE_AUTH is computed over: Nr | SPIr (RFC 8019 §7.2.3).
func (s *ikeSA) puzzleOfAuth() []byte {
	return binary.BigEndian.AppendUint64(slices.Clone(s.nr), uint64(s.spir))
}

// unsolved tells whether a message lacks the solution of the puzzle that its sender was given
// in IKE_SA_INIT. It is looked at before anything is decrypted (RFC 8019 §7.2.4). One
// solution is enough, whatever comes of the message.
func (s *ikeSA) unsolved(raw []byte) bool {
	if !s.puzzled || s.initiator || s.state != stateConnecting {
		return false
	}
	m, err := message.Parse(raw)
	if err != nil {
		return true
	}
	solution, ok := message.Find[*message.PuzzleSolution](m.Payloads)
	s.puzzled = !ok || !checkSolution(s.puzzle, s.puzzleOfAuth(), solution)
	return s.puzzled
}
