// Package personas has the peers that people have, as scripted emulators: each sends what
// that device sends, in its order, and fails where that device fails. They know nothing of
// package ike's engine but the formulas of the key schedule, so that they judge it from
// outside; what they speak to is a whole Node, configured as its user would.
//
// What a device does is data; each table says how sure that is: [S] was seen in a log or in
// the device's source, [D] follows from what was seen, [K] is general knowledge and not
// confirmed. Where nothing is known the plain form of the RFC stands, and a comment says so.
package personas
