package watch

import (
	"context"
	"errors"

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

// Write implements zapcore.Core. That something was given up is said by whoever gave it up.
func (q quiet) Write(e zapcore.Entry, fields []zapcore.Field) error {
	for _, f := range fields {
		if err, ok := f.Interface.(error); ok && errors.Is(err, context.Canceled) {
			return nil
		}
	}
	return q.Core.Write(e, fields)
}

func (q quiet) With(fields []zapcore.Field) zapcore.Core { return quiet{q.Core.With(fields), q.ctx} }

func (q quiet) Check(e zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if q.ctx.Err() != nil {
		return to
	}
	if !q.Enabled(e.Level) {
		return to
	}
	return to.AddCore(e, q)
}
