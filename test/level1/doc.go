// Package level1 tests two IKE engines against each other over a bad network, in
// virtual time, seed after seed. It has nothing but tests.
//
// A seed decides everything: configuration, network, commands, crashes, forged messages.
// When one fails, the exchange is printed as a diagram; run it alone by
//
//	MARTLET_SEED=123 go test ./test/level1 -run TestSeeds -v
//
// A range such as 1-5000 plays those. MARTLET_LONG=1 plays 20,000; test/run plays 100,000 in
// two processes besides, without the race detector.
package level1
