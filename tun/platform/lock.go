package platform

import "errors"

// ErrLocked is the error of Lock where another process, or another open file of this one, has the
// lock.
var ErrLocked = errors.New("another process holds it")
