package personas

import (
	"runtime"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// A gateway has an engine for each processor; what crosses engines is tested everywhere.
	runtime.GOMAXPROCS(max(4, runtime.NumCPU()))
	goleak.VerifyTestMain(m)
}
