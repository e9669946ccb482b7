package martlet

import (
	"slices"

	"go.uber.org/zap"

	"martlet/config"
	"martlet/tun/privsep"
)

// Direct are the services of this process itself to a Host of a configuration.
func Direct(c *config.Config, log *zap.Logger) *privsep.Direct {
	return &privsep.Direct{Settings: HostSettings(c), May: mayConfigureHost(), Log: log}
}

// HostSettings is what a configuration says of what a Host needs the rights of root for.
func HostSettings(c *config.Config) privsep.Settings {
	s := privsep.Settings{
		Device: c.Node.Device, State: c.Node.State, Control: c.Node.Control, KeyLog: c.Node.KeyLog,
		Way: wayOf(c), Table: c.Node.Table, KillSwitch: c.Node.KillSwitch,
	}
	add := func(port uint16) {
		if port > 0 && port < 1024 && !slices.Contains(s.Ports, port) {
			s.Ports = append(s.Ports, port)
		}
	}
	add(c.Node.IKEPort)
	add(c.Node.NATPort)
	add(c.Node.TCPPort)
	for _, conn := range c.Connections {
		add(conn.LocalPort)
	}
	return s
}
