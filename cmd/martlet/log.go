package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// newLogger logs one line an event: time, level, where, what, then key=value. What has more
// lines follows indented, so that nothing which a peer sent looks like an event.
//
// The journal of systemd keeps time and level itself: there each line begins with the level as
// sd-daemon(3) has it, and with no time.
func newLogger(w io.Writer, level zapcore.Level) *zap.Logger {
	return zap.New(&lines{LevelEnabler: level, w: w, mu: &sync.Mutex{}, journal: isJournal(w)})
}

// levelOf reads the configuration's log_level, which was checked.
func levelOf(name string) zapcore.Level {
	level, err := zapcore.ParseLevel(name)
	if err != nil {
		return zapcore.InfoLevel
	}
	return level
}

// lines is a zapcore.Core for people and grep.
type lines struct {
	zapcore.LevelEnabler
	with    []zapcore.Field
	journal bool // w leads to it

	mu *sync.Mutex
	w  io.Writer
}

// without leaves out entries with these messages.
func without(messages ...string) zap.Option {
	return zap.WrapCore(func(core zapcore.Core) zapcore.Core { return &filter{core, messages} })
}

// filter is a core without some messages.
type filter struct {
	zapcore.Core
	messages []string
}

// With keeps the filter.
func (f *filter) With(fields []zapcore.Field) zapcore.Core {
	return &filter{f.Core.With(fields), f.messages}
}

// Check leaves out what is filtered.
func (f *filter) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if slices.Contains(f.messages, e.Message) {
		return ce
	}
	return f.Core.Check(e, ce)
}

// With returns a core that adds fields to each line.
func (l *lines) With(fields []zapcore.Field) zapcore.Core {
	clone := *l
	clone.with = append(l.with[:len(l.with):len(l.with)], fields...)
	return &clone
}

// Check takes the entries whose level is enabled.
func (l *lines) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if l.Enabled(e.Level) {
		return ce.AddCore(e, l)
	}
	return ce
}

// Write writes one line.
func (l *lines) Write(e zapcore.Entry, fields []zapcore.Field) error {
	var b strings.Builder
	start := ""
	if l.journal {
		start = priority(e.Level)
		b.WriteString(start)
	} else {
		b.WriteString(e.Time.Format("2006-01-02T15:04:05.000Z07:00"))
		fmt.Fprintf(&b, " %-5s ", e.Level)
	}
	if e.LoggerName != "" {
		b.WriteString(e.LoggerName + ": ")
	}
	message, more, _ := strings.Cut(e.Message, "\n")
	b.WriteString(oneLine(message))
	for _, list := range [][]zapcore.Field{l.with, fields} {
		for _, f := range list {
			m := zapcore.NewMapObjectEncoder()
			f.AddTo(m)
			if v, ok := m.Fields[f.Key]; ok {
				b.WriteString(" " + f.Key + "=" + valueText(v))
			}
		}
	}
	b.WriteByte('\n')
	for line := range strings.Lines(more) {
		b.WriteString(start + "    " + oneLine(strings.TrimSuffix(line, "\n")) + "\n")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := io.WriteString(l.w, b.String())
	return err
}

// Sync does nothing: nothing is buffered.
func (l *lines) Sync() error { return nil }

// valueText writes a value, in quotes where it would not be one word. What a peer sent
// cannot begin a line of its own.
func valueText(v any) string {
	if t, ok := v.(time.Time); ok {
		return t.Format(time.RFC3339)
	}
	text := fmt.Sprint(v)
	if text == "" || strings.ContainsFunc(text, func(r rune) bool {
		return r == '"' || r == '=' || unicode.IsSpace(r) || !unicode.IsPrint(r)
	}) {
		return strconv.Quote(text)
	}
	return text
}

// oneLine escapes what would break the line.
func oneLine(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return r != ' ' && !unicode.IsPrint(r) }) {
		text = strings.Trim(strconv.Quote(text), `"`)
	}
	return text
}
