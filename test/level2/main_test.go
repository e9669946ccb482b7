package level2

import (
	"runtime"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// A gateway has an engine for each processor. Four of them also on a small
	// machine, so that what crosses engines is tested everywhere.
	runtime.GOMAXPROCS(max(4, runtime.NumCPU()))
	goleak.VerifyTestMain(m)
}
