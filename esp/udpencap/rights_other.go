//go:build !linux

package udpencap

import (
	"context"
	"errors"
	"net"
)

// listenByRight is never called: ports need no right that a process could lend.
func (t *TCP) listenByRight(context.Context, string, string) (net.Listener, error) {
	return nil, errors.ErrUnsupported
}
