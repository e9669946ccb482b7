//go:build !linux

package dns

// scope tells the network namespaces of a host apart, where there are some.
func scope() string { return "host" }
