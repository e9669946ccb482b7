package route

import (
	"errors"
	"fmt"
	"net"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// derived are the flags of routes that the kernel makes of others.
const derived = unix.RTF_LLINFO | unix.RTF_BROADCAST | unix.RTF_MULTICAST

// sweep destroys the interfaces of killed processes, which would keep their names: the
// kernel takes such a one down and its addresses away, but lets it stand.
func sweep(_, dead []Config, log *zap.Logger) error {
	var failed []error
	for _, c := range dead {
		if i, err := net.InterfaceByName(c.Device); err != nil || i.Flags&net.FlagUp != 0 {
			continue
		}
		log.Info("removing an interface that a killed process left", zap.String("device", c.Device))
		if err := run([]string{"ifconfig", c.Device, "destroy"}); err != nil {
			failed = append(failed, fmt.Errorf("route: ifconfig %s destroy: %w", c.Device, err))
		}
	}
	return errors.Join(failed...)
}
