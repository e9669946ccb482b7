//go:build race

package main

// raceEnabled: the race detector watches, and takes memory.
const raceEnabled = true
