package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// fuzzPackage is a package of the module with fuzz targets in its test files.
type fuzzPackage struct {
	ImportPath, Dir           string
	TestGoFiles, XTestGoFiles []string

	targets []string
}

var fuzzFunc = regexp.MustCompile(`(?m)^func (Fuzz\w*)\(`)

// atOnce is how many targets are fuzzed at a time, each by one worker.
const atOnce = 2

// fuzzAll finds every fuzz target and runs it for a while.
func fuzzAll(ctx context.Context, file string, each time.Duration, tmp string) error {
	packages, err := fuzzPackages(ctx)
	if err != nil {
		return err
	}
	var mu sync.Mutex // guards outcomes
	var outcomes []outcome
	keep := func(o outcome) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf("%-5s %s (%.0f s) %s\n", o.result, o.name, o.seconds, o.reason)
		outcomes = append(outcomes, o)
	}
	type job struct {
		p           *fuzzPackage
		target, bin string
	}
	jobs := make(chan job)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for j := range jobs {
				keep(fuzzOne(ctx, j.p, j.bin, j.target, each))
			}
		})
	}
	for i, p := range packages {
		bin := filepath.Join(tmp, fmt.Sprintf("fuzz%d.test", i))
		if err := build(ctx, p, bin); err != nil {
			keep(outcome{name: "fuzz " + p.ImportPath, result: "fail", reason: err.Error()})
			continue
		}
		for _, target := range p.targets {
			jobs <- job{p, target, bin}
		}
	}
	close(jobs)
	workers.Wait()
	if len(outcomes) == 0 {
		outcomes = append(outcomes, outcome{name: "fuzzing", result: "fail", reason: "no fuzz target was found"})
	}
	return add(file, outcomes...)
}

// fuzzPackages lists the packages whose test files have fuzz targets.
func fuzzPackages(ctx context.Context) ([]*fuzzPackage, error) {
	b, err := exec.CommandContext(ctx, "go", "list", "-json=ImportPath,Dir,TestGoFiles,XTestGoFiles", "./...").Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var out []*fuzzPackage
	for d := json.NewDecoder(bytes.NewReader(b)); ; {
		p := &fuzzPackage{}
		if err := d.Decode(p); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, err
		}
		for _, f := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
			text, err := os.ReadFile(filepath.Join(p.Dir, f))
			if err != nil {
				return nil, err
			}
			for _, m := range fuzzFunc.FindAllSubmatch(text, -1) {
				p.targets = append(p.targets, string(m[1]))
			}
		}
		if len(p.targets) > 0 {
			slices.Sort(p.targets)
			out = append(out, p)
		}
	}
}

// build makes an instrumented test binary, and sees that it has the targets that the
// source has.
func build(ctx context.Context, p *fuzzPackage, bin string) error {
	if b, err := exec.CommandContext(ctx, "go", "test", "-c", "-fuzz=.", "-o", bin, p.ImportPath).CombinedOutput(); err != nil {
		return fmt.Errorf("does not build: %s", b)
	}
	list := exec.CommandContext(ctx, bin, "-test.list", "^Fuzz")
	list.Dir = p.Dir
	b, err := list.Output()
	if err != nil {
		return fmt.Errorf("does not list its targets: %w", err)
	}
	if got := strings.Fields(string(b)); !slices.Equal(slices.Sorted(slices.Values(got)), p.targets) {
		return fmt.Errorf("has targets %v, its source has %v", got, p.targets)
	}
	return nil
}

var execs = regexp.MustCompile(`execs: (\d+)`)

// fuzzOne fuzzes one target.
func fuzzOne(ctx context.Context, p *fuzzPackage, bin, target string, each time.Duration) outcome {
	o := outcome{name: "fuzz " + p.ImportPath + " " + target, result: "fail"}
	start := time.Now()
	// The cache of interesting inputs is not kept: each run starts from the seeds.
	cache, err := os.MkdirTemp("", "fuzz")
	if err != nil {
		o.reason = err.Error()
		return o
	}
	defer os.RemoveAll(cache)
	for range 2 {
		cmd := exec.CommandContext(ctx, bin, "-test.run=^$", "-test.fuzz=^"+target+"$", "-test.fuzztime="+each.String(), "-test.parallel=1", "-test.fuzzcachedir="+cache,
			"-test.fuzzminimizetime=1x") // or most of the time goes into making inputs short
		cmd.Dir = p.Dir
		b, err := cmd.CombinedOutput()
		o.seconds = time.Since(start).Seconds()
		if err == nil {
			all := execs.FindAllSubmatch(b, -1)
			if len(all) > 0 {
				o.result, o.reason = "pass", string(all[len(all)-1][1])+" executions"
				return o
			}
			// Its seeds alone may take that long on a slow machine.
			o.reason = "it executed nothing"
			each *= 4
			continue
		}
		o.reason = "failed: " + oneLine(string(b[:min(len(b), 500)]))
		// The fuzzer may report the end of its own time as a failure of the target
		// (golang.org/issue/75804); that is worth a second try, a real failure is not.
		if !bytes.Contains(b, []byte("context deadline exceeded")) || bytes.Contains(b, []byte("Failing input")) {
			fmt.Printf("%s\n", b)
			return o
		}
	}
	return o
}
