package watch

import (
	"context"

	"github.com/go-logr/zapr"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// logInto lets the Kubernetes libraries log into ours, warnings and errors only: they are talkative. Once ctx has ended, what
// they say is that they end.
func logInto(ctx context.Context, to *zap.Logger) {
	to = to.WithOptions(zap.IncreaseLevel(zapcore.WarnLevel), zap.WrapCore(func(c zapcore.Core) zapcore.Core { return quiet{c, ctx} }))
	l := zapr.NewLogger(to)
	log.SetLogger(l)
	klog.SetLogger(l)
}

// quiet drops everything once its context has ended.
type quiet struct {
	zapcore.Core
	ctx context.Context //nolint:containedctx // it is what ends, and not a request's
}

func (q quiet) With(fields []zapcore.Field) zapcore.Core { return quiet{q.Core.With(fields), q.ctx} }

func (q quiet) Check(e zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if q.ctx.Err() != nil {
		return to
	}
	return q.Core.Check(e, to)
}
