//go:build !unix

package netstack

// readReady reads into a block that it keeps while it waits.
func (r *reader) readReady() (int, error) { return r.readPlain() }
