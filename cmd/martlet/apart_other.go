//go:build !linux

package main

import (
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"martlet/config"
)

// identity is whom a process without rights would run as.
type identity struct{}

// spare is a child that starts while this process reads its configuration.
type spare struct{}

func startSpare(bool) *spare { return nil }

func (*spare) drop() {}

// join, filesOf, apart and separate are of Linux.
func join() error { return nil }

func filesOf() config.Files { return nil }

func apart(*config.Config) (*identity, error) { return nil, nil } //nolint:nilnil // there is nobody

func separate(*cobra.Command, *config.Config, *zap.Logger, *identity, work) error { return nil }
