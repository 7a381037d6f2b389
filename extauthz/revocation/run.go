package revocation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
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

// state notes whether the server answers, and logs a change.
func (l *List) state(online bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	changed := l.since.IsZero() || l.online != online
	if changed {
		l.since, l.online = time.Now(), online
	}
	if l.problem = ""; err != nil {
		l.problem = err.Error()
	}
	switch {
	case !changed:
	case online:
		l.log.Info("the revocation list is read and followed", zap.String("provider", l.config.Provider), zap.Int64("entries", l.table.size.Load()))
	default:
		l.log.Warn("the revocation list cannot be followed", zap.String("provider", l.config.Provider), zap.String("problem", l.problem))
	}
}

// follow subscribes, reads the list and then what is added to it, until something goes wrong.
func (l *List) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	commands, err := l.dial(ctx)
	if err != nil {
		return fmt.Errorf("connect to %s: %s", l.address, cause(err))
	}
	defer commands.Close()
	conn, err := l.dial(ctx)
	if err != nil {
		return fmt.Errorf("connect to %s: %s", l.address, cause(err))
	}
	sub := redis.PubSubConn{Conn: conn}
	defer sub.Close()
	if err := sub.Subscribe(l.base); err != nil {
		return fmt.Errorf("subscribe at %s: %s", l.address, cause(err))
	}
	if first, ok := sub.ReceiveWithTimeout(timeout).(redis.Subscription); !ok || first.Kind != "subscribe" {
		return fmt.Errorf("subscribe at %s: not confirmed", l.address)
	}
	messages, lost, failed := make(chan string, waiting), make(chan struct{}, 1), make(chan error, 1)
	received := make(chan struct{})
	go func() {
		defer close(received)
		failed <- l.receive(sub, messages, lost)
	}()
	defer func() { // the receiver ends with its connection
		_ = sub.Close()
		<-received
	}()
	if err := l.scan(ctx, commands); err != nil {
		return err
	}
	l.state(true, nil)

	beat, again := time.NewTicker(heartbeat), time.NewTicker(rescan)
	defer beat.Stop()
	defer again.Stop()
	for {
		err := error(nil)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err = <-failed:
		case suffix := <-messages:
			err = l.read(ctx, commands, []string{suffix}, true)
		case <-lost:
			err = l.scan(ctx, commands)
		case <-again.C:
			err = l.scan(ctx, commands)
		case <-beat.C:
			if _, err = redis.DoContext(commands, ctx, "PING"); err == nil {
				err = sub.Ping("")
			}
		}
		if err != nil {
			return fmt.Errorf("follow %s: %s", l.address, cause(err))
		}
	}
}

// receive hands messages on until the connection ends. The heartbeat's answers come here too: a connection that brings
// none is dead.
func (l *List) receive(sub redis.PubSubConn, messages chan<- string, lost chan<- struct{}) error {
	for {
		switch m := sub.ReceiveWithTimeout(2*heartbeat + timeout).(type) {
		case error:
			return m
		case redis.Pong:
			l.alive.Store(time.Now().UnixNano())
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

// scan reads all keys of the list (SCAN, not KEYS: the server is not held up). It ends at the first that cannot be held.
func (l *List) scan(ctx context.Context, conn redis.Conn) error {
	l.table.sweep(time.Now())
	pattern := escape(l.base) + ":*"
	overflows := l.table.overflows.Load()
	for cursor := "0"; ; {
		answer, err := redis.Values(redis.DoContext(conn, ctx, "SCAN", cursor, "MATCH", pattern, "COUNT", 500))
		if err != nil {
			return fmt.Errorf("read the list: %s", cause(err))
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
		if err := l.read(ctx, conn, suffixes, false); err != nil {
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
	l.alive.Store(time.Now().UnixNano()) // not before: what was revoked meanwhile is known only now
	l.scanned.Store(true)
	return nil
}

// read looks up entries. One that was named by a message and is not there is taken back.
func (l *List) read(ctx context.Context, conn redis.Conn, suffixes []string, named bool) error {
	for _, suffix := range suffixes {
		for _, command := range []string{"GET", "PTTL"} {
			if err := conn.Send(command, l.base+":"+suffix); err != nil {
				return err
			}
		}
	}
	if err := conn.Flush(); err != nil {
		return err
	}
	for _, suffix := range suffixes {
		value, err := redis.ReceiveContext(conn, ctx)
		ms, err2 := redis.Int64(redis.ReceiveContext(conn, ctx))
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
			if at, err := strconv.ParseInt(text, 10, 64); err == nil {
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

// cause is an error's text, short and in visible characters: a part of it is the server's.
func cause(err error) string {
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, err.Error())
	return text[:min(len(text), 200)]
}
