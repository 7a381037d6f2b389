package watch

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"

	"github.com/usher-authz/usher/policy"
)

const (
	defaultPoll   = 10 * time.Second
	defaultSettle = 150 * time.Millisecond
)

// Files are manifests in files. It is a value without state; its methods are safe for concurrent use.
type Files struct {
	// Paths are files, or directories whose *.yaml, *.yml and *.json files are read in order of their names. Hidden
	// files and directories within are not looked at.
	Paths   []string
	Presets map[string]policy.Preset
	// Poll is how often the files are read although nothing announced a change, as not every file system announces
	// them. Zero: 10 s.
	Poll time.Duration
	// Settle is how long the bytes must stay the same before they count: a file that is just being written may be
	// well-formed, and less strict than the whole. Zero: 150 ms. Whoever replaces a file by renaming need not care.
	Settle time.Duration
	Logger *zap.Logger // nil: no log
}

// Watch delivers each reading that differs from the one before, the first from since, until ctx ends. Deliver is called
// by one goroutine. If the system cannot announce changes they are found by polling, and the log says so.
func (f Files) Watch(ctx context.Context, since Reading, deliver func(Reading)) {
	if f.Poll <= 0 {
		f.Poll = defaultPoll
	}
	if f.Settle <= 0 {
		f.Settle = defaultSettle
	}
	if f.Logger == nil {
		f.Logger = zap.NewNop()
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		f.Logger.Warn("no announcements of file changes; polling", zap.Error(err), zap.Duration("every", f.Poll))
		f.loop(ctx, since, nil, func() {}, deliver)
		return
	}
	defer func() { _ = watcher.Close() }()
	changed := make(chan struct{}, 1)
	go func() {
		// Errors (an overflow) mean the same as events: look.
		for {
			select {
			case _, ok := <-watcher.Events:
				if !ok {
					return
				}
			case _, ok := <-watcher.Errors:
				if !ok {
					return
				}
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}()
	f.loop(ctx, since, changed, func() { f.subscribe(watcher) }, deliver)
}

// subscribe asks for announcements, of the directory even of a single file, as editors replace files and Kubernetes
// swaps links beside them. It is repeated, as a directory that was replaced is no longer announced; a directory that is
// not there yet is found by polling.
func (f Files) subscribe(w *fsnotify.Watcher) {
	for _, path := range f.Paths {
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			path = filepath.Dir(path)
		}
		_ = w.Add(path) // polling finds what is not announced
	}
}

// loop reads at once, after each announcement and at each poll.
func (f Files) loop(ctx context.Context, since Reading, changed <-chan struct{}, subscribe func(), deliver func(Reading)) {
	poll := time.NewTicker(f.Poll)
	defer poll.Stop()
	last, good := since.digest, since.Compiled
	for {
		subscribe()
		if files, ok := f.settled(ctx, last); ok {
			r := f.compile(files, good)
			if last = r.digest; r.Compiled != nil {
				good = r.Compiled
			}
			deliver(r)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-poll.C:
		}
	}
}

// settled reads until two readings in a row are equal; false if they are what was delivered last, or ctx has ended.
func (f Files) settled(ctx context.Context, last digest) ([]file, bool) {
	files := f.load()
	before := digestOf(files)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for before != last {
		timer.Reset(f.Settle)
		select {
		case <-ctx.Done():
			return nil, false
		case <-timer.C:
		}
		files = f.load()
		now := digestOf(files)
		if now == before {
			return files, true
		}
		before = now
	}
	return nil, false
}
