package container

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	Enter()
	os.Exit(m.Run())
}

// shell is a shell of this machine in a root directory of its own.
func shell(t *testing.T, user int, script string) string {
	t.Helper()
	c := Container{
		Root: t.TempDir(), User: user, Group: 1001, Groups: []int{1002}, Env: []string{"PATH=/bin", "A=b"}, Args: []string{"/bin/sh", "-c", script},
		Mounts: []Mount{{Source: "/proc", Target: "/proc"}, {Source: t.TempDir(), Target: "/volume", ReadOnly: true}},
	}
	for _, dir := range []string{"/bin", "/lib", "/lib64", "/usr/lib"} {
		if source, err := filepath.EvalSymlinks(dir); err == nil {
			c.Mounts = append(c.Mounts, Mount{Source: source, Target: dir, ReadOnly: true})
		}
	}
	if err := os.Chmod(c.Root, 0o755); err != nil { //nolint:gosec // another user looks into it
		t.Fatal(err)
	}
	cmd, err := c.Cmd(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// Root's is no exception: nobody has a capability, or a way to one.
func TestAContainerHasNoPrivilege(t *testing.T) {
	users := []int{1000}
	if os.Getuid() == 0 {
		users = append(users, 0)
	}
	for _, user := range users {
		out := shell(t, user, "grep -E '^(Cap(Inh|Prm|Eff|Amb)|NoNewPrivs):' /proc/self/status; id -u; id -g")
		words := strings.Fields(out)
		none := "0000000000000000"
		want := []string{"CapInh:", none, "CapPrm:", none, "CapEff:", none, "CapAmb:", none, "NoNewPrivs:", "1"}
		if len(words) != len(want)+2 || strings.Join(words[:len(want)], " ") != strings.Join(want, " ") {
			t.Errorf("user %d: %s", user, out)
		}
		if id := map[int]string{0: "0", 1000: "1000"}[user]; words[len(words)-2] != id || words[len(words)-1] != "1001" {
			t.Errorf("user %d is %v", user, words[len(words)-2:])
		}
	}
}

func TestAContainerSeesAndWritesNothingElse(t *testing.T) {
	out := shell(t, 1000, "ls /; touch /x 2>&1; touch /volume/x 2>&1; echo $A; env | grep -c . ; true")
	for _, want := range []string{"/x': Read-only file system", "/volume/x': Read-only file system", "\nb\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	for _, other := range []string{"etc", "tmp", "home", "root"} {
		if strings.Contains("\n"+out, "\n"+other+"\n") {
			t.Errorf("it sees /%s: %s", other, out)
		}
	}
}

func TestWhatCannotBeRunIsAnError(t *testing.T) {
	c := Container{Root: t.TempDir(), User: 1000, Group: 1000, Args: []string{"/none"}}
	cmd, err := c.Cmd(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "container: run /none: no such file or directory") {
		t.Errorf("%s, %v", out, err)
	}
	if _, err := (Container{Root: t.TempDir(), Mounts: []Mount{{Source: "/none", Target: "/a"}}}).Cmd(t.Context()); err == nil {
		t.Error("a mount of nothing")
	}
}
