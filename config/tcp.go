package config

// The words of Connection.TCP.
const (
	TCPAuto   = "auto"
	TCPAlways = "always"
	TCPNever  = "never"
)
