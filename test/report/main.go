// Report helps test/run: it follows go test, fuzzes every target, and prints what ran,
// what did not, and why.
//
//	report watch OUTCOMES STDERR       go test -json on standard input
//	report again OUTCOMES PACKAGE...   what failed in these packages, once more; flags of go test
//	                                   may stand among them
//	report fuzz OUTCOMES TIME FOLDER   every fuzz target of the module for so long
//	report reach URL                   whether a server answers
//	report table OUTCOMES              the list, and the exit status of all
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 3 && args[0] == "watch":
		return watch(os.Stdin, os.Stdout, args[1], args[2])
	case len(args) > 2 && args[0] == "again":
		return again(ctx, args[1], args[2:], runAlone)
	case len(args) == 4 && args[0] == "fuzz":
		each, err := time.ParseDuration(args[2])
		if err != nil {
			return err
		}
		return fuzzAll(ctx, args[1], each, args[3])
	case len(args) == 2 && args[0] == "reach":
		return reach(ctx, args[1])
	case len(args) == 2 && args[0] == "table":
		return table(os.Stdout, args[1])
	}
	return fmt.Errorf("want watch, again, fuzz, reach or table, got %q", args)
}

// reach asks for a URL, for ten seconds at most.
func reach(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, strings.ToLower(resp.Status))
	}
	return nil
}
