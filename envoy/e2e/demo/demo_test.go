package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestTheStoryGoesAsTold(t *testing.T) {
	var out, errOut bytes.Buffer
	if code := run(nil, &out, &errOut); code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, out.String(), errOut.String())
	}
	text := out.String()
	for _, want := range []string{"1. Somebody without a token", "2. Alice logs in", "All 13 steps went as told."} {
		if !strings.Contains(text, want) {
			t.Errorf("the output lacks %q:\n%s", want, text)
		}
	}
	if n := strings.Count(text, "✓ as told"); n != 13 {
		t.Errorf("%d steps went as told, want 13:\n%s", n, text)
	}
	if strings.Contains(text, "\x1b") {
		t.Error("there is colour, and this is no terminal")
	}
	if strings.Contains(text, "eyJ") {
		t.Error("a token is shown")
	}
}

// terminal gives the text so far, to a test that waits for a word in it.
type terminal struct {
	lines chan string
	ended chan struct{}
	text  strings.Builder
}

func (w *terminal) Write(b []byte) (int, error) {
	w.lines <- string(b)
	return len(b), nil
}

func (w *terminal) waitFor(ctx context.Context, t *testing.T, word string) {
	t.Helper()
	for !strings.Contains(w.text.String(), word) {
		select {
		case s := <-w.lines:
			w.text.WriteString(s)
		case <-w.ended:
			t.Fatalf("the demo ended before it said %q:\n%s", word, w.text.String())
		case <-ctx.Done():
			t.Fatalf("the demo never said %q, only:\n%s", word, w.text.String())
		}
	}
}

func TestCtrlCEndsEverything(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		word string
		code int
	}{
		"in the middle of the story":           {nil, "3. Alice starts a conversation", 130},
		"when everything was kept for a while": {[]string{"--keep"}, "Ctrl-C ends it all.", 0},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			binary := filepath.Join(t.TempDir(), "usher-demo")
			if b, err := exec.CommandContext(ctx, "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, b)
			}
			temp, err := os.MkdirTemp("", "demo-") // a short name, see stack
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(temp) })
			out := &terminal{lines: make(chan string, 10_000), ended: make(chan struct{})}
			cmd := exec.CommandContext(ctx, binary, test.args...)
			cmd.Stdout, cmd.Stderr = out, out
			cmd.Env = append(os.Environ(), "TMPDIR="+temp)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var ended error
			go func() {
				ended = cmd.Wait()
				close(out.ended)
			}()
			out.waitFor(ctx, t, test.word)
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			<-out.ended // the command's context ends it in any case
			if code := cmd.ProcessState.ExitCode(); code != test.code {
				t.Errorf("it ended with exit code %d, want %d: %v", code, test.code, ended)
			}
			left, err := os.ReadDir(temp)
			if err != nil {
				t.Fatal(err)
			}
			for _, entry := range left {
				if strings.HasPrefix(entry.Name(), "usher-e2e-") {
					t.Errorf("%s is left", entry.Name())
				}
			}
			for _, address := range regexp.MustCompile(`127\.0\.0\.1:\d+`).FindAllString(out.text.String(), -1) {
				if conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address); err == nil {
					_ = conn.Close()
					t.Errorf("%s still listens", address)
				} else if !errors.Is(err, syscall.ECONNREFUSED) {
					t.Error(err)
				}
			}
		})
	}
}

func TestUsageIsAnswered(t *testing.T) {
	for _, test := range []struct {
		args []string
		code int
	}{{[]string{"-h"}, 0}, {[]string{"--no-such-flag"}, 2}, {[]string{"something"}, 2}} {
		t.Run(fmt.Sprint(test.args), func(t *testing.T) {
			var out, errOut bytes.Buffer
			if code := run(test.args, &out, &errOut); code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			if errOut.Len() == 0 {
				t.Error("it said nothing")
			}
		})
	}
}

func TestLongTextIsFoldedAtSpaces(t *testing.T) {
	for _, line := range fold(strings.Repeat("word ", 50), 20) {
		if len(line) > 20 {
			t.Errorf("%q is longer than 20", line)
		}
	}
	if got := fold("", 20); len(got) != 1 || got[0] != "" {
		t.Errorf("got %q", got)
	}
}
