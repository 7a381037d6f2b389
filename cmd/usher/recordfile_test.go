package main

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.uber.org/zap"

	"github.com/usher-authz/usher/extauthz"
	"github.com/usher-authz/usher/extauthz/dryrun"
	"github.com/usher-authz/usher/policy"
)

// observed is a request of a size.
func observed(size int) *extauthz.Observation {
	return &extauthz.Observation{Outcome: policy.Allow, Status: 200, Check: &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
		Http: &authv3.AttributeContext_HttpRequest{Method: "POST", Path: "/threads", Host: "agents.test", RawBody: bytes.Repeat([]byte("a "), size/2)},
	}}}}
}

func TestRecordedRequestsStayWithinTheirSize(t *testing.T) {
	file := filepath.Join(t.TempDir(), "requests.jsonl")
	if err := os.WriteFile(file, []byte("{}\n"), 0o644); err != nil { //nolint:gosec // which the recorder must mend
		t.Fatal(err)
	}
	r, err := newRecorder(recordOptions{file: file, sample: 1, size: 1, body: 64 << 10}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 20 {
				r.Observe(observed(50_000))
			}
		})
	}
	all.Wait()
	r.close()
	r.Observe(observed(10)) // too late: dropped, no panic
	if n := r.records.Load() + r.dropped.Load(); n != 81 || r.failures.Load() != 0 || r.dropped.Load() == 0 {
		t.Errorf("%d written, %d dropped, %d failed; want 81 in all", r.records.Load(), r.dropped.Load(), r.failures.Load())
	}
	size := 0
	for _, name := range []string{file, file + ".1"} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
		text, err := os.ReadFile(name) //nolint:gosec // the test's own
		if err != nil {
			t.Fatal(err)
		}
		size += len(text)
		for line := range bytes.Lines(text) {
			if len(line) < 10 {
				continue // what was there before
			}
			if _, err := dryrun.ParseRecord(line); err != nil {
				t.Errorf("%v: %.200s", err, line)
			}
		}
	}
	if size > 1<<20 {
		t.Errorf("%d bytes, want at most 1 MiB", size)
	}
}

func TestRecordedBodiesStayWithinTheirSize(t *testing.T) {
	file := filepath.Join(t.TempDir(), "requests.jsonl")
	r, err := newRecorder(recordOptions{file: file, sample: 1, size: 1, body: 100}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	r.Observe(observed(10_000))
	r.close()
	text, err := os.ReadFile(file) //nolint:gosec // the test's own
	if err != nil {
		t.Fatal(err)
	}
	record, err := dryrun.ParseRecord(text)
	if err != nil || len(record.Missing) == 0 || record.Missing[0] != dryrun.MissingBody || len(text) > 1000 {
		t.Errorf("%v, missing %v: %.300s", err, record.Missing, text)
	}
}

func TestRecordedRequestsGoToNoLink(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := os.WriteFile(target, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{link, dir, filepath.Join(dir, "nowhere", "file")} {
		if r, err := newRecorder(recordOptions{file: name, sample: 1, size: 1}, zap.NewNop()); err == nil {
			r.close()
			t.Errorf("%s was opened", name)
		}
	}
}

func TestSampledRequests(t *testing.T) {
	for _, bad := range []float64{0, -1, 1.1} {
		if o := (recordOptions{sample: bad, size: 1}); o.check() == nil {
			t.Errorf("sample %v is accepted", bad)
		}
	}
	r := &recorder{options: recordOptions{sample: 0.1}}
	n := 0
	for range 10_000 {
		if r.Wants() {
			n++
		}
	}
	if n < 700 || n > 1300 {
		t.Errorf("%d of 10000, want about 1000", n)
	}
}
