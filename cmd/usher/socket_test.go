package main

import (
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestConnects is no test but the stranger of TestOnlyWhoTheModeLetsInConnects, who is another process.
func TestConnects(t *testing.T) {
	path := os.Getenv("USHER_TEST_CONNECT")
	if path == "" {
		return
	}
	c, err := (&net.Dialer{}).DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

func TestASocketHasTheModeThatItIsGiven(t *testing.T) {
	for mode, want := range map[string]fs.FileMode{"": 0o660, "0600": 0o600, "0660": 0o660, "0666": 0o666} {
		t.Run("mode_"+mode, func(t *testing.T) {
			noLeaks(t)
			w := newWorld(t)
			path := filepath.Join(t.TempDir(), "usher.sock")
			args := []string{"--grpc-address", "unix://" + path}
			if mode != "" {
				args = append(args, "--grpc-socket-mode", mode)
			}
			before := syscall.Umask(0) // the strangest one
			p := start(t, w.config, args...).ready()
			syscall.Umask(before)
			info, err := os.Stat(path)
			if err != nil || info.Mode().Perm() != want {
				t.Errorf("%v %v, want %v", info.Mode(), err, want)
			}
			if got := p.status("GET", "/ok", ""); got != 200 {
				t.Errorf("status %d", got)
			}
			p.stop()
		})
	}
	for _, mode := range []string{"0777", "660x", "0", "8", "0606", "01660", "-1", "rw-rw----"} {
		if m, err := socketMode(mode); err == nil {
			t.Errorf("%q is taken for %v", mode, m)
		}
	}
}

// A user with neither the uid nor the gid of the socket cannot connect; one of its group can. Only root can become others,
// so elsewhere the modes above have to do.
func TestOnlyWhoTheModeLetsInConnects(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("not root: no other user to be")
		return
	}
	w := newWorld(t)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// All may go through the directories, so that it is the socket that refuses.
	dir, err := os.MkdirTemp("/tmp", "usher-socket")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	copied, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(dir, "connect")
	if err := os.WriteFile(program, copied, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "usher.sock")
	p := start(t, w.config, "--grpc-address", "unix://"+path).ready()
	const group = 64123
	if err := os.Chown(path, 0, group); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		uid, gid uint32
		want     bool
	}{
		{"a stranger", 64124, 64124, false},
		{"one of the group", 64124, group, true},
	} {
		cmd := exec.CommandContext(t.Context(), program, "-test.run", "^TestConnects$")
		cmd.Env = []string{"USHER_TEST_CONNECT=" + path}
		cmd.Dir = dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.uid, Gid: c.gid}}
		err := cmd.Run()
		if _, exited := err.(*exec.ExitError); err != nil && !exited {
			t.Fatal(err)
		}
		if (err == nil) != c.want {
			t.Errorf("%s: %v, want to connect: %v", c.name, err, c.want)
		}
	}
	p.stop()
}
