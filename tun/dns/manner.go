package dns

import "go.uber.org/zap"

// Manner tells how New would set the resolvers of this host, as the table of the package comment
// names it, whether that can send only some names to a tunnel, and why it would be so, in words.
// Nothing is changed, but that systemd-resolved may be started by being asked.
func Manner() (manner string, splits bool, because []string, err error) {
	d, err := newSystem(zap.NewNop()).decide()
	return d.Manner, d.Splits, d.Reasons, err
}
