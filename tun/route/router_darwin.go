package route

import (
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// derived are the flags of routes that the kernel makes of others.
const derived = unix.RTF_LLINFO | unix.RTF_WASCLONED | unix.RTF_IFSCOPE | unix.RTF_BROADCAST | unix.RTF_MULTICAST | unix.RTF_DEAD

// sweep has nothing to do: a utun goes with its process.
func sweep(_, _ []Config, _ *zap.Logger) error { return nil }
