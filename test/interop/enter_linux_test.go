package interop

import "golang.org/x/sys/unix"

// enter takes the thread into a network namespace.
func enter(name string) error {
	fd, err := unix.Open("/run/netns/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // it was read only
	return unix.Setns(fd, unix.CLONE_NEWNET)
}
