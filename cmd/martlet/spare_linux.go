package main

import (
	"os"

	"martlet/tun/privsep"
)

// spare is a child that starts while this process reads its configuration, which most often wants the user that it is of.
type spare struct {
	user  *privsep.Identity
	child chan *privsep.Child // gets one, or nil, and is closed
}

// startSpare starts one in a process that may want a child; nil in every other.
func startSpare(userspace bool) *spare {
	if parent != nil || userspace || os.Geteuid() != 0 {
		return nil
	}
	s := &spare{child: make(chan *privsep.Child, 1)}
	go func() {
		var child *privsep.Child
		if user, err := privsep.Identify(""); err == nil && user != nil {
			s.user = user
			child, _ = privsep.Spawn(user, os.Args, os.Environ()) // take tries again, and says why not
		}
		s.child <- child
		close(s.child)
	}()
	return s
}

// take is the child, or another one if it is of another user.
func (s *spare) take(user *privsep.Identity) (*privsep.Child, error) {
	if child := <-s.child; child != nil {
		if *s.user == *user {
			return child, nil
		}
		child.Kill()
	}
	return privsep.Spawn(user, os.Args, os.Environ())
}

// drop ends a child that nobody took, and does nothing after take.
func (s *spare) drop() {
	if s == nil {
		return
	}
	if child := <-s.child; child != nil {
		child.Kill()
	}
}
