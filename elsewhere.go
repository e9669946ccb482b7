package martlet

import "martlet/ike"

// elsewhere says why this process has no part in the tunnel of a Node whose packets do not end in
// it: what it dialled or listened on could be outside.
func (n *Node) elsewhere() *Error {
	switch {
	case n.device == nil:
		return errNoTunnel
	case n.host != nil:
		return errOfHost
	case n.Device != nil:
		return errOfDevice
	}
	return errEnclosed
}

var (
	errNoTunnel = &Error{
		Code: ike.CodeHost, What: "this Node has no tunnel",
		Why: "Start was not called, or failed", Hint: "call Start first, and heed its error",
	}
	errOfHost = &Error{
		Code: ike.CodeHost, What: "the tunnel is this host's, and does not end in the martlet that was asked",
		Why: "it has a device and routes", Hint: "use the host's own nc and ping, which go through it",
	}
	errOfDevice = &Error{
		Code: ike.CodeHost, What: "the tunnel does not end in this process, but at the Device that this Node was given",
		Why:  "a connection of this process would be made by the host, outside of the tunnel",
		Hint: "leave Node.Device nil, or use the network behind the Device",
	}
	errEnclosed = &Error{
		Code: ike.CodeHost, What: "the tunnel is for the program in the Enclave alone",
		Why:  "a connection of this process would be made by the host, outside of the tunnel",
		Hint: "connect from that program, or by a Node without an Enclave",
	}
)
