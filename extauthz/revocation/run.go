package revocation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gomodule/redigo/redis"
	"go.uber.org/zap"
)

const (
	// rescan is how often the whole list is read again.
	rescan = time.Minute
	// heartbeat is how often the server must give a sign of life. Both connections are asked.
	heartbeat = 2 * time.Second
	// minBackoff and maxBackoff bound the wait before a new connection, plus a jitter of half of it.
	minBackoff, maxBackoff = 100 * time.Millisecond, 5 * time.Second
	// waiting bounds the messages that wait to be looked up; with more, the whole list is read again.
	waiting = 1024
)

// Run keeps the list up to date until ctx ends. It logs each change of the connection once.
func (l *List) Run(ctx context.Context) {
	backoff := minBackoff
	for ctx.Err() == nil {
		began := time.Now()
		err := l.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		l.state(false, err)
		if time.Since(began) > maxBackoff {
			backoff = minBackoff
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(backoff + rand.N(backoff/2)):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// maxReasons bounds how many reasons of one outage are logged.
const maxReasons = 8

// state notes whether the server answers. It logs a change, and each reason of an outage once: what is wrong next, the
// password after the address say, is new.
func (l *List) state(online bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	changed := l.since.IsZero() || l.online != online
	if changed {
		l.since, l.online, l.reasons = time.Now(), online, nil
	}
	if l.problem = ""; err != nil {
		l.problem = err.Error()
	}
	switch {
	case online && changed:
		l.log.Info("the revocation list is read and followed", zap.String("provider", l.config.Provider), zap.Int64("entries", l.table.size.Load()))
	case !online && len(l.reasons) < maxReasons && !slices.Contains(l.reasons, l.problem):
		l.reasons = append(l.reasons, l.problem)
		l.log.Warn("the revocation list cannot be followed", zap.String("provider", l.config.Provider), zap.String("problem", l.problem))
	}
}

// follow subscribes, reads the list and then what is added to it, until something goes wrong.
func (l *List) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	commands, err := l.dial(ctx)
	if err != nil {
		return fmt.Errorf("connect to %s: %s", l.address, l.cause(err))
	}
	defer commands.Close()
	conn, err := l.dial(ctx)
	if err != nil {
		return fmt.Errorf("connect to %s: %s", l.address, l.cause(err))
	}
	sub := redis.PubSubConn{Conn: conn}
	defer sub.Close()
	if err := sub.Subscribe(l.base); err != nil {
		return fmt.Errorf("subscribe at %s: %s", l.address, l.cause(err))
	}
	switch first := sub.ReceiveWithTimeout(timeout).(type) {
	case error: // such as NOPERM
		return fmt.Errorf("subscribe at %s: %s", l.address, l.cause(first))
	case redis.Subscription:
		if first.Kind != "subscribe" {
			return fmt.Errorf("subscribe at %s: not confirmed", l.address)
		}
	default:
		return fmt.Errorf("subscribe at %s: not confirmed", l.address)
	}
	messages, lost, failed := make(chan string, waiting), make(chan struct{}, 1), make(chan error, 1)
	received := make(chan struct{})
	var read atomic.Bool // what was revoked before the subscription is known
	go func() {
		defer close(received)
		failed <- l.receive(sub, messages, lost, &read)
	}()
	defer func() { // the receiver ends with its connection
		_ = sub.Close()
		<-received
	}()
	beat, again := time.NewTicker(heartbeat), time.NewTicker(rescan)
	defer beat.Stop()
	defer again.Stop()
	// tend does what is due while the list is read, which takes long where the database has many other keys: a message
	// takes effect at once, and the receiver hears of its server.
	tend := func() error {
		for {
			select {
			case suffix := <-messages:
				if err := l.read(ctx, commands, []string{suffix}, true); err != nil {
					return err
				}
			case <-beat.C:
				if err := sub.Ping(""); err != nil {
					return err
				}
			case err := <-failed:
				return err
			default:
				return nil
			}
		}
	}
	if err := l.scan(ctx, commands, tend); err != nil {
		return fmt.Errorf("follow %s: %s", l.address, l.cause(err))
	}
	read.Store(true)
	l.state(true, nil)

	for {
		err := error(nil)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err = <-failed:
		case suffix := <-messages:
			err = l.read(ctx, commands, []string{suffix}, true)
		case <-lost:
			err = l.scan(ctx, commands, tend)
		case <-again.C:
			err = l.scan(ctx, commands, tend)
		case <-beat.C:
			if _, err = redis.DoContext(commands, ctx, "PING"); err == nil {
				err = sub.Ping("")
			}
		}
		if err != nil {
			return fmt.Errorf("follow %s: %s", l.address, l.cause(err))
		}
	}
}

// receive hands messages on until the connection ends. The heartbeat's answers come here too: a connection that brings
// none is dead. They are signs of life only once the list was read.
func (l *List) receive(sub redis.PubSubConn, messages chan<- string, lost chan<- struct{}, read *atomic.Bool) error {
	for {
		switch m := sub.ReceiveWithTimeout(2*heartbeat + timeout).(type) {
		case error:
			return m
		case redis.Pong:
			if read.Load() {
				l.seen()
			}
		case redis.Message:
			select {
			case messages <- string(m.Data):
			default:
				select {
				case lost <- struct{}{}:
				default:
				}
			}
		}
	}
}

// scan reads all keys of the list (SCAN, not KEYS: the server is not held up), and calls tend now and then. It ends at the
// first that cannot be held.
func (l *List) scan(ctx context.Context, conn redis.Conn, tend func() error) error {
	l.table.sweep(time.Now())
	pattern := escape(l.base) + ":*"
	overflows := l.table.overflows.Load()
	for cursor := "0"; ; {
		err := l.round(ctx, tend, func() error {
			answer, err := redis.Values(redis.DoContext(conn, ctx, "SCAN", cursor, "MATCH", pattern, "COUNT", 500))
			if err != nil {
				return fmt.Errorf("read the list: %w", err)
			}
			var keys []string
			if _, err := redis.Scan(answer, &cursor, &keys); err != nil {
				return errors.New("read the list: not an answer to SCAN")
			}
			suffixes := keys[:0]
			for _, key := range keys {
				if suffix, ok := strings.CutPrefix(key, l.base+":"); ok {
					suffixes = append(suffixes, suffix)
				}
			}
			return l.read(ctx, conn, suffixes, false)
		})
		if err != nil {
			return err
		}
		if l.table.overflows.Load() != overflows {
			break // the rest would not be held either
		}
		if cursor == "0" {
			l.table.full.Store(false)
			break
		}
	}
	l.seen()
	l.scanned.Store(true)
	return nil
}

// maxTime is the length of the longest Unix time in decimal digits.
const maxTime = 20

// read looks up entries. One that was named by a message and is not there is taken back. The time to live is asked for
// first: an entry that is written between the two is not there yet, and not one without a value.
func (l *List) read(ctx context.Context, conn redis.Conn, suffixes []string, named bool) error {
	for _, suffix := range suffixes {
		key := l.base + ":" + suffix
		if err := conn.Send("PTTL", key); err != nil {
			return err
		}
		// Of a value that is longer, it is known that it is no time.
		if err := conn.Send("GETRANGE", key, 0, maxTime); err != nil {
			return err
		}
	}
	if err := conn.Flush(); err != nil {
		return err
	}
	for _, suffix := range suffixes {
		ms, err2 := redis.Int64(redis.ReceiveContext(conn, ctx))
		value, err := redis.ReceiveContext(conn, ctx)
		kind, name, known := split(suffix)
		var answered redis.Error // such as WRONGTYPE: an entry all the same
		switch {
		case err != nil && !errors.As(err, &answered):
			return err
		case err2 != nil:
			return err2
		case !known:
			continue
		case ms == -2: // not there
			if named {
				l.table.drop(kind, name)
			}
			continue
		}
		ttl := forever
		if ms >= 0 {
			ttl = time.Duration(min(ms, int64(10*365*24*time.Hour/time.Millisecond)))*time.Millisecond + time.Second
		}
		before := int64(always)
		if text, err := redis.String(value, err); err == nil {
			if at, err := strconv.ParseInt(text, 10, 64); err == nil && len(text) <= maxTime {
				before = at
			}
		}
		l.table.put(kind, name, entry{before: before, expires: time.Now().Add(ttl).Unix()})
	}
	return nil
}

// escape makes a prefix mean itself in a glob.
func escape(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `^`, `\^`).Replace(text)
}

// cause is an error's text, short and in visible characters: a part of it is the server's. It names no port of ours, so that
// the same reason has the same text, and not the password, which a server that does not know AUTH repeats.
func (l *List) cause(err error) string {
	text := err.Error()
	var op *net.OpError
	if errors.As(err, &op) {
		text = op.Op + ": " + op.Err.Error()
	}
	var said redis.Error
	if errors.As(err, &said) && l.config.Password != "" {
		text = strings.ReplaceAll(text, l.config.Password, "***")
		// A server that repeats it may write what is no visible character in ways of its own.
		for _, part := range strings.FieldsFunc(l.config.Password, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '"' || r == '\'' || r == '\\' }) {
			if len(part) > 2 {
				text = strings.ReplaceAll(text, part, "***")
			}
		}
		text, _, _ = strings.Cut(text, "args beginning with")
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	return strings.ToValidUTF8(text[:min(len(text), 200)], "")
}
