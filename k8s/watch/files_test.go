package watch

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

const (
	good    = "apiVersion: usher.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {name: a}\nspec: {issuer: \"https://a.example.com\", audiences: [a]}\n"
	changed = "apiVersion: usher.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {name: a}\nspec: {issuer: \"https://a.example.com\", audiences: [b]}\n"
	broken  = "apiVersion: usher.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {name: a}\nspec: {issuer: \"https://a.example.com\"}\n"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func audience(r Reading) string {
	if r.Compiled == nil {
		return r.Problems.Error()
	}
	return strings.Join(r.Compiled.Providers["a"].Audiences, ",")
}

// bubble runs the loop in fake time: nothing but the test announces changes.
func bubble(t *testing.T, path string, test func(announce func(), arrived func() []Reading)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f := Files{Paths: []string{path}, Poll: 10 * time.Second, Settle: 100 * time.Millisecond}
		readings := make(chan Reading, 16)
		changes := make(chan struct{}, 1)
		first := f.Read()
		done := make(chan struct{})
		go func() {
			defer close(done)
			f.loop(ctx, first, changes, func() {}, func(r Reading) { readings <- r })
		}()
		synctest.Wait()
		test(func() {
			changes <- struct{}{}
			synctest.Wait()
		}, func() (out []Reading) {
			for len(readings) > 0 {
				out = append(out, <-readings)
			}
			return out
		})
		cancel()
		<-done
	})
}

func after(d time.Duration) {
	time.Sleep(d) // in a bubble
	synctest.Wait()
}

func TestLoop(t *testing.T) {
	t.Run("unchanged_bytes_are_not_delivered", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "a.yaml")
		write(t, path, good)
		bubble(t, path, func(announce func(), arrived func() []Reading) {
			write(t, path, good)
			announce()
			after(time.Minute)
			if got := arrived(); len(got) != 0 {
				t.Errorf("%d readings", len(got))
			}
		})
	})
	t.Run("a_change_is_delivered_once_it_has_settled", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "a.yaml")
		write(t, path, good)
		bubble(t, path, func(announce func(), arrived func() []Reading) {
			write(t, path, changed[:40])
			announce()
			after(60 * time.Millisecond)
			write(t, path, changed)
			after(60 * time.Millisecond)
			if len(arrived()) != 0 {
				t.Error("delivered while it was being written")
			}
			after(100 * time.Millisecond)
			if got := arrived(); len(got) != 1 || audience(got[0]) != "b" {
				t.Errorf("got %v", got)
			}
		})
	})
	t.Run("a_change_that_nobody_announces_is_found_by_polling", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "a.yaml")
		write(t, path, good)
		bubble(t, path, func(_ func(), arrived func() []Reading) {
			write(t, path, changed)
			after(9 * time.Second)
			if len(arrived()) != 0 {
				t.Error("too soon")
			}
			after(2 * time.Second)
			if got := arrived(); len(got) != 1 {
				t.Errorf("%d readings", len(got))
			}
		})
	})
	t.Run("a_change_between_the_first_reading_and_the_watch_is_delivered", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "a.yaml")
		write(t, path, good)
		f := Files{Paths: []string{path}}
		first := f.Read()
		write(t, path, changed)
		files, ok := Files{Paths: f.Paths, Settle: time.Millisecond}.settled(t.Context(), first.digest)
		if !ok || audience(f.compile(files, nil)) != "b" {
			t.Error("not seen")
		}
	})
	t.Run("problems_are_delivered_beside_no_state_and_then_the_repair", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "a.yaml")
		write(t, path, good)
		bubble(t, path, func(announce func(), arrived func() []Reading) {
			write(t, path, broken)
			announce()
			after(time.Second)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			announce()
			after(time.Second)
			write(t, path, good)
			announce()
			after(time.Second)
			readings := arrived()
			if len(readings) != 3 {
				t.Fatalf("%d readings", len(readings))
			}
			for i, want := range []string{"spec.audiences: found none", "no such file", "a"} {
				if got := audience(readings[i]); !strings.Contains(got, want) {
					t.Errorf("reading %d: got %q, want %q", i, got, want)
				}
			}
			if r := readings[0]; r.Compiled != nil {
				t.Error("compiled beside problems")
			}
		})
	})
}

