package main

import (
	"context"
	"os"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"
)

const (
	// memoryGoal is what Usher's memory is held to, without the pages of the program itself, as long as what is in use leaves
	// the garbage collector room.
	memoryGoal = 60 << 20
	// memoryPace lets memory grow to five times of what is in use between two runs of the collector, as long as the goal is
	// kept: with Go's own 100, that is twice, a fifth of the CPU time of a check goes into collecting.
	memoryPace = 400
	// memoryEvery is how often that is looked at: for so long the collector may work too hard.
	memoryEvery = 5 * time.Second
)

// holdMemory has the garbage collector run as seldom as memoryPace says, and often enough that memory stays within memoryGoal,
// until ctx ends. Go's own way, twice of what is in use, takes 112 MiB with 100,000 tokens. Where more than three quarters of the goal are in use, as with
// large bodies or manifests, the limit follows at 4/3 of it: a limit below would be a collector that never rests. It does
// nothing where GOMEMLIMIT or GOGC say how memory is to be used.
func holdMemory(ctx context.Context) {
	if os.Getenv("GOMEMLIMIT") != "" || os.Getenv("GOGC") != "" {
		return
	}
	limit, pace := debug.SetMemoryLimit(memoryGoal), debug.SetGCPercent(memoryPace)
	defer func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(pace)
	}()
	tick := time.NewTicker(memoryEvery)
	defer tick.Stop()
	sample := []runtimemetrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			runtimemetrics.Read(sample)
			if sample[0].Value.Kind() == runtimemetrics.KindUint64 {
				debug.SetMemoryLimit(memoryLimit(int64(min(sample[0].Value.Uint64(), 1<<50))))
			}
		}
	}
}

// memoryLimit is the limit for so many bytes in use.
func memoryLimit(live int64) int64 { return max(memoryGoal, live/3*4) }
