package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"go.uber.org/zap/zapcore"
)

// isJournal tells whether what is written to w goes to the journal of systemd, which names the
// device and the inode of the stream that it gave us: systemd.exec(5), JOURNAL_STREAM.
func isJournal(w io.Writer) bool {
	f, ok := w.(*os.File)
	stream := os.Getenv("JOURNAL_STREAM")
	if !ok || stream == "" {
		return false
	}
	id, ok := fileID(f)
	return ok && id == stream
}

// priority is a level as the start of a line for the journal: sd-daemon(3).
func priority(level zapcore.Level) string {
	switch {
	case level >= zapcore.DPanicLevel:
		return "<2>"
	case level == zapcore.ErrorLevel:
		return "<3>"
	case level == zapcore.WarnLevel:
		return "<4>"
	case level == zapcore.InfoLevel:
		return "<6>"
	}
	return "<7>"
}

// failures is where the error that ends the program is printed: w, or, where that is the journal,
// w with each line marked as an error. What is written at once must be whole lines.
func failures(w io.Writer) io.Writer {
	if isJournal(w) {
		return &marked{w, priority(zapcore.ErrorLevel)}
	}
	return w
}

// marked puts a mark before each line.
type marked struct {
	w    io.Writer
	mark string
}

func (m *marked) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		if _, err := fmt.Fprint(m.w, m.mark, line); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}
