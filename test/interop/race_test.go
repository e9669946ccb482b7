//go:build race

package interop

// raceEnabled: the tests run with the race detector, and so does the program.
const raceEnabled = true
