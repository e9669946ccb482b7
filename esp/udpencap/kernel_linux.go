package udpencap

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// kernel is the version of a Linux kernel.
type kernel [3]int

// runningKernel is zero where it is not known.
func runningKernel() kernel {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return kernel{}
	}
	return parseKernel(unix.ByteSliceToString(u.Release[:]))
}

// parseKernel reads a release such as 6.18.44-generic.
func parseKernel(release string) (k kernel) {
	for i := range k {
		digits := strings.IndexFunc(release, func(r rune) bool { return r < '0' || r > '9' })
		if digits < 0 {
			digits = len(release)
		}
		n, err := strconv.Atoi(release[:digits])
		if err != nil {
			break
		}
		k[i] = n
		if release = release[digits:]; !strings.HasPrefix(release, ".") {
			break
		}
		release = release[1:]
	}
	return k
}

func (k kernel) before(o kernel) bool { return slices.Compare(k[:], o[:]) < 0 }

// hasGRO tells whether UDP_GRO is to be trusted: earlier kernels deliver slabs to sockets
// that did not ask for them when namespaces are between.
func (k kernel) hasGRO() bool { return !k.before(kernel{5, 12}) }

// equalBug tells whether the kernel is one of those that write wrong lengths and checksums
// where all segments of a slab have the same length and the network card cuts it: torvalds'
// b10b446 (7.0-rc1) until 78effd8 and 5f17ae0 (7.1.5). Whether the card is one of those that
// it strikes cannot be found out (tailscale#19918).
func (k kernel) equalBug() bool { return !k.before(kernel{7, 0}) && k.before(kernel{7, 1, 5}) }
