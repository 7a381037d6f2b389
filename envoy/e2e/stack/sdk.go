package stack

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// SDK is LangGraph's official JavaScript client, in a Node process of its own. Calls may run beside each other.
type SDK struct {
	part *Part

	mu    sync.Mutex
	in    io.WriteCloser
	next  int
	calls map[int]chan sdkAnswer
	ended error // why there will be no more answers
}

// SDKError is a call's failure: the answer's status, 0 where there was none.
type SDKError struct {
	Status  int    `json:"status"`
	Message string `json:"message"`
}

func (e *SDKError) Error() string { return fmt.Sprintf("the SDK got %d: %s", e.Status, e.Message) }

type sdkAnswer struct {
	ID    int             `json:"id"`
	Value json.RawMessage `json:"value"`
	Event json.RawMessage `json:"event"`
	Done  bool            `json:"done"`
	Error *SDKError       `json:"error"`
}

// NewSDK starts the client's process.
func (s *Stack) NewSDK(ctx context.Context) (*SDK, error) {
	inRead, inWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c := &SDK{in: inWrite, calls: map[int]chan sdkAnswer{}}
	c.part = s.part(&Part{
		Name:    "sdk",
		command: []string{s.tools.node, "client.mjs"},
		dir:     filepath.Join(s.Dir, "client"),
		stdin:   inRead,
		stdout:  outWrite,
	})
	if err := c.part.Start(ctx); err != nil {
		return nil, err
	}
	// The process has its own copies.
	_ = inRead.Close()
	_ = outWrite.Close()
	go c.read(outRead)
	return c, nil
}

func (c *SDK) read(out io.ReadCloser) {
	defer out.Close()
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			c.end(fmt.Errorf("the SDK's process ended: %w", err))
			return
		}
		var answer sdkAnswer
		if err := json.Unmarshal(line, &answer); err != nil {
			c.end(fmt.Errorf("read an answer of the SDK's process: %w", err))
			return
		}
		c.mu.Lock()
		call := c.calls[answer.ID]
		c.mu.Unlock()
		if call != nil {
			call <- answer
		}
	}
}

func (c *SDK) end(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = why
	for id, call := range c.calls {
		close(call)
		delete(c.calls, id)
	}
}

func (c *SDK) send(url, token, call string, args []any) (int, chan sdkAnswer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != nil {
		return 0, nil, c.ended
	}
	if args == nil {
		args = []any{}
	}
	c.next++
	answers := make(chan sdkAnswer, 1024)
	c.calls[c.next] = answers
	b, err := json.Marshal(map[string]any{"id": c.next, "url": url, "token": token, "call": call, "args": args})
	if err != nil {
		return 0, nil, err
	}
	_, err = c.in.Write(append(b, '\n'))
	return c.next, answers, err
}

func (c *SDK) forget(id int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, id)
}

// Call runs a method of the SDK's Client, such as "threads.create", and decodes its result into result unless that is
// nil. A refusal is an *SDKError.
func (c *SDK) Call(ctx context.Context, url, token string, result any, call string, args ...any) error {
	id, answers, err := c.send(url, token, call, args)
	if err != nil {
		return err
	}
	defer c.forget(id)
	select {
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", call, context.Cause(ctx))
	case answer, ok := <-answers:
		switch {
		case !ok:
			return fmt.Errorf("%s: %w\n%s", call, c.ended, c.part.Tail())
		case answer.Error != nil:
			return fmt.Errorf("%s: %w", call, answer.Error)
		case answer.Done || answer.Event != nil:
			return fmt.Errorf("%s: it is a stream", call)
		case result == nil:
			return nil
		}
		return json.Unmarshal(answer.Value, result)
	}
}

// StreamEvent is what the SDK hands over for each server-sent event.
type StreamEvent struct {
	ID    string          `json:"id"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

// Stream is a running call whose result is a stream.
type Stream struct {
	call    string
	id      int
	sdk     *SDK
	answers chan sdkAnswer
}

// Stream starts a method whose result is a stream, such as "runs.stream". Close must be called.
func (c *SDK) Stream(url, token, call string, args ...any) (*Stream, error) {
	id, answers, err := c.send(url, token, call, args)
	if err != nil {
		return nil, err
	}
	return &Stream{call: call, id: id, sdk: c, answers: answers}, nil
}

// Next returns the next event as soon as the SDK has handed it over, io.EOF at the stream's end, and an *SDKError where
// the server refused.
func (s *Stream) Next(ctx context.Context) (*StreamEvent, error) {
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: the next event: %w", s.call, context.Cause(ctx))
	case answer, ok := <-s.answers:
		switch {
		case !ok:
			return nil, fmt.Errorf("%s: %w", s.call, s.sdk.ended)
		case answer.Error != nil:
			return nil, fmt.Errorf("%s: %w", s.call, answer.Error)
		case answer.Done:
			return nil, io.EOF
		case answer.Event == nil:
			return nil, fmt.Errorf("%s: %w", s.call, errors.New("it is no stream"))
		}
		var event StreamEvent
		err := json.Unmarshal(answer.Event, &event)
		return &event, err
	}
}

// Close ends the stream from the client's side.
func (s *Stream) Close() {
	s.sdk.forget(s.id)
	b, _ := json.Marshal(map[string]any{"id": s.id, "abort": true})
	s.sdk.mu.Lock()
	defer s.sdk.mu.Unlock()
	_, _ = s.sdk.in.Write(append(b, '\n'))
}
