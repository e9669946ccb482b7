//go:build !windows

package main

import "github.com/spf13/cobra"

// newServiceRun is nil: only Windows has a manager that a program must speak with.
func newServiceRun() *cobra.Command { return nil }
