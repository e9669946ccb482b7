package esp

import (
	"fmt"

	"go.uber.org/zap"
)

// caught is deferred around a batch. A fault of ours that a packet finds costs the rest
// of its batch, and not the process: it is counted and logged, and the loop goes on.
func (p *Plane) caught() {
	r := recover()
	if r == nil {
		return
	}
	p.drop(nil, DropPanic)
	p.log.Error("a fault of ours; the rest of a batch is lost", zap.String("panic", fmt.Sprint(r)), zap.Stack("stack"))
}
