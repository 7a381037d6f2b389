package container

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"unsafe"
)

// Of linux/prctl.h; package syscall has no names for them.
const (
	prCapBsetDrop     = 24
	prSetNoNewPrivs   = 38
	prCapAmbient      = 47
	prCapAmbientClear = 4
)

// Enter becomes the container that this process was started for, and then does not return. In any other process it does
// nothing.
func Enter() {
	text, ok := os.LookupEnv(variable)
	if !ok {
		return
	}
	runtime.LockOSThread() // namespaces and capabilities are a thread's; exec keeps those of the thread that calls it
	fmt.Fprintln(os.Stderr, "container:", enter(text))
	os.Exit(125)
}

func enter(text string) error {
	var c Container
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	root := os.Getuid() == 0
	if root {
		if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts to ourselves: %w", err)
	}
	if err := bind(c.Root, c.Root); err != nil {
		return err
	}
	for _, m := range c.Mounts {
		target := filepath.Join(c.Root, m.Target)
		if err := bind(m.Source, target); err != nil {
			return err
		}
		if m.ReadOnly {
			if err := seal(target); err != nil {
				return err
			}
		}
	}
	if err := seal(c.Root); err != nil {
		return err
	}
	if err := syscall.Chroot(c.Root); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	if err := syscall.Chdir("/"); err != nil {
		return fmt.Errorf("chdir: %w", err)
	}
	if err := c.drop(root); err != nil {
		return err
	}
	if c.Dial != "" {
		return dial(c.Dial)
	}
	return fmt.Errorf("run %s: %w", c.Args[0], syscall.Exec(c.Args[0], c.Args, c.Env))
}

// dial does not use package net: another thread might do the work, which still sees the whole machine.
func dial(path string) error {
	s, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	if err := syscall.Connect(s, &syscall.SockaddrUnix{Name: path}); err != nil {
		return fmt.Errorf("connect to %s: %w", path, err)
	}
	os.Exit(0)
	return nil
}

func bind(source, target string) error {
	if err := syscall.Mount(source, target, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s at %s: %w", source, target, err)
	}
	return nil
}

// seal makes a mount read-only.
func seal(target string) error {
	if err := syscall.Mount("", target, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY|syscall.MS_NOSUID|syscall.MS_NODEV, ""); err != nil {
		return fmt.Errorf("make %s read-only: %w", target, err)
	}
	return nil
}

// drop takes every privilege from this thread, for good.
func (c Container) drop(root bool) error {
	if err := prctl(prSetNoNewPrivs, 1, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if !root {
		if err := prctl(prCapAmbient, prCapAmbientClear, 0); err != nil {
			return fmt.Errorf("clear ambient capabilities: %w", err)
		}
		return noCapabilities()
	}
	for capability := uintptr(0); prctl(prCapBsetDrop, capability, 0) == nil; capability++ { // to the last that this kernel knows
	}
	if err := syscall.Setgroups(c.Groups); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := syscall.Setresgid(c.Group, c.Group, c.Group); err != nil {
		return fmt.Errorf("setresgid: %w", err)
	}
	if err := syscall.Setresuid(c.User, c.User, c.User); err != nil {
		return fmt.Errorf("setresuid: %w", err)
	}
	if err := noCapabilities(); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	// Who changes its user is no longer told when its parent dies: stack.Part relies on it.
	return prctl(syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGTERM), 0)
}

// noCapabilities takes this thread's, which root has kept.
func noCapabilities() error {
	header := struct {
		version uint32
		pid     int32
	}{version: 0x20080522} // of linux/capability.h: two sets of 32
	var sets [2]struct{ effective, permitted, inheritable uint32 }
	if _, _, e := syscall.RawSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets)), 0); e != 0 {
		return e
	}
	return nil
}

func prctl(option int, a, b uintptr) error {
	if _, _, e := syscall.RawSyscall6(syscall.SYS_PRCTL, uintptr(option), a, b, 0, 0, 0); e != 0 {
		return e
	}
	return nil
}
