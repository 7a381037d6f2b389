//go:build unix && !linux

package stack

import "syscall"

// ownGroup puts a part into a process group of its own, so that Ctrl-C reaches only us and we can end the part with all
// its children.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
