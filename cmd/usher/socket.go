package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"syscall"
)

// defaultSocketMode lets Usher's user and group connect. A container's Envoy shares the group.
const defaultSocketMode = "0660"

// socketMode reads the mode of a socket. To connect is to write, so that these are all that make sense.
func socketMode(text string) (fs.FileMode, error) {
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil || n != 0o600 && n != 0o660 && n != 0o666 {
		return 0, errors.New("expected 0600, 0660 or 0666")
	}
	return fs.FileMode(n), nil
}

// listenForChecks opens the address of checks. A Unix socket never has, for a moment, a mode that lets in more.
func listenForChecks(ctx context.Context, o serveOptions) (net.Listener, error) {
	kind, path, err := network(o.grpcAddress)
	if err != nil || kind != "unix" {
		return listen(ctx, o.grpcAddress)
	}
	mode, err := socketMode(o.socketMode)
	if err != nil {
		return nil, err
	}
	before := syscall.Umask(0o177) // of the whole process, which is only starting
	l, err := listen(ctx, o.grpcAddress)
	syscall.Umask(before)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil {
		_ = l.Close()
		return nil, failed(fmt.Errorf("listen on %q: %w", o.grpcAddress, err))
	}
	return l, nil
}
