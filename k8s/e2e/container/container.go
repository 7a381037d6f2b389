package container

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// variable holds what [Enter] is to run.
const variable = "USHER_TEST_CONTAINER"

// Container is one program in its root directory.
type Container struct {
	// Root becomes the root directory. Mount points that are missing are made there before it starts, as on a node.
	Root   string
	Mounts []Mount
	// Args are the program, by its path in Root, and its arguments.
	Args []string
	Env  []string
	// User and Group that it runs as, and further groups. Who runs the test without being root can have one user only, which
	// stands for its own; further groups are left out then.
	User, Group int
	Groups      []int
	// Dial, instead of running Args, connects to the Unix socket of that path, and ends with an error if it could not.
	Dial string
}

// Mount is a file or directory of this machine, seen at Target.
type Mount struct {
	Source, Target string
	ReadOnly       bool
}

// Cmd is a command that runs it.
func (c Container) Cmd(ctx context.Context) (*exec.Cmd, error) {
	command, env, err := c.prepare()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = env
	return cmd, nil
}

// Part runs it in the background, logging into a file.
func (c Container) Part(name, log string, ready func(context.Context) error) (*stack.Part, error) {
	command, env, err := c.prepare()
	if err != nil {
		return nil, err
	}
	return stack.NewPart(stack.Process{Name: name, Command: command, Env: env, Log: log, Ready: ready}), nil
}

// prepare makes the mount points, and returns the command that calls Enter.
func (c Container) prepare() (command, env []string, err error) {
	for _, m := range c.Mounts {
		if err := mountPoint(m.Source, filepath.Join(c.Root, m.Target)); err != nil {
			return nil, nil, fmt.Errorf("make mount point %s: %w", m.Target, err)
		}
	}
	text, err := json.Marshal(c)
	if err != nil {
		return nil, nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	if os.Getuid() != 0 { // who is not root may mount in a user namespace; unshare ends by becoming what it starts
		command = []string{"unshare", "--user", "--map-user", strconv.Itoa(c.User), "--map-group", strconv.Itoa(c.Group), "--keep-caps", "--mount", "--"}
	}
	return append(command, self), []string{variable + "=" + string(text), "PATH=" + os.Getenv("PATH")}, nil
}

func mountPoint(source, target string) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.MkdirAll(target, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(target, os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}
