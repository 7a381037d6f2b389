package e2e_test

import (
	"errors"
	"maps"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// How h2load sends 100 requests a second, up to 8 at once.
var (
	overHTTP1 = []string{"--h1", "-c", "8", "--rps", "12.5"}
	overHTTP2 = []string{"-c", "2", "-m", "4", "--rps", "50"}
)

// Two replicas behind one Envoy are stopped and started again, one after the other, as a rolling update does, while h2load sends
// requests over HTTP/1.1 and HTTP/2: not one of them fails. Envoy shares them between the replicas, sends none to one that is
// not ready yet, and none to one that said that it is about to end.
func TestARollingRestartFailsNotOneRequest(t *testing.T) {
	ctx := beginFor(t, 8*time.Minute)
	r := newReplicas(ctx, t, "rolling", 2)
	loads := map[string]*load{
		"HTTP/1.1": r.newLoad(ctx, t, overHTTP1...),
		"HTTP/2":   r.newLoad(ctx, t, overHTTP2...),
	}
	rounds := func() (err error) {
		for _, l := range loads {
			err = errors.Join(err, l.round(ctx))
		}
		return err
	}
	for _, g := range r.ushers {
		if err := rounds(); err != nil {
			t.Fatal(err)
		}
		g.Usher.Stop()
		if err := rounds(); err != nil { // without it
			t.Fatal(err)
		}
		if err := errors.Join(g.Usher.Start(ctx), untilServing(ctx, r.gate, 2), rounds()); err != nil {
			t.Fatal(err)
		}
	}
	for name, l := range loads {
		statuses, err := l.end()
		t.Logf("%s: %v", name, statuses)
		if err != nil || len(statuses) != 1 || statuses[http.StatusOK] == 0 {
			t.Errorf("%s: %v, expected nothing but 200: %v", name, statuses, err)
		}
	}

	// Both are new now. Each request is one check, and each has its share of them. They take some seconds, so that a replica to
	// which the machine gives no time for a moment has it all the same.
	const n = 600
	before, err := r.checked(ctx)
	if err != nil {
		t.Fatal(err)
	}
	statuses, err := r.h2load(ctx, n, overHTTP2...)
	if err != nil || statuses[http.StatusOK] != n {
		t.Fatal(statuses, err)
	}
	after, err := r.checked(ctx)
	if err != nil {
		t.Fatal(err)
	}
	first, second := after[0]-before[0], after[1]-before[1]
	t.Logf("of %d checks, one replica answered %d and the other %d", n, first, second)
	if first+second != n || min(first, second) < n/6 {
		t.Errorf("of %d checks, one replica answered %d and the other %d", n, first, second)
	}
}

// A replica that is killed says nothing to anybody: only the checks that were on their way to it fail, with 503. The next ones find
// nobody there, and are put to the other; after five in a row, of either kind, Envoy does not try it any more. Without any replica
// all is 503.
func TestAReplicaThatIsKilled(t *testing.T) {
	ctx := beginFor(t, 8*time.Minute)
	r := newReplicas(ctx, t, "killed", 2)
	http1, http2 := r.newLoad(ctx, t, overHTTP1...), r.newLoad(ctx, t, overHTTP2...)
	if err := errors.Join(http1.round(ctx), http2.round(ctx)); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(r.ushers[0].Usher.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(untilServing(ctx, r.gate, 1), http1.round(ctx), http2.round(ctx)); err != nil {
		t.Fatal(err)
	}
	statuses, err := http1.end()
	more, err2 := http2.end()
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	for status, n := range more {
		statuses[status] += n
	}
	retried, err := usherStat(ctx, r.gate, "upstream_rq_retry_success")
	t.Logf("%v, %d checks were put to the other: %v", statuses, retried, err)
	// Each client has 8 on their way at most.
	failed := statuses[http.StatusServiceUnavailable]
	if failed > 16 {
		t.Errorf("%d requests failed, more than were on their way", failed)
	}
	if retried == 0 && failed < 5 {
		t.Error("no check was put to the other replica")
	}
	onlyOKOr503(t, statuses)

	if statuses, err = r.h2load(ctx, 100, overHTTP2...); err != nil || statuses[http.StatusOK] != 100 {
		t.Errorf("without the replica: %v %v", statuses, err)
	}
	if err := syscall.Kill(r.ushers[1].Usher.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.ushers[1].Usher.Stop() // waits until it has ended
	if statuses, err = r.h2load(ctx, 100, overHTTP2...); err != nil || statuses[http.StatusServiceUnavailable] != 100 {
		t.Errorf("without any replica: %v %v", statuses, err)
	}
	if err := errors.Join(r.ushers[0].Usher.Start(ctx), r.ushers[1].Usher.Start(ctx), untilServing(ctx, r.gate, 2)); err != nil {
		t.Fatal(err)
	}
	if statuses, err = r.h2load(ctx, 100, overHTTP2...); err != nil || statuses[http.StatusOK] != 100 {
		t.Errorf("with both again: %v %v", statuses, err)
	}
}

// Replicas that hang keep their connections, and their checks have no answer before Envoy's deadline: these fail, with 503, until
// Envoy has left them out. Two of three is more than half: Envoy's default is to ask all of them then, who hang or not.
func TestReplicasThatHang(t *testing.T) {
	ctx := beginFor(t, 8*time.Minute)
	r := newReplicas(ctx, t, "hanging", 3)
	l := r.newLoad(ctx, t, overHTTP2...)
	if err := l.round(ctx); err != nil {
		t.Fatal(err)
	}
	for _, g := range r.ushers[:2] {
		pid := g.Usher.Pid()
		t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) }) // else it could not end
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(untilServing(ctx, r.gate, 1), l.round(ctx)); err != nil {
		t.Fatal(err)
	}
	statuses, err := l.end()
	if err != nil {
		t.Fatal(err)
	}
	t.Log(statuses)
	if statuses[http.StatusServiceUnavailable] == 0 {
		t.Error("no check was lost: the replicas did not hang")
	}
	onlyOKOr503(t, statuses)
	if statuses, err = r.h2load(ctx, 200, overHTTP2...); err != nil || statuses[http.StatusOK] != 200 {
		t.Errorf("without them: %v %v", statuses, err)
	}
	for _, g := range r.ushers[:2] {
		if err := syscall.Kill(g.Usher.Pid(), syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	if err := untilServing(ctx, r.gate, 3); err != nil {
		t.Fatal(err)
	}
	if statuses, err = r.h2load(ctx, 200, overHTTP2...); err != nil || statuses[http.StatusOK] != 200 {
		t.Errorf("with them again: %v %v", statuses, err)
	}
}

// onlyOKOr503 fails the test at any other status, above all at the backend's for those whom nobody checked.
func onlyOKOr503(t *testing.T, statuses map[int]int) {
	t.Helper()
	rest := maps.Clone(statuses)
	delete(rest, http.StatusOK)
	delete(rest, http.StatusServiceUnavailable)
	if len(rest) > 0 || statuses[http.StatusOK] == 0 {
		t.Errorf("%v, expected nothing but 200 and 503", statuses)
	}
}
