package message

import (
	"encoding/binary"

	"golang.org/x/crypto/cryptobyte"
)

// PuzzleKeys is how many keys solve a puzzle (RFC 8019 §7.1.3).
const PuzzleKeys = 4

// Puzzle is the data of a PUZZLE notify: the number of a PRF and how many zero bits at
// the end of its output are wanted; 0 leaves that to the initiator (RFC 8019 §8.1).
type Puzzle struct {
	PRF        uint16
	Difficulty uint8
}

// ParsePuzzle reads the data of a PUZZLE notify, which must have 3 octets.
func ParsePuzzle(data []byte) (p Puzzle, ok bool) {
	s := cryptobyte.String(data)
	ok = s.ReadUint16(&p.PRF) && s.ReadUint8(&p.Difficulty) && s.Empty()
	return p, ok
}

// Append appends the notify's data.
func (p Puzzle) Append(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, p.PRF), p.Difficulty)
}

// PuzzleSolution is the Puzzle Solution payload (RFC 8019 §8.2): four keys of equal
// length, one after another.
type PuzzleSolution struct{ Data []byte }

func (*PuzzleSolution) Type() PayloadType { return TypePS }

func (p *PuzzleSolution) appendBody(b []byte) []byte { return append(b, p.Data...) }

// Keys splits the solution. They are parts of Data. It fails where Data is empty or does not
// divide by four.
func (p *PuzzleSolution) Keys() (keys [PuzzleKeys][]byte, ok bool) {
	n := len(p.Data) / PuzzleKeys
	if n == 0 || len(p.Data) != n*PuzzleKeys {
		return keys, false
	}
	s := cryptobyte.String(p.Data)
	for i := range keys {
		if !s.ReadBytes(&keys[i], n) {
			return keys, false
		}
	}
	return keys, true
}