// TestWatch is the same with what the system announces, on real files: what is replaced as editors and Kubernetes do.
func TestWatch(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, dir string){
		"a_file_written_in_place": func(t *testing.T, dir string) { write(t, filepath.Join(dir, "a.yaml"), changed) },
		"a_file_replaced_by_renaming": func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, ".a.swp"), changed)
			if err := os.Rename(filepath.Join(dir, ".a.swp"), filepath.Join(dir, "a.yaml")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		for _, single := range []bool{true, false} {
			t.Run(name+map[bool]string{true: "", false: "_in_a_directory"}[single], func(t *testing.T) {
				dir := t.TempDir()
				write(t, filepath.Join(dir, "a.yaml"), good)
				path := dir
				if single {
					path = filepath.Join(dir, "a.yaml")
				}
				watched(t, path, func() { change(t, dir) })
			})
		}
	}
	t.Run("a_ConfigMap_swapped_by_its_link", func(t *testing.T) {
		dir := t.TempDir()
		version := func(name, text string) {
			if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, name, "a.yaml"), text)
			tmp := filepath.Join(dir, "..data_tmp")
			if err := os.Symlink(name, tmp); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(tmp, filepath.Join(dir, "..data")); err != nil {
				t.Fatal(err)
			}
		}
		version("..1", good)
		if err := os.Symlink("..data/a.yaml", filepath.Join(dir, "a.yaml")); err != nil {
			t.Fatal(err)
		}
		watched(t, dir, func() { version("..2", changed) })
	})
}

// watched watches a path, makes a change and demands that it arrives; polling would be too late for it.
func watched(t *testing.T, path string, change func()) {
	t.Helper()
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ctx, cancel := context.WithCancel(t.Context())
	f := Files{Paths: []string{path}, Poll: time.Hour, Settle: 200 * time.Millisecond} // a file that is written in place is empty at first
	first := f.Read()
	if audience(first) != "a" {
		t.Fatal(audience(first))
	}
	readings, done := make(chan Reading), make(chan struct{})
	go func() {
		defer close(done)
		f.Watch(ctx, first, func(r Reading) {
			select {
			case readings <- r:
			case <-ctx.Done():
			}
		})
	}()
	defer func() {
		cancel()
		<-done
	}()
	change()
	select {
	case r := <-readings:
		if audience(r) != "b" {
			t.Errorf("got %q", audience(r))
		}
	case <-time.After(30 * time.Second):
		t.Error("nothing was announced")
	}
}

func TestRead(t *testing.T) {
	t.Run("a_directory_in_order_without_hidden_files_and_others", func(t *testing.T) {
		dir := t.TempDir()
		for _, name := range []string{"b.yml", "a.yaml", "c.json", ".hidden.yaml", "notes.txt"} {
			text := strings.ReplaceAll(good, "name: a", "name: "+name[:1])
			if strings.HasPrefix(name, ".") || name == "notes.txt" {
				text = "}"
			}
			write(t, filepath.Join(dir, name), text)
		}
		if err := os.Mkdir(filepath.Join(dir, "d.yaml"), 0o700); err != nil {
			t.Fatal(err)
		}
		r := Files{Paths: []string{dir}}.Read()
		if r.Compiled == nil || len(r.Compiled.Objects) != 3 || r.Files != 3 {
			t.Fatalf("got %d files, %v", r.Files, r.Problems)
		}
		for i, want := range []string{"a.yaml", "b.yml", "c.json"} {
			if got := r.Compiled.Objects[i].Pos.File; got != filepath.Join(dir, want) {
				t.Errorf("object %d is from %s", i, got)
			}
		}
	})
	for name, want := range map[string]string{
		"a_missing_path":          "no such file",
		"an_empty_directory":      "no manifests in this directory",
		"a_link_to_nowhere":       "no such file",
		"a_device":                "not a regular file",
		"a_file_without_manifest": "no manifests",
	} {
		t.Run(name+"_is_a_problem", func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "x")
			switch name {
			case "an_empty_directory":
				path = dir
			case "a_link_to_nowhere":
				path = dir
				if err := os.Symlink("nowhere", filepath.Join(dir, "a.yaml")); err != nil {
					t.Fatal(err)
				}
			case "a_device":
				path = os.DevNull
			case "a_file_without_manifest":
				write(t, path, "# nothing\n")
			}
			r := Files{Paths: []string{path}}.Read()
			if r.Compiled != nil || len(r.Problems) != 1 || !strings.Contains(r.Problems.Error(), want) {
				t.Errorf("got %v", r.Problems)
			}
		})
	}
}
