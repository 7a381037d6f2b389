package main

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/usher-authz/usher/extauthz"
	"github.com/usher-authz/usher/extauthz/dryrun"
)

// recordOptions say which requests are recorded, and where. The zero value records none.
type recordOptions struct {
	file   string
	sample float64 // how many of the requests: 1 is all
	size   int     // MiB, of the file and of the one before it
	body   int     // bytes
}

func (o *recordOptions) check() error {
	switch {
	case !(o.sample > 0 && o.sample <= 1): // NaN too
		return errors.New("--record-requests-sample: expected more than 0, and at most 1")
	case o.size < 1 || o.size > 1<<20:
		return errors.New("--record-requests-size: expected 1 to 1048576 MiB")
	case o.body < 0 || o.body > maxRecordLine/8:
		return fmt.Errorf("--record-requests-body: expected 0 to %d bytes", maxRecordLine/8)
	}
	return nil
}

// start begins to record, where that is asked for; nil: it is not.
func (o *recordOptions) start(log *zap.Logger) (*recorder, error) {
	if o.file == "" {
		return nil, nil
	}
	r, err := newRecorder(*o, log)
	if err == nil {
		log.Warn("requests are recorded, with bodies, claims and objects", zap.String("file", o.file), zap.Float64("sample", o.sample))
	}
	return r, err
}

const (
	recordBytes = 16 << 20 // of requests that wait to be written
	recordLeast = 16 << 10 // what a request counts for at least
	recordQueue = recordBytes / recordLeast
)

// recorder writes requests to a file, behind their answers. It is safe for concurrent use.
type recorder struct {
	options recordOptions
	log     *zap.Logger
	waiting *semaphore.Weighted
	queue   chan *extauthz.Observation
	file    *os.File
	out     *bufio.Writer
	written int64 // bytes of the file
	ended   chan struct{}
	failed  bool // said already

	mu     sync.RWMutex
	closed bool

	records, dropped, failures atomic.Uint64
}

// newRecorder opens the file, which only its owner may read.
func newRecorder(o recordOptions, log *zap.Logger) (*recorder, error) {
	r := &recorder{options: o, log: log, waiting: semaphore.NewWeighted(recordBytes), queue: make(chan *extauthz.Observation, recordQueue), ended: make(chan struct{})}
	if err := r.open(); err != nil {
		return nil, failed(fmt.Errorf("--record-requests: %w", err))
	}
	go r.run()
	return r, nil
}

// open opens the file to append to it. What is there must be a file, and no link to one that somebody else chose.
func (r *recorder) open() error {
	name := r.options.file
	before, err := os.Lstat(name)
	if err == nil && !before.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", name)
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) //nolint:gosec // the user names it
	if err != nil {
		return err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular() || before != nil && !os.SameFile(before, info):
		err = fmt.Errorf("%s is no regular file", name)
	default:
		err = f.Chmod(0o600)
	}
	if err != nil {
		_ = f.Close()
		return err
	}
	r.file, r.out, r.written = f, bufio.NewWriterSize(f, 64<<10), info.Size()
	return nil
}

// Wants implements extauthz.Observer.
func (r *recorder) Wants() bool {
	return r.options.sample >= 1 || rand.Float64() < r.options.sample //nolint:gosec // which requests are sampled is no secret
}

// Observe implements extauthz.Observer. What is too much at once is dropped and counted.
func (r *recorder) Observe(o *extauthz.Observation) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed || !r.waiting.TryAcquire(weight(o)) {
		r.dropped.Add(1)
		return
	}
	r.queue <- o // each of them weighs enough that there is room
}

func weight(o *extauthz.Observation) int64 {
	http := o.Check.GetAttributes().GetRequest().GetHttp()
	return min(max(int64(len(http.GetRawBody())+len(http.GetBody())), recordLeast), recordBytes)
}

func (r *recorder) run() {
	defer close(r.ended)
	for o := range r.queue {
		r.write(o)
		r.waiting.Release(weight(o))
		if len(r.queue) == 0 {
			r.check(r.out.Flush())
		}
	}
	r.check(r.out.Flush())
	r.check(r.file.Close())
}

func (r *recorder) write(o *extauthz.Observation) {
	recording := dryrun.NewRecording(o, r.options.body)
	line, err := recording.Line()
	if err == nil {
		err = r.rotate(len(line))
	}
	if err == nil {
		_, err = r.out.Write(line)
	}
	if err != nil {
		r.failures.Add(1)
		r.check(err)
		return
	}
	r.written += int64(len(line))
	r.records.Add(1)
}

// rotate begins another file, and keeps one before it, so that both together stay within the size.
func (r *recorder) rotate(more int) error {
	if r.written == 0 || r.written+int64(more) <= int64(r.options.size)<<20/2 {
		return nil
	}
	if err := r.out.Flush(); err != nil {
		return err
	}
	if err := os.Rename(r.options.file, r.options.file+".1"); err != nil {
		return err
	}
	old := r.file
	if err := r.open(); err != nil {
		return err
	}
	return old.Close()
}

// check logs the first error: records are lost, and checks go on.
func (r *recorder) check(err error) {
	if err != nil && !r.failed {
		r.failed = true
		r.log.Error("requests are not recorded any more", zap.String("file", r.options.file), zap.Error(err))
	}
}

// close writes what waits; what is observed later is dropped.
func (r *recorder) close() {
	r.mu.Lock()
	r.closed = true
	close(r.queue)
	r.mu.Unlock()
	<-r.ended
}
