package main

import (
	"os/exec"
	"syscall"
)

// apart keeps the terminal's signals from a process, which the harness ends itself and in
// order, and ends it with the harness if that is killed.
func apart(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
