package martlet

import (
	"bufio"
	"io/fs"
	"math"
	"math/bits"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"martlet/config"
	"martlet/tun/netstack"
)

// Footprint is how much of its machine a Node takes.
type Footprint struct {
	// Small is the profile "small": asked for, or for lack of memory.
	Small bool
	// Memory is the octets that the process may have; 0 where that is not known.
	Memory int64
	// Container tells that Memory is the limit of a container, not all that the machine has.
	Container bool
}

// smallMemory is so little memory, in octets, that a node is small without being asked.
const smallMemory = 256 << 20

// FootprintOf looks at what a configuration asks for and at the memory that there is. A Node
// does so when it starts. What concerns the process as a whole is left to the program: see
// runtime/debug.SetMemoryLimit.
func FootprintOf(c *config.Config) Footprint { return footprintOf(c, os.DirFS("/")) }

func footprintOf(c *config.Config, system fs.FS) Footprint {
	f := Footprint{Memory: totalMemory(system)}
	if limit := containerMemory(system); limit > 0 && (f.Memory == 0 || limit < f.Memory) {
		f.Memory, f.Container = limit, true
	}
	f.Small = c.Node.Profile == config.ProfileSmall || f.Memory > 0 && f.Memory < smallMemory
	return f
}

// totalMemory is that of the machine, as Linux tells it.
func totalMemory(system fs.FS) int64 {
	file, err := system.Open("proc/meminfo")
	if err != nil {
		return 0
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if f := strings.Fields(lines.Text()); len(f) == 3 && f[0] == "MemTotal:" && f[2] == "kB" {
			return octetsOf(f[1]) << 10
		}
	}
	return 0
}

// containerMemory is the least limit of the control groups (version 2) around the process; 0 if
// there is none. Inside of a container only those of the container show.
func containerMemory(system fs.FS) (least int64) {
	groups, err := fs.ReadFile(system, "proc/self/cgroup")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(groups)) {
		group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		for dir := path.Clean("/" + group); ok; dir = path.Dir(dir) {
			// The word "max" is no limit, and no number.
			text, err := fs.ReadFile(system, path.Join("sys/fs/cgroup", dir, "memory.max"))
			if limit := octetsOf(strings.TrimSpace(string(text))); err == nil && limit > 0 && (least == 0 || limit < least) {
				least = limit
			}
			ok = dir != "/"
		}
	}
	return least
}

// octetsOf reads a number that fits if it is multiplied by 1024; 0 for anything else.
func octetsOf(text string) int64 {
	n, err := strconv.ParseUint(text, 10, 53)
	if err != nil {
		return 0
	}
	return int64(n)
}

// say logs why a node is small that was not asked to be.
func (f Footprint) say(c *config.Config, log *zap.Logger) {
	if f.Small && c.Node.Profile != config.ProfileSmall {
		log.Info(`there is little memory: as with profile = "small", everything is held small`, zap.Int64("mib", f.Memory>>20))
	}
}

// lanes is in how many queues packets of the host come, and ESP arrives: a power of two. Who serves has
// the traffic of many peers, for all processors; who connects has one SA as a rule, whose packets go
// one after the other.
func (f Footprint) lanes(serve bool) int {
	if !serve {
		return 1
	}
	return f.processors(8)
}

// processors is the greatest power of two of them, and not more than most.
func (f Footprint) processors(most int) int {
	if f.Small {
		return 1
	}
	return 1 << (bits.Len(uint(min(runtime.GOMAXPROCS(0), most))) - 1)
}

// socketBuffer is the octets asked for each buffer of a socket; they are the kernel's, on our account.
func (f Footprint) socketBuffer() int {
	const least, most = 512 << 10, 4 << 20
	if f.Small {
		return least
	}
	return f.share(least, most)
}

// tcpBuffers are those of the connections in this process.
func (f Footprint) tcpBuffers() netstack.Options {
	if f.Small {
		return netstack.Options{ReceiveBuffer: 1 << 20, SendBuffer: 96 << 10, Memory: 16 << 20}
	}
	return netstack.Options{SendBuffer: f.share(1<<20, 6<<20), Memory: int(min(f.Memory/16, math.MaxInt32))}
}

// share is what one of many may have: a part of the memory in 256, within bounds.
func (f Footprint) share(least, most int) int {
	if f.Memory == 0 {
		return most
	}
	return int(max(int64(least), min(f.Memory/256, int64(most))))
}
