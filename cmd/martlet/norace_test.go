//go:build !race

package main

// raceEnabled: the race detector does not watch.
const raceEnabled = false
