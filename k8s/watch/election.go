package watch

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// The lease: who does not renew it for leaseFor loses it; who holds it stops to count on it after renewWithin. All of these are
// measured by each replica's own clock, as lengths: clocks that differ change nothing.
const (
	leaseName    = "usher"
	leaseFor     = 15 * time.Second
	renewWithin  = 10 * time.Second
	renewEvery   = 2 * time.Second
	leaseTimeout = 3 * time.Second // of one request
)

// lease is the lock by which one replica is elected. It notes when it was renewed last, so that a process that was stopped for
// a while does not believe that it holds it still.
type lease struct {
	resourcelock.LeaseLock

	mu      sync.Mutex
	renewed time.Time
	led     bool // since the elector was made
}

func newLease(c *rest.Config, namespace string) (*lease, error) {
	c = rest.CopyConfig(c)
	c.Timeout = leaseTimeout
	client, err := coordinationv1.NewForConfig(c)
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "usher"
	}
	return &lease{LeaseLock: resourcelock.LeaseLock{
		LeaseMeta: metav1.ObjectMeta{Namespace: namespace, Name: leaseName}, Client: client,
		LockConfig: resourcelock.ResourceLockConfig{Identity: host + "_" + string(uuid.NewUUID())},
	}}, nil
}

// Create implements resourcelock.Interface.
func (l *lease) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.renew(record, func() error { return l.LeaseLock.Create(ctx, record) })
}

// Update implements resourcelock.Interface.
func (l *lease) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.renew(record, func() error { return l.LeaseLock.Update(ctx, record) })
}

func (l *lease) renew(record resourcelock.LeaderElectionRecord, write func() error) error {
	begun := time.Now()
	if err := write(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.renewed = begun; record.HolderIdentity != l.Identity() {
		l.renewed = time.Time{} // released
	}
	return nil
}

// RecordEvent implements resourcelock.Interface. The elector tells when it begins to lead, before anything is written.
func (l *lease) RecordEvent(string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.led = true
}

// lead forgets that the lease was ever held, and returns whether it was.
func (l *lease) lead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	led := l.led
	l.led = false
	return led
}

// held reports whether nobody else can hold the lease yet.
func (l *lease) held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.renewed.IsZero() && time.Since(l.renewed) < renewWithin
}

// lead writes status whenever this replica holds the lease, until ctx ends. Losing the lease changes nothing of what is in
// force.
func (s *status) lead(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-s.ready: // who has read nothing has nothing to write, and leaves the lease to others
	}
	// What goes wrong is said by package requests' observer; the elector would repeat it every two seconds.
	ctx = klog.NewContext(ctx, logr.Discard())
	for ctx.Err() == nil {
		ended := make(chan struct{})
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: s.lease, LeaseDuration: leaseFor, RenewDeadline: renewWithin, RetryPeriod: renewEvery, ReleaseOnCancel: true, Name: leaseName,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(ctx context.Context) {
					defer close(ended)
					s.log.Info("this replica writes status", zap.String("lease", s.lease.Describe()))
					s.run(ctx)
				},
				OnStoppedLeading: func() {},
			},
		})
		if err != nil {
			s.log.Error("no replica can be elected to write status", zap.Error(err))
			return
		}
		elector.Run(ctx)
		if s.lease.lead() {
			<-ended // before somebody else may write, or this replica again
			if ctx.Err() == nil {
				s.log.Warn("this replica writes status no longer: its lease could not be renewed", zap.String("lease", s.lease.Describe()))
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(renewEvery):
		}
	}
}
