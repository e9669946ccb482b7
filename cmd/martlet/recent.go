package main

import (
	"bytes"
	"sync"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"martlet"
)

// What is kept of the log, for `martlet bugreport`.
const (
	recentLines  = 1000
	recentOctets = 256 << 10
)

// recent is the last lines of the log. What is written at once is a line with those that belong to
// it, which go together.
type recent struct {
	mu     sync.Mutex
	lines  [][]byte
	octets int
}

// Write keeps a copy of what is logged, cut where it alone is longer than all may be.
func (r *recent) Write(line []byte) (int, error) {
	kept := bytes.Clone(line[:min(len(line), recentOctets)])
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, kept)
	for r.octets += len(kept); len(r.lines) > recentLines || r.octets > recentOctets; r.lines = r.lines[1:] {
		r.octets -= len(r.lines[0])
		r.lines[0] = nil
	}
	return len(line), nil
}

// text is all that is kept, the oldest first.
func (r *recent) text() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Join(r.lines, nil)
}

// keepLog has the node keep what it logs from now on, from level info on, whatever is shown of it.
func keepLog(node *martlet.Node) {
	r := &recent{}
	core := &lines{LevelEnabler: min(zapcore.InfoLevel, levelOf(node.Config.Node.LogLevel)), w: r, mu: &sync.Mutex{}}
	node.Recent = r.text
	if node.Logger == nil {
		node.Logger = zap.NewNop()
	}
	node.Logger = node.Logger.WithOptions(zap.WrapCore(func(shown zapcore.Core) zapcore.Core { return zapcore.NewTee(shown, core) }))
}
