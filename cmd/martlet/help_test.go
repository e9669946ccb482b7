package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// walk calls for every command below the root, and the root.
func walk(cmd *cobra.Command, each func(*cobra.Command)) {
	each(cmd)
	for _, sub := range cmd.Commands() {
		walk(sub, each)
	}
}

// TestEveryCommandHasAnExample, and the words for what it does; of `completion` that is cobra's own
// affair for each shell.
func TestEveryCommandHasAnExample(t *testing.T) {
	n := 0
	walk(newRoot(nil), func(cmd *cobra.Command) {
		if cmd.HasParent() && cmd.Parent().Name() == "completion" {
			return
		}
		n++
		if !strings.Contains(cmd.Example, "martlet") || cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: the example is %q and the summary %q", cmd.CommandPath(), cmd.Example, cmd.Short)
		}
		for line := range strings.Lines(cmd.Example) {
			if !strings.HasPrefix(line, "  ") {
				t.Errorf("%s: an example is not indented: %q", cmd.CommandPath(), line)
			}
		}
	})
	if n < len(commands()) {
		t.Errorf("%d commands were looked at", n)
	}
}
