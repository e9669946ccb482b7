// Package aaa decides what an authenticated peer gets, and asks and tells RADIUS servers:
// virtual addresses from pools, relayed EAP (RFC 3579), accounting (RFC 2866) and orders of
// the servers (RFC 5176). Unlike the engine it holds state that all engines share, locks, and
// waits on the network.
//
// A Pool hands out addresses: the same identity gets the same one again, as long as it is held.
// RADIUS is the client of all servers: Authenticate begins a Conversation, which relays one peer's
// EAP and ends with a Grant or an error (*RejectedError, *SilentError), and Account queues
// Records, which never keep a peer waiting. Orders listens for servers that disconnect peers.
//
// Every packet to a server has a Message-Authenticator, and an answer to Access-Request without a
// valid one is dropped (CVE-2024-3596).
package aaa
