// Package interop runs Martlet against other people's software, in network namespaces of
// its own: strongSwan at the other end of the tunnel, tcpdump on the wire between them,
// tshark over what it caught. It has nothing but tests. They need root and Debian's
// packages, which test/run installs, and skip with a reason without.
package interop
