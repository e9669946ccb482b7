package outside

import "golang.org/x/sys/unix"

// The numbers are those of this system, or this does not compile.
var _ = [1]int{}[solSocketBSD-unix.SOL_SOCKET|soRTable-unix.SO_RTABLE]

func (w Way) option(bool, string) (option, error) { return routingTable(w.Table), nil }
