package main

import (
	"fmt"
	"io"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/usher-authz/usher/extauthz"
)

const (
	// logBuffer and logFlush trade a moment's delay for far fewer writes: there is a record of every decision.
	logBuffer = 64 << 10
	logFlush  = 100 * time.Millisecond // at debug level nothing waits
)

// newLogger makes the log of serve. Nothing is sampled: a decision without a record would be one that nobody can
// explain. flush must be called at the end.
func newLogger(w io.Writer, level, format string) (*zap.Logger, func(), error) {
	var l zapcore.Level
	switch level {
	case "debug":
		l = zap.DebugLevel
	case "info":
		l = zap.InfoLevel
	case "warn":
		l = zap.WarnLevel
	case "error":
		l = zap.ErrorLevel
	default:
		return nil, nil, fmt.Errorf("--log-level %q: expected debug, info, warn or error", level)
	}
	c := zap.NewProductionEncoderConfig()
	c.TimeKey, c.EncodeTime = "time", zapcore.RFC3339NanoTimeEncoder
	var encoder zapcore.Encoder
	switch format {
	case "json":
		encoder = extauthz.NewRecordEncoder(c)
	case "console":
		c.EncodeDuration = zapcore.StringDurationEncoder
		encoder = zapcore.NewConsoleEncoder(c)
	default:
		return nil, nil, fmt.Errorf("--log-format %q: expected json or console", format)
	}
	if l == zapcore.DebugLevel {
		// Whoever looks this closely wants each line at once.
		direct := zapcore.Lock(zapcore.AddSync(w))
		return zap.New(zapcore.NewCore(encoder, direct, l), zap.ErrorOutput(direct)), func() {}, nil
	}
	buffered := &zapcore.BufferedWriteSyncer{WS: zapcore.Lock(zapcore.AddSync(w)), Size: logBuffer, FlushInterval: logFlush}
	log := zap.New(zapcore.NewCore(encoder, buffered, l), zap.ErrorOutput(zapcore.Lock(zapcore.AddSync(w))))
	return log, func() { _ = buffered.Stop() }, nil // a log that cannot be written is no reason to fail
}
