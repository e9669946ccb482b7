package main

import (
	"context"

	"martlet"
)

func inBackground() bool { return false }

func background(context.Context) error {
	return &martlet.Error{
		Code: "host", What: "there is no background here",
		Why:  "a program of Windows that outlives its terminal is a service",
		Hint: "leave --background out, and use start /b or a service",
	}
}

func detach(string) error { return nil }
