// Package aaa decides what an authenticated peer gets, and asks and tells RADIUS servers:
// virtual addresses from pools, relayed EAP (RFC 3579), accounting (RFC 2866) and orders of
// the servers (RFC 5176). Unlike the engine it holds state that all engines share, locks, and
// waits on the network.
package aaa
