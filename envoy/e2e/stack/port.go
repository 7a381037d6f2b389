package stack

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// The ports to choose from lie below those that Linux gives to outgoing connections (32768 and up), so that nobody's
// connection takes one between its choice and its use.
const (
	firstPort = 20000
	lastPort  = 31999
)

// ports hands out each port once in the life of a process.
var ports struct {
	sync.Mutex
	given map[int]bool
}

// freePort returns a loopback port that nobody listens on.
func freePort() (int, error) {
	ports.Lock()
	defer ports.Unlock()
	if ports.given == nil {
		ports.given = map[int]bool{}
	}
	for range 200 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if ports.given[port] {
			continue
		}
		l, err := net.Listen("tcp", loopback(port))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			return 0, fmt.Errorf("give back port %d: %w", port, err)
		}
		ports.given[port] = true
		return port, nil
	}
	return 0, errors.New("find a free loopback port: 200 were taken")
}

// freeAddresses returns n of them as 127.0.0.1:PORT.
func freeAddresses(n int) ([]string, error) {
	list := make([]string, n)
	for i := range list {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		list[i] = loopback(port)
	}
	return list, nil
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
