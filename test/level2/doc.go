// Package level2 tests whole nodes over the simulated network, in the time of
// testing/synctest: what takes minutes of silence takes no time, and nothing depends on
// the machine's speed. Only tests are here.
package level2
