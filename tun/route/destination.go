package route

import "net/netip"

// purpose is what becomes of packets to a prefix.
type purpose int

const (
	into    purpose = iota // they go into the tunnel
	outside                // they go where they would without it
	nowhere                // they have no way
)

// destination is a prefix of a Config.
type destination struct {
	prefix  netip.Prefix
	purpose purpose
}

// destinations are all of a Config. What keeps packets from the tunnel comes before what
// leads into it, so that nothing that shall stay outside goes in meanwhile.
func (c Config) destinations() []destination {
	out := make([]destination, 0, len(c.Outside)+len(c.Unreachable)+len(c.Routes))
	for _, p := range c.Outside {
		out = append(out, destination{p, outside})
	}
	for _, p := range c.Unreachable {
		out = append(out, destination{p, nowhere})
	}
	for _, p := range c.Routes {
		out = append(out, destination{p, into})
	}
	return out
}
