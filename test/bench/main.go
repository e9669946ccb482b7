// Bench measures Martlet beside wireguard-go and strongSwan on one machine: see run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
)

const (
	// childWord is the first argument of the parts of this program that run in namespaces.
	childWord = "child"
	// ready is what they print when the others may begin.
	ready = "ready"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == childWord {
		if err := child(os.Args[2], os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	status, err := harness(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	os.Exit(status)
}

func child(name string, args []string) error {
	switch {
	case name == "echo" && len(args) == 1:
		return echo(args[0])
	case name == "probe" && len(args) == 1:
		return probe(args[0])
	case name == "pace" && len(args) == 1:
		return pace(args[0])
	case name == "travel" && len(args) == 2:
		return travel(args[0], args[1])
	case name == "target" && len(args) == 2:
		return target(args[0], args[1])
	case name == "load" && len(args) == 3:
		return load(args[0], args[1], args[2])
	case name == "downloads" && len(args) == 2:
		return downloads(args[0], args[1])
	}
	return fmt.Errorf("there is no child %s with %d arguments", name, len(args))
}

// harness runs what the command line asks for and returns the exit status: 0 measured, 1 not
// everything, 2 usage, 130 interrupted.
func harness(ctx context.Context) (status int, err error) {
	rounds := flag.Int("rounds", 3, "how often each side has its turn")
	seconds := flag.Int("seconds", 5, "of each measurement")
	only := flag.String("only", "", "measure the figures whose name this regular expression fits")
	asJSON := flag.Bool("json", false, "print JSON alone on standard output")
	list := flag.Bool("list", false, "list the figures")
	root := flag.String("root", ".", "the module's folder, where the plot goes to test/bench/figures.svg")
	flag.Parse()
	switch {
	case flag.NArg() > 0:
		return 2, fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case *rounds < 1 || *seconds < 1:
		return 2, errors.New("--rounds and --seconds are 1 at least")
	}
	wanted, err := choose(*only)
	if err != nil {
		return 2, err
	}
	if *list {
		for _, f := range wanted {
			fmt.Printf("%-22s %s\n", f.id, f.name)
		}
		return 0, nil
	}
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		return 1, errors.New("it makes network namespaces and TUN devices: run it on Linux, as root")
	}
	b, err := newBench(*root, *seconds)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	removeLeftovers()
	report := b.run(ctx, wanted, *rounds)
	if ctx.Err() != nil {
		return 130, errors.New("interrupted")
	}
	if *asJSON {
		err = report.writeJSON(os.Stdout)
	} else {
		err = report.writeTable(os.Stdout)
	}
	if err != nil {
		return 1, err
	}
	plot := filepath.Join(b.root, "test", "bench", "figures.svg")
	if err := os.WriteFile(plot, report.plot(), 0o600); err != nil {
		return 1, err
	}
	progress("the plot is in %s", plot)
	if len(report.Failed) > 0 {
		return 1, fmt.Errorf("%d measurements could not be made", len(report.Failed))
	}
	return 0, nil
}

func newBench(root string, seconds int) (*bench, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "martlet-bench")
	if err != nil {
		return nil, err
	}
	return &bench{root: root, self: self, dir: dir, seconds: seconds}, nil
}
