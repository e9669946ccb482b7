// Package level1 tests two IKE engines against each other over a bad network, in
// virtual time, seed after seed. It has nothing but tests.
//
// A seed decides everything: configuration, network, commands, crashes, forged messages.
// When one fails, the exchange is printed as a diagram; run it alone by
//
//	MARTLET_SEED=123 go test ./test/level1 -run TestSeeds -v
//
// MARTLET_LONG=1 runs twenty times as many.
package level1
