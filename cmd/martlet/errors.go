package main

import (
	"embed"
	"fmt"
	"io"
	"path"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	"martlet"
)

// errorPages has a page of text for each code, CODE.txt: a line that says what it means, and after
// an empty one the causes and what to do. test/errors_test.go holds it against the codes.
//
//go:embed errors/*.txt
var errorPages embed.FS

func newErrors() *cobra.Command {
	return &cobra.Command{
		Use:   "errors [CODE]",
		Short: "Tell what an error code means, why it is met and what to do",
		Long: `Each error ends with a code, which stays the same across versions. Errors lists them, with the
exit status that each leads to; with CODE it tells what one means, why it is met, the most frequent
causes first, and what to do about it on this side and at the gateway.`,
		Example:           "  martlet help errors\n  martlet help errors wrong-psk",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeCodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return listErrors(cmd.OutOrStdout())
			}
			return showError(cmd, args[0])
		},
	}
}

func completeCodes(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return errorCodes(), cobra.ShellCompDirectiveNoFileComp
}

// errorCodes are all that have a page, in the order of their exit status and then by name.
func errorCodes() []string {
	entries, err := errorPages.ReadDir("errors")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	var codes []string
	for _, e := range entries {
		codes = append(codes, strings.TrimSuffix(e.Name(), ".txt"))
	}
	// They come in the order of their names.
	sort.SliceStable(codes, func(i, j int) bool { return exitOf(codes[i]) < exitOf(codes[j]) })
	return codes
}

// errorPage is what a code means, in a line, and the lines behind that.
func errorPage(code string) (summary, text string, ok bool) {
	b, err := errorPages.ReadFile(path.Join("errors", code+".txt"))
	if err != nil {
		return "", "", false
	}
	summary, text, _ = strings.Cut(string(b), "\n")
	return summary, strings.TrimPrefix(text, "\n"), true
}

func listErrors(w io.Writer) error {
	for _, code := range errorCodes() {
		summary, _, _ := errorPage(code)
		if _, err := fmt.Fprintf(w, "%3d  %-20s %s\n", exitOf(code), code, summary); err != nil {
			return err
		}
	}
	_, err := fmt.Fprint(w, "\nThe number is the exit status; `martlet help errors CODE` tells more of one.\n")
	return err
}

func showError(cmd *cobra.Command, code string) error {
	summary, text, ok := errorPage(code)
	if !ok {
		return usage(cmd, fmt.Errorf("no error has the code %q; martlet help errors lists them", code))
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s (exit status %d)\n\n%s", code, summary, exitOf(code), text)
	return err
}

// exitOf is the exit status that a code leads to.
func exitOf(code string) int {
	switch code {
	case codeTerminated:
		return exitInterrupted
	case codeUsage:
		return exitUsage
	case codeConfiguration, codeProfile:
		return exitConfiguration
	case codeProgram:
		return exitNotRunnable
	}
	return status(martlet.Code(code).Class())
}
