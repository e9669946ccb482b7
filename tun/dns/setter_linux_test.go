package dns

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	setterState    = "/run/martlet"
	mannerVariable = "MARTLET_DNS_MANNER"
)

// chosen is a system on which the manner is not decided but given.
type chosen struct {
	system
	decision decision
}

func (c chosen) decide() (decision, error) { return c.decision, nil }

// setter is a process that sets the resolvers as each line of its input says, answers with "done"
// or what went wrong, and puts them back at the end of its input.
func setter() {
	log := zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig()), os.Stderr, zap.DebugLevel))
	s := newSystem(log)
	if m := os.Getenv(mannerVariable); m != "" {
		s = chosen{s, decision{Manner: m, Splits: true}}
	}
	h, err := newHost(s, setterState, log)
	answer := func(err error) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("done")
	}
	answer(err)
	lines := json.NewDecoder(os.Stdin)
	for err == nil {
		var c Config
		if lines.Decode(&c) != nil {
			answer(h.Close())
			return
		}
		answer(h.Set(c))
	}
}

// setterProcess is one as a test has it.
type setterProcess struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	log string // file
}

// startSetter starts one; manner may be empty, and is decided then.
func startSetter(t *testing.T, manner string) *setterProcess {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), "setter-*")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p := &setterProcess{t: t, cmd: exec.Command("/proc/self/exe"), log: log.Name()}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+roleSetter, mannerVariable+"="+manner)
	p.cmd.Stderr = log
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("a setter said:\n%s", p.said())
		}
	})
	p.done()
	return p
}

// done waits until it has done what it was told.
func (p *setterProcess) done() {
	p.t.Helper()
	if line, err := p.out.ReadString('\n'); line != "done\n" {
		p.t.Fatalf("setter: %s%v\n%s", line, err, p.said())
	}
}

// said is what it has logged.
func (p *setterProcess) said() string { return get(p.t, p.log) }

func (p *setterProcess) set(c Config) {
	p.t.Helper()
	if err := json.NewEncoder(p.in).Encode(c); err != nil {
		p.t.Fatal(err)
	}
	p.done()
}

// close has it end in order.
func (p *setterProcess) close() {
	p.t.Helper()
	if err := p.in.Close(); err != nil {
		p.t.Fatal(err)
	}
	p.done()
	if err := p.cmd.Wait(); err != nil {
		p.t.Fatal(err)
	}
}

// kill ends it as by kill -9.
func (p *setterProcess) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		p.t.Fatal("it ended by itself: ", err)
	}
}
