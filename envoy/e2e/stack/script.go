package stack

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Script is a Node part that is spoken with: one JSON object per line in, one out.
type Script struct {
	part *Part
	in   io.WriteCloser
	out  chan []byte
}

// NewScript starts a file of the parts, such as mcp/client.mjs.
func (s *Stack) NewScript(ctx context.Context, name, file string, args ...string) (*Script, error) {
	inRead, inWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c := &Script{in: inWrite, out: make(chan []byte, 100)}
	c.part = s.part(&Part{
		Name:    name,
		command: append([]string{s.tools.node, filepath.Base(file)}, args...),
		dir:     filepath.Join(s.Dir, filepath.Dir(file)),
		stdin:   inRead,
		stdout:  outWrite,
	})
	if err := c.part.Start(ctx); err != nil {
		return nil, err
	}
	// The process has its own copies.
	_ = inRead.Close()
	_ = outWrite.Close()
	go func() {
		defer close(c.out)
		defer outRead.Close()
		lines := bufio.NewReader(outRead)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				return
			}
			c.out <- line
		}
	}()
	return c, nil
}

// Send writes one object.
func (c *Script) Send(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = c.in.Write(append(b, '\n'))
	return err
}

// Next reads the next object into v.
func (c *Script) Next(ctx context.Context, v any) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", c.part.Name, context.Cause(ctx))
	case line, ok := <-c.out:
		if !ok {
			return fmt.Errorf("%s ended\n%s", c.part.Name, c.part.Tail())
		}
		return json.Unmarshal(line, v)
	}
}

// Stop ends it.
func (c *Script) Stop() {
	_ = c.in.Close()
	c.part.Stop()
}
