//go:build unix

package cluster

import (
	"os/exec"
	"syscall"
)

// ownGroup keeps a terminal's Ctrl-C away from the children: Gatehouse stops them itself, in their order.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
