package config

import (
	"net/netip"
	"time"
)

// Keep is when a connection or a child is open.
type Keep string

const (
	KeepUp       Keep = "up"        // always
	KeepOnDemand Keep = "on-demand" // from the first packet on
	KeepManual   Keep = "manual"    // by command
)

// PostQuantum is what is done against quantum computers.
type PostQuantum string

const (
	PostQuantumPrefer  PostQuantum = "prefer"
	PostQuantumRequire PostQuantum = "require"
	PostQuantumOff     PostQuantum = "off"
)

// Legacy names peers whose defaults are out of date.
type Legacy string

const (
	LegacyWindows Legacy = "windows-default"
	LegacyCloud   Legacy = "old-cloud"
)

// Selector is a traffic selector as the file has it; the fields are those of
// ike/message's, so that one converts to the other.
type Selector struct {
	Protocol           uint8
	StartPort, EndPort uint16
	From, To           netip.Addr
}

// Duration is a time.Duration, which a file has as "30s". Zero is the key's default; a file's
// "0s" becomes Never.
type Duration time.Duration

// Never is the Duration of what does not happen; so is every negative one.
const Never Duration = -1

// Range is a run of addresses of one family, both ends included.
type Range struct{ From, To netip.Addr }

// Routes is what goes into the tunnel. Exactly one of the three holds.
type Routes struct {
	Selectors bool
	None      bool
	List      []netip.Prefix
}
