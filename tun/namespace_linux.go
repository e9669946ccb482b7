package tun

// Namespace is a network namespace that another process is in: that process opens there what an
// interface is made of and hands it over (unix(7), SCM_RIGHTS). Who gets the descriptors owns them.
type Namespace interface {
	// OpenDriver opens /dev/net/tun for reading and writing, not blocking. What is opened
	// belongs to the namespace of who opens it, from whatever process it is used.
	OpenDriver() (fd int, err error)
	// OpenSocket opens a socket of the family AF_INET.
	OpenSocket() (fd int, err error)
}

// here is the namespace of the calling thread.
type here struct{}

func (here) OpenDriver() (int, error) { return openClone() }
func (here) OpenSocket() (int, error) { return openSocket() }

// OpenIn is Open for an interface in another network namespace. The caller needs CAP_NET_ADMIN
// over that namespace; who made its user namespace has it, though it has no other right.
// Later calls of ns do not come.
func OpenIn(ns Namespace, name string, mtu, queues int) (Device, error) {
	return openWith(name, mtu, queues, func() (Device, error) { return openIn(ns, name, mtu, queues) })
}
