package martlet

import (
	"maps"
	"sync"

	"martlet/ike"
)

// tally counts the events of a Node for its metrics. The zero value is ready.
type tally struct {
	mu     sync.Mutex
	counts map[tallied]uint64
}

// tallied is what is counted together. All of it has few values: peers choose none of them.
type tallied struct {
	kind       EventKind
	connection string
	child      bool     // it is about a child SA
	code       ike.Code // of the error, if it tells of one
}

// codeOther stands for an error that is no *Error.
const codeOther ike.Code = "other"

func (t *tally) add(ev *Event) {
	key := tallied{kind: ev.Kind, connection: ev.Connection, child: ev.Child != ""}
	switch {
	case ev.Kind == EventStage || ev.Kind == EventWarning || ev.Kind == EventReloading:
		return // there are many, and nobody asks how many
	case ev.Err != nil:
		key.code = ev.Err.Code
	case ev.Kind == EventRetry:
		key.code = codeOther
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[tallied]uint64{}
	}
	if _, known := t.counts[key]; !known && len(t.counts) >= maxSeries {
		key.connection = ""
	}
	t.counts[key]++
}

func (t *tally) snapshot() map[tallied]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.counts)
}
