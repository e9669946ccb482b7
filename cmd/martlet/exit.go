package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"martlet"
	"martlet/config"
	"martlet/config/store"
)

// The exit statuses, as `martlet help` tells them.
const (
	exitDone           = 0
	exitInternal       = 1
	exitUsage          = 2
	exitNetwork        = 3
	exitAuthentication = 4
	exitPolicy         = 5
	exitConfiguration  = 6
	exitInterrupted    = 130
)

// The codes of what fails here and not in a tunnel; errors has a page of each, as of all codes.
const (
	codeUsage         = "usage"
	codeConfiguration = "configuration"
	codeProfile       = "profile"
	codeProgram       = "program"    // of martlet exec
	codeTerminated    = "terminated" // somebody else told it to end
	codeInternal      = "internal"
)

// usageError is a command line that is wrong.
type usageError struct {
	err     error
	command string
}

func usage(cmd *cobra.Command, err error) error { return &usageError{err, cmd.CommandPath()} }

func (e *usageError) Error() string { return e.err.Error() }

// report prints an error and returns the exit status that it stands for.
func report(w io.Writer, err error) int {
	var faults config.Errors
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &faults):
		for _, fault := range faults {
			fmt.Fprintln(w, fault)
		}
		fmt.Fprintf(w, "martlet: the configuration has %s\n", count(len(faults), "fault"))
		hint(w, "", "martlet config reference lists every key", codeConfiguration)
		return exitConfiguration
	}
	if e, ok := errors.AsType[*programError](err); ok {
		return e.report(w)
	}
	if e, ok := errors.AsType[*usageError](err); ok {
		fmt.Fprintf(w, "martlet: %s\n", strings.TrimSpace(e.Error()))
		hint(w, "", e.command+" --help", codeUsage)
		return exitUsage
	}
	if e, ok := errors.AsType[*martlet.Error](err); ok {
		fmt.Fprintf(w, "martlet: %s\n", e.What)
		for line := range strings.Lines(e.Detail) {
			fmt.Fprintf(w, "    %s\n", strings.TrimRight(line, "\n"))
		}
		hint(w, e.Why, e.Hint, string(e.Code))
		return exitOf(string(e.Code))
	}
	if e, ok := errors.AsType[*store.Error](err); ok {
		fmt.Fprintf(w, "martlet: %s\n", e.What)
		hint(w, e.Why, e.Hint, codeProfile)
		return exitConfiguration
	}
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(w, "martlet: interrupted")
		return exitInterrupted
	}
	fmt.Fprintf(w, "martlet: %v\n", err)
	hint(w, "", "", codeInternal)
	return exitInternal
}

// hint prints the lines behind what happened, and where more is told about the code.
func hint(w io.Writer, why, try, code string) {
	if why != "" {
		fmt.Fprintf(w, "  why:  %s\n", why)
	}
	if try != "" {
		fmt.Fprintf(w, "  hint: %s\n", try)
	}
	fmt.Fprintf(w, "  code: %s (martlet help errors %[1]s)\n", code)
}

func status(class martlet.Class) int {
	switch class {
	case martlet.ClassNetwork:
		return exitNetwork
	case martlet.ClassAuthentication:
		return exitAuthentication
	case martlet.ClassPolicy:
		return exitPolicy
	case martlet.ClassConfiguration:
		return exitConfiguration
	}
	return exitInternal
}

// count writes a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
