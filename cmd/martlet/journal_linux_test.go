package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"martlet"
)

// TestJournal: where stderr is the journal, each line has its level as sd-daemon(3) writes it and no
// time; where it is not, as after a redirection, lines are as ever.
func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stream")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	id, ok := fileID(f)
	if !ok {
		t.Fatal("the file has no device and inode")
	}
	t.Setenv("JOURNAL_STREAM", id)
	log := newLogger(f, zapcore.DebugLevel).With(zap.String("conn", "office"))
	log.Debug("one")
	log.Info("two")
	log.Named("host").Warn("three\n<0>in two lines")
	log.Error("four")
	if got := report(failures(f), &martlet.Error{Code: "unreachable", What: "it is away", Hint: "wait"}); got != exitNetwork {
		t.Errorf("exit status %d", got)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const want = `<7>one conn=office
<6>two conn=office
<4>host: three conn=office
<4>    <0>in two lines
<3>four conn=office
<3>martlet: it is away
<3>  hint: wait
<3>  code: unreachable (martlet help errors unreachable)
`
	if string(text) != want {
		t.Errorf("got\n%swant\n%s", text, want)
	}

	other, err := os.Create(path + "2")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	var b bytes.Buffer
	if isJournal(other) || isJournal(&b) || failures(other) != other {
		t.Error("another file than that of JOURNAL_STREAM is taken for the journal")
	}
	t.Setenv("JOURNAL_STREAM", "")
	if isJournal(f) {
		t.Error("without JOURNAL_STREAM there is no journal")
	}
}
