package interop

import (
	"path/filepath"
	"testing"
)

// The ceilings of a small client with a TUN device in KiB: at rest, and ever. The README names the
// second.
const (
	restCeiling = 26 << 10
	loadCeiling = 32 << 10
)

// TestSmallClient: the memory of a client whose profile is small stays below its ceilings, as
// the program is released, at rest, with TCP both ways, and under more datagrams than pass.
func TestSmallClient(t *testing.T) {
	start(t)
	l := &loaded{roads: newRoads(t)}
	client := l.warriorOf(`profile = "small"`, "")
	if raceEnabled {
		// The race detector multiplies memory.
		client.program = filepath.Join(t.TempDir(), "martlet")
		if err := buildMartlet(client.program, false); err != nil {
			t.Fatal(err)
		}
	}
	l.open(client)
	rest := client.resident(t)
	if rest > restCeiling {
		t.Errorf("%d KiB at rest, want at most %d", rest, restCeiling)
	}
	for _, load := range [][]string{
		{"-P", "4", "--bidir"},
		{"-u", "-b", "0", "-l", "1200"},
		{"-u", "-b", "0", "-l", "1200", "-R"},
	} {
		if p := l.busy(3, load...); p.wait() != 0 {
			t.Logf("iperf3 %v:\n%s", load, tail(p.out.String(), 10)) // of an overloaded tunnel its own talk may be lost
		}
		now, most := client.resident(t), client.memory(t, "VmHWM")
		t.Logf("%v: %d KiB, at most %d, at rest %d", load, now, most, rest)
		if most > loadCeiling {
			t.Errorf("%v: %d KiB, want at most %d", load, most, loadCeiling)
		}
	}
	l.client.end()
	l.gateway.end()
}
